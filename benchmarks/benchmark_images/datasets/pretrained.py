"""Larger priors by name, on pictures from a folder."""

from itertools import islice
from typing import Any

import torch
from benchmark_utils.problem import NOISE, TASKS, given, load, missing
from benchopt import BaseDataset
from benchopt.config import get_data_path
from typing_extensions import override

from posteria.core.errors import PosteriaError
from posteria.modalities import MODALITIES


class Dataset(BaseDataset):
    """Pictures of the data path `pictures`, cropped and resized to what the prior draws; made for a GPU.

    The prior is a folder in diffusers' format, or a name on the Hugging Face hub after `diffusers:`, which is
    fetched if this machine may.
    """

    name = "pretrained"
    parameters = {
        "short, prior": [("celebahq-256", "diffusers:google/ddpm-celebahq-256")],
        "task": list(TASKS),
        "std": list(NOISE),
        "count": [16],
        "few": [2],
        "batch": [4],
        "device": ["cuda"],
    }
    parameter_template = "{short},{task},std={std}"
    test_parameters = {"task": ["box"], "std": [0.05], "count": [1]}

    @override
    def get_data(self) -> dict[str, Any]:
        folder = get_data_path("pictures")
        found = sorted(
            path for kind in ("png", "jpg", "jpeg") for path in folder.glob(f"*.{kind}")
        )
        if not found:
            return missing(f"There are no pictures in {folder}: set the data path 'pictures'.")
        if self.device == "cuda" and not torch.cuda.is_available():
            return missing("There is no GPU; choose device=cpu for weeks of work.")
        try:
            shape = load(self.prior, device=self.device).space.shape
        except PosteriaError as error:
            return missing(str(error))
        truths = [
            MODALITIES["image"].read(path, shape, taker=self.prior, fit=True).x
            for path in islice(found, self.count)
        ]
        return given(self, self.prior, torch.stack(truths), batch=self.batch)
