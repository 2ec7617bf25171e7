"""What cannot be done better, where the posterior is known."""

from lib.solver import Reference


class Solver(Reference):
    """Exact draws."""

    parameters = {"law": ["exact draws"]}
    sets = 1
