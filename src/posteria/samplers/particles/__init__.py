"""Samplers of populations of weighted particles."""
