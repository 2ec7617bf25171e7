"""How far samples are from a law of many dimensions that is known exactly, along its leading principal axes."""

import math

import torch
from torch import Tensor

from ..analytic.low_rank_posterior import PPCAPosterior
from ..core.errors import ShapeError, expect, whole
from ..core.space import real
from .calibration import interval_coverage
from .distribution import Floor, mean_error, variance_ratio, wasserstein_along

# Sets of exact draws that samples are compared with, and pairs of them for the floor.
REFERENCES, PAIRS = 5, 20


def coverage_of(x: Tensor, draws: Tensor, level: float = 0.9) -> float:
    """What the central intervals of samples `[n, *event]` hold of a law, in the mean over entries.

    The expectation of their `interval_coverage` of a truth, over draws `[m, *event]` of the law.

    Raises:
        ShapeError: If the two differ in the shape of their events.
    """
    x, draws = real(x, "A set of samples"), real(draws, "A set of draws")
    if x.shape[1:] != draws.shape[1:]:
        raise ShapeError(
            f"Samples and draws are of one law; got {tuple(x.shape)} and {tuple(draws.shape)}."
        )
    held = [
        interval_coverage(x[:, None].expand(-1, len(part), *part.shape[1:]), part, level)
        * len(part)
        for part in torch.split(draws, 32)
    ]
    return sum(held) / len(draws)


class AgainstExact:
    """Compares sets of `n` samples with a `PPCAPosterior`, along its leading axes, where posteriors differ.

    Args:
        exact: The law.
        n: Samples of a set, at least 2.
        axes: Number of principal axes, at most the size of the event.
        seed: Of the exact draws, which are one function of it.

    Attributes:
        floor: The distance to expect between two exact sets of `n`.
        weight_floor: The error of component weights to expect of an exact set of `n`.

    Raises:
        CapabilityError: If the law is another.
        InputError: If a number is out of range.
    """

    def __init__(self, exact: PPCAPosterior, n: int, *, axes: int = 20, seed: int = 0) -> None:
        expect(exact, PPCAPosterior, by=self)
        self.exact, self.n = exact, whole(n, "A number of samples", 2)
        self._axes = exact.axes(min(axes, exact.space.size))
        self._mean = self._project(exact.mean[None])[0]
        generator = torch.Generator(exact.space.device).manual_seed(seed)
        self._references = [exact.sample(n, generator) for _ in range(REFERENCES)]
        gaps = []
        for _ in range(PAIRS):
            pair = (self._project(exact.sample(n, generator)) for _ in range(2))
            gaps.append(_distance(*pair))
        values = torch.tensor(gaps, dtype=torch.float64)
        self.floor = Floor(float(values.mean()), float(values.std()) / math.sqrt(PAIRS))
        errors = [self.weight_error(x) for x in self._references]
        self.weight_floor = sum(errors) / REFERENCES

    def _project(self, x: Tensor) -> Tensor:
        return self.exact.space.flatten(x).double() @ self._axes.directions.mT

    def weights(self, x: Tensor) -> Tensor:
        """The share of samples `[n, *event]` in each component of the law, `[K]` in float64."""
        parts = [
            self.exact.prior.responsibilities(part)
            for part in torch.split(real(x, "A set of samples"), 256)
        ]
        return torch.cat(parts).double().mean(0)

    def weight_error(self, x: Tensor) -> float:
        """The total variation between the samples' weights of components and the law's, from 0 to 1."""
        return float((self.weights(x) - self.exact.weights).abs().sum() / 2)

    def evaluate(self, x: Tensor) -> dict[str, float]:
        """The metrics of a set of samples `[n, *event]`; NaN if they are not finite.

        `distance` is sliced Wasserstein-1 over the axes, in data units, and `ratio` that over the floor;
        `mean_error` (in standard deviations) and `variance_ratio` are along the axes; `mode_weight_error` is
        the total variation of the weights of components, `coverage_90` that of pixels by central intervals.

        Raises:
            ShapeError: If there are not `n` samples of the law's shape.
        """
        x = real(x, "A set of samples")
        if tuple(x.shape) != (self.n, *self.exact.space.shape):
            expected = (self.n, *self.exact.space.shape)
            raise ShapeError(f"Samples have the shape {expected}, not {tuple(x.shape)}.")
        x = x.to(self.exact.space.device, self.exact.space.dtype)
        z, std = self._project(x), self._axes.variances.sqrt()
        gaps = [_distance(z, self._project(y)) for y in self._references]
        distance = sum(gaps) / REFERENCES
        found = {
            "distance": distance,
            "ratio": distance / self.floor.mean,
            "mean_error": mean_error(z, self._mean, std),
            "variance_ratio": variance_ratio(z, std),
        }
        if not x.isfinite().all():
            return dict.fromkeys((*found, "mode_weight_error", "coverage_90"), math.nan)
        return found | {
            "mode_weight_error": self.weight_error(x),
            "coverage_90": coverage_of(x, torch.cat(self._references[:2])),
        }


def _distance(x: Tensor, y: Tensor) -> float:
    return wasserstein_along(x, y, torch.eye(x.shape[1], dtype=x.dtype, device=x.device))
