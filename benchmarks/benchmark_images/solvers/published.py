"""Every published setting of the registry's samplers, at the cost that it has."""

from typing import Any

from benchmark_utils.sampling import OfPictures, alone
from typing_extensions import override

from lib.budget import refusal
from lib.solver import Answering
from posteria.samplers import POSTERIOR_SAMPLERS


class Solver(Answering):
    """The setting of a paper's experiment; for the tasks and the pictures that it was made for."""

    name = "published"
    parameters = {
        "sampler, setting": [
            (name, setting)
            for name, kind in POSTERIOR_SAMPLERS.items()
            for setting in kind.presets()
        ]
    }
    parameter_template = "{sampler},{setting}"
    test_config = {"sampler": "ddrm", "setting": "images"}

    @override
    def refused(self, work: OfPictures) -> str | None:
        chosen = POSTERIOR_SAMPLERS[self.sampler].published(self.setting)
        return refusal(chosen, alone(work.target))

    @override
    def draw(self, stop_val: float, work: OfPictures) -> dict[str, Any]:
        return work.draw(POSTERIOR_SAMPLERS[self.sampler].published(self.setting))
