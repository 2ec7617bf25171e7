"""Tilted laws that are known exactly."""

from typing import Any

from benchmark_utils.tilts import known
from benchopt import BaseDataset
from typing_extensions import override

from posteria.problems.tilted import TILTED_PROBLEMS


class Dataset(BaseDataset):
    """The problems of `posteria.problems.tilted`."""

    name = "exact"
    requirements = ["pip::posteria"]
    parameters = {"problem": list(TILTED_PROBLEMS), "weight": [None], "samples": [2048]}
    parameter_template = "{problem}"
    test_parameters = {"problem": ["cfgig-toy"], "samples": [512]}

    @override
    def get_data(self) -> dict[str, Any]:
        seed = self.get_seed(use_dataset=True, use_repetition=True)
        return {"tilt": known(self.problem, self.weight, self.samples, seed)}
