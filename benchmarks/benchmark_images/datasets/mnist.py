"""Test pictures of MNIST, from a file on this machine."""

from typing import Any

from benchmark_utils.problem import NOISE, TASKS, given, missing
from benchopt import BaseDataset
from benchopt.config import get_data_path
from typing_extensions import override

from lib.digits import absent, mnist


class Dataset(BaseDataset):
    """Pictures of all digits from `mnist_28x28.npz` (data path `mnist`), whose array `x_test` is sorted by label."""

    name = "mnist"
    parameters = {
        "task": list(TASKS),
        "std": list(NOISE),
        "count": [64],
        "few": [4],
        "device": ["cpu"],
    }
    parameter_template = "{task},std={std}"
    test_parameters = {"task": ["box"], "std": [0.05], "count": [2]}

    @override
    def get_data(self) -> dict[str, Any]:
        path = get_data_path("mnist")
        if reason := absent(path):
            return missing(reason)
        # Every other one is a truth, and those between are what truths are compared with.
        every = mnist(path, 2 * self.count)
        return given(self, "digits", every[::2], every[1::2])
