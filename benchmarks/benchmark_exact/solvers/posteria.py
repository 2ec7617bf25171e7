"""Every registered sampler of the package, at budgets of evaluations and vjps."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from lib import budgeted, measure, refusal, sampler_named
from lib.solver import Budgeted, nothing
from posteria.problems.toy import Problem
from posteria.samplers import SAMPLERS


class Solver(Budgeted):
    """A sampler by its name, or by its `repr`: `MGDM(gibbs=4)`."""

    name = "posteria"
    parameters = {"sampler": list(SAMPLERS)}
    parameter_template = "{sampler}"

    @override
    def refused(self, problem: Problem, seeds: Sequence[int]) -> str | None:
        return refusal(sampler_named(self.sampler), problem.target, seeds)

    @override
    def draw(self, budget: int, problem: Problem, seeds: Sequence[int]) -> dict[str, Any]:
        chosen = budgeted(self.sampler, problem.target, budget)
        if isinstance(chosen, str):
            return nothing(chosen)
        return measure(chosen, problem.target, seeds).result(chosen)
