"""MGDM with more and more Gibbs sweeps at as many levels."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from lib.budget import refusal
from lib.measure import measure
from lib.solver import Answering
from posteria import MGDM
from posteria.problems.toy import Problem
from posteria.schedules import Table


class Solver(Answering):
    """The axis is the number of sweeps; each costs as much as the first."""

    name = "mgdm-sweeps"
    parameters = {"gibbs": [1, 2, 4, 8], "levels": [24, 49]}
    parameter_template = "gibbs={gibbs},levels={levels}"

    @override
    def refused(self, problem: Problem, seeds: Sequence[int]) -> str | None:
        return refusal(MGDM(), problem.target, seeds)

    @override
    def draw(self, stop_val: int, problem: Problem, seeds: Sequence[int]) -> dict[str, Any]:
        chosen = MGDM(schedule=Table(steps=self.levels), gibbs=self.gibbs)
        return measure(chosen, problem.target, seeds).result(chosen, sweeps=self.gibbs)
