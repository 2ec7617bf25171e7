"""Every guidance rule and every sampler of tilted laws, at budgets of evaluations and vjps per sample."""

from typing import Any

from benchmark_utils.methods import BUDGETS, METHODS, at_budget, draw, method, refused
from benchmark_utils.tilts import Tilt
from typing_extensions import override

from lib.budget import next_budget
from lib.solver import BudgetCriterion, Budgeted, nothing
from posteria.core.errors import PosteriaError


class Solver(Budgeted):
    """A rule with Heun's method (or DDIM, where it is made for that), or a sampler of its own."""

    name = "posteria"
    parameters = {"method": METHODS}
    parameter_template = "{method}"
    stopping_criterion = BudgetCriterion(budget=1024)
    test_config = {"method": "cfg"}

    @override
    def get_next(self, stop_val: int) -> int:
        return next_budget(stop_val, BUDGETS)

    @override
    def refused(self, tilt: Tilt) -> str | None:
        return refused(self.method, tilt)

    @override
    def draw(self, budget: int, tilt: Tilt) -> dict[str, Any]:
        try:
            chosen = at_budget(method(self.method, tilt), tilt, budget)
        except PosteriaError as error:
            return nothing(str(error))
        return draw(chosen, tilt)
