"""Every published setting of the registry's samplers, at the cost that it has."""

from typing import Any

from benchmark_utils.sampling import OfPictures, alone
from benchopt import BaseSolver

from lib import refusal
from posteria.samplers import POSTERIOR_SAMPLERS


class Solver(BaseSolver):
    """The setting of a paper's experiment; for the tasks and the pictures that it was made for."""

    name = "published"
    requirements = ["pip::posteria"]
    parameters = {
        "sampler, setting": [
            (name, setting)
            for name, kind in POSTERIOR_SAMPLERS.items()
            for setting in kind.presets()
        ]
    }
    parameter_template = "{sampler},{setting}"
    sampling_strategy = "run_once"
    test_config = {"sampler": "ddrm", "setting": "images"}

    def skip(self, work: OfPictures) -> tuple[bool, str | None]:
        """See benchopt."""
        chosen = POSTERIOR_SAMPLERS[self.sampler].published(self.setting)
        reason = refusal(chosen, alone(work.target))
        return reason is not None, reason

    def set_objective(self, work: OfPictures) -> None:
        """See benchopt."""
        self.work = work

    def run(self, stop_val: float) -> None:
        """See benchopt."""
        self.result: dict[str, Any] = self.work.draw(
            POSTERIOR_SAMPLERS[self.sampler].published(self.setting)
        )

    def get_result(self) -> dict[str, Any]:
        """See benchopt."""
        return self.result
