"""The held-out pictures that ship with each prior."""

from typing import Any

import torch
from benchmark_utils.problem import NOISE, TASKS, given
from benchopt import BaseDataset
from typing_extensions import override

from posteria.modalities import MODALITIES
from posteria.priors import SHIPPED


class Dataset(BaseDataset):
    """Six pictures of each shipped network; nothing is fetched."""

    name = "shipped"
    parameters = {
        "prior": [name for name, card in SHIPPED.items() if card.reader == "pixel"],
        "task": list(TASKS),
        "std": list(NOISE),
        "count": [6],
        "few": [2],
        "device": ["cpu"],
    }
    parameter_template = "{prior},{task},std={std}"
    test_parameters = {"prior": ["digits"], "task": ["box"], "std": [0.05], "count": [2]}

    @override
    def get_data(self) -> dict[str, Any]:
        shipped = SHIPPED[self.prior]
        paths = shipped.examples[: self.count]
        truths = [
            MODALITIES["image"].read(path, shipped.shape, taker=self.prior, fit=False).x
            for path in paths
        ]
        return given(self, self.prior, torch.stack(truths))
