"""Samplers of a condition raised to a power."""
