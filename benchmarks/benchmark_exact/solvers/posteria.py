"""Every registered sampler of the package, at budgets of evaluations and vjps."""

from collections.abc import Sequence
from typing import Any

from benchopt import BaseSolver

from lib import Draws, budgeted, measure, next_budget, refusal, sampler_named
from posteria.problems.toy import Problem
from posteria.samplers import SAMPLERS


class Solver(BaseSolver):
    """A sampler by its name, or by its `repr`: `MGDM(gibbs=4)`."""

    name = "posteria"
    requirements = ["pip::posteria"]
    sampling_strategy = "iteration"
    parameters = {"sampler": list(SAMPLERS)}
    parameter_template = "{sampler}"

    def skip(self, problem: Problem, seeds: Sequence[int]) -> tuple[bool, str | None]:
        """See benchopt: what the sampler needs and the problem has not."""
        reason = refusal(sampler_named(self.sampler), problem.target, seeds)
        return reason is not None, reason

    def set_objective(self, problem: Problem, seeds: Sequence[int]) -> None:
        """See benchopt."""
        self.problem, self.seeds = problem, seeds
        self.draws: Draws | None = None

    def get_next(self, stop_val: int) -> int:
        """See benchopt: the next budget."""
        return next_budget(stop_val)

    def pre_run_hook(self, stop_val: int) -> None:
        """See benchopt: count how many steps the budget buys."""
        self.chosen = budgeted(self.sampler, self.problem.target, stop_val)

    def run(self, stop_val: int) -> None:
        """See benchopt; nothing is drawn at budget 0, where curves begin."""
        chosen = self.chosen
        self.draws = (
            None if isinstance(chosen, str) else measure(chosen, self.problem.target, self.seeds)
        )

    def get_result(self) -> dict[str, Any]:
        """See benchopt."""
        if self.draws is None:
            return {"samples": None, "note": str(self.chosen)}
        return {
            "samples": self.draws.samples.numpy(),
            "evaluations": self.draws.evaluations,
            "vjps": self.draws.vjps,
            "seconds": self.draws.seconds,
            "memory": self.draws.memory,
            "log_evidence": self.draws.log_evidence,
            "note": repr(self.chosen),
        }
