"""The ECGs and songs that ship with the priors `ecg` and `stems`, which these never saw."""

from typing import Any

from benchmark_utils.signals import TASKS, shipped
from benchopt import BaseDataset
from typing_extensions import override


class Dataset(BaseDataset):
    """A part of such a signal, another one for each repetition."""

    name = "shipped"
    requirements = ["pip::posteria[audio]"]
    parameters = {"task": list(TASKS), "length": [512]}
    parameter_template = "{task}"
    test_parameters = {"task": ["ecg-I"], "length": [64]}

    @override
    def get_data(self) -> dict[str, Any]:
        seed = self.get_seed(use_dataset=True, use_repetition=True)
        return {"problem": shipped(self.task, self.length, seed)}
