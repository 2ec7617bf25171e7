"""Classifiers, and the rules that use one."""
