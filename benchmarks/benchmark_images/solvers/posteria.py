"""Every sampler of the registry, at budgets of evaluations and vjps per sample."""

from typing import Any

from benchmark_utils.sampling import OfPictures, alone, nothing, of_pictures
from benchopt import BaseSolver

from lib import budgeted, next_budget, refusal
from lib.criterion import BudgetCriterion
from posteria.samplers import POSTERIOR_SAMPLERS

FIRST = 200


class Solver(BaseSolver):
    """A sampler's defaults, with the steps that a budget buys."""

    name = "posteria"
    requirements = ["pip::posteria"]
    parameters = {"sampler": list(POSTERIOR_SAMPLERS)}
    parameter_template = "{sampler}"
    sampling_strategy = "iteration"
    stopping_criterion = BudgetCriterion()

    def get_next(self, stop_val: int) -> int:
        """See benchopt: the next budget; few samplers make a picture in less than the first."""
        return max(FIRST, next_budget(stop_val))

    def skip(self, work: OfPictures) -> tuple[bool, str | None]:
        """See benchopt: why the sampler cannot draw from these posteriors."""
        reason = refusal(of_pictures(self.sampler), alone(work.target))
        return reason is not None, reason

    def set_objective(self, work: OfPictures) -> None:
        """See benchopt."""
        self.work = work

    def run(self, budget: int) -> None:
        """See benchopt. No samples come of a budget that does not buy five steps."""
        chosen = budgeted(repr(of_pictures(self.sampler)), alone(self.work.target), budget)
        self.result: dict[str, Any] = (
            nothing(chosen) if isinstance(chosen, str) else self.work.draw(chosen)
        )

    def get_result(self) -> dict[str, Any]:
        """See benchopt."""
        return self.result
