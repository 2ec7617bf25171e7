"""MGDM with more and more Gibbs sweeps at as many levels."""

from collections.abc import Sequence
from typing import Any

from benchopt import BaseSolver

from lib import measure, refusal
from posteria import MGDM
from posteria.problems.toy import Problem
from posteria.schedules import Table


class Solver(BaseSolver):
    """The axis is the number of sweeps; each costs as much as the first."""

    name = "mgdm-sweeps"
    requirements = ["pip::posteria"]
    sampling_strategy = "run_once"
    parameters = {"gibbs": [1, 2, 4, 8], "levels": [24, 49]}
    parameter_template = "gibbs={gibbs},levels={levels}"

    def skip(self, problem: Problem, seeds: Sequence[int]) -> tuple[bool, str | None]:
        """See benchopt."""
        reason = refusal(MGDM(), problem.target, seeds)
        return reason is not None, reason

    def set_objective(self, problem: Problem, seeds: Sequence[int]) -> None:
        """See benchopt."""
        self.problem, self.seeds = problem, seeds
        self.chosen = MGDM(schedule=Table(steps=self.levels), gibbs=self.gibbs)

    def run(self, stop_val: float) -> None:
        """See benchopt."""
        self.draws = measure(self.chosen, self.problem.target, self.seeds)

    def get_result(self) -> dict[str, Any]:
        """See benchopt."""
        return {
            "samples": self.draws.samples.numpy(),
            "evaluations": self.draws.evaluations,
            "vjps": self.draws.vjps,
            "seconds": self.draws.seconds,
            "memory": self.draws.memory,
            "sweeps": self.gibbs,
            "note": repr(self.chosen),
        }
