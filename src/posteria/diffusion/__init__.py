"""Priors as denoisers, noise schedules, and the moves between noise levels."""
