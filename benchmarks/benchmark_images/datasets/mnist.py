"""Test pictures of MNIST, from a file on this machine."""

from typing import Any

import numpy as np
import torch
from benchmark_utils.problem import NOISE, TASKS, given, missing
from benchopt import BaseDataset
from benchopt.config import get_data_path
from typing_extensions import override


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
        if not path.is_file():
            return missing(
                f"There is no {path}: set the data path 'mnist', or BENCHOPT_DATA_HOME."
            )
        bytes_ = np.load(path)["x_test"]
        # Every other one is a truth, and those between are what truths are compared with.
        bytes_ = bytes_[:: len(bytes_) // (2 * self.count)][: 2 * self.count]
        every = torch.from_numpy(bytes_).float()[:, None] / 127.5 - 1
        return given(self, "digits", every[::2], every[1::2])
