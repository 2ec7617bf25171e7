"""Every sampler of single samples in the registry, at budgets of evaluations and vjps per sample; others by name."""

from typing import Any

from benchmark_utils.sampling import OfPictures, alone, of_pictures
from typing_extensions import override

from lib.budget import budgeted, next_budget, refusal
from lib.solver import Budgeted, nothing
from posteria.samplers import POSTERIOR_SAMPLERS

FIRST = 200


class Solver(Budgeted):
    """A sampler's defaults, with the steps that a budget buys; the least is five."""

    name = "posteria"
    # One with a population is named in the configurations whose pictures are few enough for it.
    parameters = {"sampler": [n for n, kind in POSTERIOR_SAMPLERS.items() if kind().shared == 1]}
    parameter_template = "{sampler}"

    @override
    def get_next(self, stop_val: int) -> int:
        # Few samplers make a picture in less.
        return max(FIRST, next_budget(stop_val))

    @override
    def refused(self, work: OfPictures) -> str | None:
        return refusal(of_pictures(self.sampler), alone(work.target))

    @override
    def draw(self, budget: int, work: OfPictures) -> dict[str, Any]:
        chosen = budgeted(repr(of_pictures(self.sampler)), alone(work.target), budget)
        return nothing(chosen) if isinstance(chosen, str) else work.draw(chosen)
