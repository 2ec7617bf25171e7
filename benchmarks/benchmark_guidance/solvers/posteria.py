"""Every guidance rule and every sampler of tilted laws, at budgets of evaluations and vjps per sample."""

from typing import Any

from benchmark_utils.methods import METHODS, at_budget, draw, method, next_budget, refused
from benchmark_utils.tilts import Tilt
from benchopt import BaseSolver

from lib.criterion import BudgetCriterion
from posteria.core.errors import PosteriaError


class Solver(BaseSolver):
    """A rule with Heun's method (or DDIM, where it is made for that), or a sampler of its own."""

    name = "posteria"
    requirements = ["pip::posteria"]
    parameters = {"method": METHODS}
    parameter_template = "{method}"
    sampling_strategy = "iteration"
    stopping_criterion = BudgetCriterion(budget=1024)
    test_config = {"method": "cfg"}

    def get_next(self, stop_val: int) -> int:
        """See benchopt: the next budget."""
        later: int = next_budget(stop_val)
        return later

    def skip(self, tilt: Tilt) -> tuple[bool, str | None]:
        """See benchopt: why the method cannot draw, such as a model that it needs."""
        reason = refused(self.method, tilt)
        return reason is not None, reason

    def set_objective(self, tilt: Tilt) -> None:
        """See benchopt."""
        self.tilt = tilt

    def run(self, budget: int) -> None:
        """See benchopt. No samples come of a budget that is too small."""
        try:
            chosen = at_budget(method(self.method, self.tilt), self.tilt, budget)
        except PosteriaError as error:
            self.result: dict[str, Any] = {"samples": None, "note": str(error)}
            return
        self.result = draw(chosen, self.tilt)

    def get_result(self) -> dict[str, Any]:
        """See benchopt."""
        return self.result
