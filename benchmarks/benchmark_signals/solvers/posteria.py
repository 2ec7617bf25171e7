"""Every registered sampler of the package, at budgets of evaluations and vjps."""

from lib.solver import OfRegistry


class Solver(OfRegistry):
    """A sampler by its name, or by its `repr`: `MGDM(gibbs=4)`."""

    name = "posteria"
