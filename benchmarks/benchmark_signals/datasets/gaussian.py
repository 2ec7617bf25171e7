"""Gaussian laws of stems and of ECGs, whose posteriors are known."""

from typing import Any

from benchmark_utils.signals import TASKS, known
from benchopt import BaseDataset
from typing_extensions import override


class Dataset(BaseDataset):
    """A signal of a Gaussian law, drawn anew for each repetition; what is clipped has no known posterior."""

    name = "gaussian"
    requirements = ["pip::posteria"]
    parameters = {"task": [task for task in TASKS if task != "stems-declip"]}
    parameter_template = "{task}"
    test_parameters = {"task": ["stems-separate", "ecg-I"]}

    @override
    def get_data(self) -> dict[str, Any]:
        return {"problem": known(self.task, self.get_seed(use_dataset=True, use_repetition=True))}
