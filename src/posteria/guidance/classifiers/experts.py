"""Classifiers that take turns by noise level."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import ShapeError, require
from .classifier import Classifier


class Experts(Classifier):
    """A classifier of noisy signals made of several, one for each range of noise levels.

    The experts of PPAP (Go et al., 2023, arXiv:2212.05973): expert n serves the levels from
    `boundaries[n - 1]` up to below `boundaries[n]`, sample by sample. Each call costs one expert.

    Args:
        experts: The classifiers, that of the lowest levels first; PPAP's are functions of the signal
            alone (`CleanClassifier`).
        boundaries: Levels at which the next expert takes over, one fewer than experts, increasing.
        preserving: Whether the experts see `x / sqrt(1 + sigma^2)`, as PPAP trains them.

    Raises:
        InputError: If boundaries and experts do not fit.
        ShapeError: If the experts know other signals or classes than each other.
    """

    noisy = True

    def __init__(
        self,
        experts: Sequence[Classifier],
        boundaries: Sequence[float],
        *,
        preserving: bool = False,
    ) -> None:
        self.experts, self.boundaries = list(experts), list(boundaries)
        self.preserving = preserving
        require(
            len(self.experts) == len(self.boundaries) + 1,
            f"{len(self.experts)} experts have {max(len(self.experts) - 1, 0)} boundaries between "
            f"them; {len(self.boundaries)} were given.",
        )
        increasing = all(low < high for low, high in pairwise([0.0, *self.boundaries, math.inf]))
        require(
            increasing,
            f"The boundaries of experts are increasing noise levels; {self.boundaries} are not.",
        )
        first = self.experts[0]
        self.space, self.labels = first.space, first.labels
        for other in self.experts[1:]:
            if (other.space.shape, other.labels) != (self.space.shape, self.labels):
                raise ShapeError(
                    f"Experts know the same signals and classes; {other.labels} classes of signals of "
                    f"shape {other.space.shape} are not {self.labels} of shape {self.space.shape}."
                )

    def which(self, sigma: float | Tensor) -> Tensor:
        """The number of the expert for a level, or one each."""
        levels = torch.as_tensor(sigma, dtype=torch.float64)
        edges = torch.tensor(self.boundaries, dtype=torch.float64, device=levels.device)
        return torch.bucketize(levels, edges, right=True)

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        if self.preserving:
            level = self.space.per_sample(sigma)
            root = (1 + level**2).sqrt() if isinstance(level, Tensor) else math.hypot(1, level)
            x = x / (root.to(x.dtype) if isinstance(root, Tensor) else root)
        if not isinstance(sigma, Tensor) or sigma.ndim == 0:
            return self.experts[int(self.which(sigma))](x, sigma)
        batch = self.space.batch(x)
        rows, levels = x.reshape(-1, *self.space.shape), sigma.expand(batch).flatten()
        number = self.which(levels)
        order, parts = [], []
        for n in sorted(set(number.tolist())):
            mine = (number == n).nonzero()[:, 0]
            order.append(mine)
            parts.append(self.experts[n](rows[mine], levels[mine]))
        return torch.cat(parts)[torch.cat(order).argsort()].reshape(*batch, self.labels)
