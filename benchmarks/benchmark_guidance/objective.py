"""Samples of tilted laws: how far from the exact law, or how good and how varied where it is not known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_utils.tilts import Tilt, distance, floor, mass, shares
from torch import Tensor
from typing_extensions import override

import posteria as po
from lib.code import code_hash
from lib.digits import scores
from lib.solver import Measured, spent
from posteria.core.errors import expect

EXACT = ("distance", "ratio", "mass_error", "spread")
DIGITS = ("agreement", "precision", "recall", "density", "coverage", "frechet")


class Objective(Measured):
    """Distance to the law, or precision and recall (of k neighbours) and the like of features."""

    name = "tilted"
    url = "https://github.com/posteria/benchmark_guidance"
    # The hash makes results out of date when the package changes; benchopt does not see that.
    parameters = {"k": [3], "code": [code_hash(Path(__file__).parent)]}
    parameter_template = "k={k}"
    test_dataset_name = "exact"

    @override
    def set_data(self, tilt: Tilt, reason: str = "") -> None:
        self.tilt = tilt
        self._known: dict[str, Any] = {}

    def get_objective(self) -> dict[str, Any]:
        """The laws, how many samples of each are wanted, and the seed that all samplers have in common."""
        return {"tilt": self.tilt}

    def get_one_result(self) -> dict[str, Any]:
        """Exact draws."""
        exact, generator = self.tilt.exact, torch.Generator().manual_seed(self.tilt.seed)
        if exact is None:
            return {"samples": None}
        return {"samples": exact.exact.sample(self.tilt.each, generator).numpy()}

    @override
    def evaluate_result(
        self, samples: np.ndarray[Any, Any] | None, note: str = "", **cost: float
    ) -> dict[str, Any]:
        """The metrics of the samples of each law in turn, `[laws * each, *event]`; NaN for None.

        `note` is anything to keep, and `cost` what `spent` takes: evaluations of all models but classifiers, of
        a population for each particle.
        """
        x = None if samples is None else torch.from_numpy(samples)
        numbers = self._of_exact(x) if self.tilt.exact else self._of_digits(x)
        return {
            **dict.fromkeys((*EXACT, "moved", "floor", *DIGITS), math.nan),
            **numbers,
            # What benchopt shows first; the less, the better.
            "value": numbers.get("distance", numbers.get("frechet", math.nan)),
            **spent(self.tilt.each * len(self.tilt.targets), **cost),
            "note": note,
        }

    def _of_exact(self, x: Tensor | None) -> dict[str, float]:
        problem = self.tilt.exact
        if problem is None:
            return {}
        if not self._known:
            self._known = {"floor": floor(problem, self.tilt.each), "mass": mass(problem)}
        least, tilted = self._known["floor"], self._known["mass"]
        numbers = {"floor": least, "moved": math.nan if tilted is None else tilted.moved}
        if x is None or not x.isfinite().all():
            return numbers
        numbers["distance"] = distance(problem, x, self.tilt.seed)
        numbers["ratio"] = numbers["distance"] / least
        numbers["spread"] = float(x.std(0).mean())
        found = shares(problem, x)
        if tilted is not None and found is not None:
            numbers["mass_error"] = float((found - tilted.of_modes).abs().sum() / 2)
        return numbers

    def _of_digits(self, x: Tensor | None) -> dict[str, float]:
        if x is None or self.tilt.reference is None:
            return {}
        labels = [
            expect(target.condition, po.Label, by="agreement").label
            for target in self.tilt.targets
        ]
        return scores(x.float(), self.tilt.reference(), labels, self.k)
