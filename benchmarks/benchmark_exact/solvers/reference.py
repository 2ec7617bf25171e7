"""What cannot be done better, and what no sampler should do worse than."""

from lib.solver import Reference


class Solver(Reference):
    """Of problems whose law is known."""
