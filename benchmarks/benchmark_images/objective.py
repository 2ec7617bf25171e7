"""Posterior samples of pictures: how near to the truth, how true to the measurement, and how sure of themselves."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_utils.problem import Pictures, few_of, restoration
from benchmark_utils.sampling import OfPictures
from benchmark_utils.sheets import covered, finite, show
from torch import Tensor
from typing_extensions import override

from lib.code import code_hash
from lib.solver import Measured, spent
from posteria.metrics.distribution import sliced_wasserstein
from posteria.metrics.image import psnr, ssim

NUMBERS = ("psnr", "psnr_se", "ssim", "ssim_se", "residual", "residual_se", "distance")


class Objective(Measured):
    """One sample of the posterior of each picture, and `draws` of a few."""

    name = "pictures"
    url = "https://github.com/posteria/benchmark_images"
    # The hash makes results out of date when the package changes; benchopt does not see that.
    parameters = {"draws": [19], "code": [code_hash(Path(__file__).parent)]}
    parameter_template = "draws={draws}"
    test_dataset_name = "shipped"
    test_config = {"draws": 3}

    @override
    def set_data(self, pictures: Pictures, reason: str = "") -> None:
        self.pictures = pictures
        self.target, self.rows = restoration(pictures, self.draws)
        self.few = few_of(pictures)

    def get_objective(self) -> dict[str, Any]:
        """The posteriors, one sample of each is wanted, and the seeds that all samplers have in common."""
        # Times the particles of a population these are still different.
        first = self.pictures.seed % 2**18 * 2**10
        seeds = range(first, first + len(self.rows))
        work = OfPictures(self.target, seeds, self.pictures.batch, len(self.few), self.draws)
        return {"work": work}

    def get_one_result(self) -> dict[str, Any]:
        """The truths themselves."""
        return {"samples": self.pictures.truths[torch.tensor(self.rows)].numpy()}

    @override
    def evaluate_result(
        self, samples: np.ndarray[Any, Any] | None, note: str = "", **cost: float
    ) -> dict[str, Any]:
        """The metrics of a sample of each posterior, `[n, channels, height, width]` in [-1, 1]; NaN for None.

        `note` is anything to keep, and `cost` what `spent` takes; that of a population is for each particle.
        """
        others, truths = self.pictures.others, self.pictures.truths
        floor = sliced_wasserstein(others, truths) if len(others) else math.nan
        numbers = dict.fromkeys((*NUMBERS, "coverage"), math.nan)
        if samples is not None:
            numbers = self._numbers(torch.from_numpy(samples))
        # The number that benchopt shows first; the less, the better.
        first = {"value": numbers["distance"], "floor": floor}
        return {**numbers, **first, **spent(len(self.rows), **cost), "note": note}

    def _numbers(self, samples: Tensor) -> dict[str, float]:
        truths = self.pictures.truths
        n = len(truths)
        x, several = samples[:n], samples[n:]
        operator = self.target.likelihood.operator
        z = (self.target.y[:n].cpu() - operator(x.to(self.target.y.device)).cpu()) / (
            self.pictures.std
        )
        rows = {
            "psnr": torch.cat([psnr(a[None], b) for a, b in zip(x, truths, strict=True)]),
            "ssim": torch.cat([ssim(a[None], b) for a, b in zip(x, truths, strict=True)]),
            "residual": operator.codomain.flatten(z).square().mean(-1).sqrt(),
        }
        numbers = {}
        for name, values in rows.items():
            numbers[name] = float(values.mean())
            numbers[f"{name}_se"] = float(values.std() / n**0.5) if n > 1 else math.nan
        numbers["distance"] = sliced_wasserstein(x, truths) if finite(x) else math.nan
        numbers["coverage"] = math.nan
        if self.draws and finite(several):
            numbers["coverage"] = covered(self._drawn(several), truths[self.few])
        return numbers

    def _drawn(self, several: Tensor) -> Tensor:
        """The draws of the few pictures, `[draws, few, channels, height, width]`."""
        return several.reshape(self.draws, len(self.few), *several.shape[1:])

    def save_final_results(
        self, samples: np.ndarray[Any, Any] | None, **cost: Any
    ) -> list[dict[str, Any]] | None:
        """The few pictures that were drawn several times, as bytes."""
        if samples is None or self.draws < 2:
            return None
        truths, x = self.pictures.truths, torch.from_numpy(samples)
        drawn = self._drawn(x[len(truths) :])
        operator, y = self.target.likelihood.operator, self.target.y
        return [
            show(operator.to(truths.dtype, "cpu"), y[i].cpu(), truths[i], drawn[:, place])
            for place, i in enumerate(self.few)
        ]
