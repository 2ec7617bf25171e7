"""When a curve is done; the only file of the package that needs benchopt."""

from typing import Any

from benchopt.stopping_criterion import StoppingCriterion

from .budget import BUDGETS


class BudgetCriterion(StoppingCriterion):
    """A curve is done when its budget is spent, whatever its values are; `--max-runs` ends curves earlier.

    The criteria of benchopt stop when a metric no longer gets better, which that of a sampler need not do.
    """

    strategy: str | None

    def __init__(
        self,
        budget: int = BUDGETS[-1],
        strategy: str | None = None,
        key_to_monitor: str | None = None,
        minimize: bool = True,
    ) -> None:
        self.budget = budget
        super().__init__(
            budget=budget, strategy=strategy, key_to_monitor=key_to_monitor, minimize=minimize
        )

    def get_runner_instance(self, *args: Any, **kwargs: Any) -> StoppingCriterion:
        """The criterion of one solver; benchopt leaves the strategy of the first in one that several share."""
        given = self.strategy
        try:
            return super().get_runner_instance(*args, **kwargs)
        finally:
            self.strategy = given

    def check_convergence(self, objective_list: list[dict[str, Any]]) -> tuple[bool, float]:
        """Whether to stop, and how far the curve is."""
        if self.strategy == "run_once":
            return True, 1.0
        spent = objective_list[-1]["stop_val"]
        return spent >= self.budget, min(1.0, spent / self.budget)
