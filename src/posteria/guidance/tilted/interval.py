"""Classifier-free guidance within an interval of noise levels."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import require
from ...target import Tilted
from ..base import Pointwise
from .cfg import cfg


@dataclass(frozen=True)
class Interval(Pointwise):
    """Guidance in a limited interval (Kynkaanniemi et al., 2024, arXiv:2404.07724): CFG for `low < sigma <= high`.

    Elsewhere it is the conditional model alone: 2 evaluations inside, 1 outside. The estimate jumps at
    both ends, where a solver of second order loses its order for a step. Every evaluation is judged by
    its own level; the official code chooses whole steps.

    Args:
        weight: The power of the condition inside; by default the target's.
        low: Levels up to this one are not guided, in data units. The defaults are EDM2's, whose
            latents have a standard deviation of 0.5.
        high: Levels above this one are not guided.
    """

    low: float = 0.19
    high: float = 1.61
    limits: ClassVar = {"low": "[0, inf)", "high": "(0, inf)"}

    def __post_init__(self) -> None:
        require(
            self.low < self.high,
            f"An interval needs low < high; low={self.low} and high={self.high}.",
        )

    @classmethod
    def presets(cls) -> dict[str, Self]:
        """EDM2 on ImageNet 512, XXL guided by XS, Heun with `Karras(steps=32)`: FID 1.40 in 75 evaluations."""
        return {"edm2-xxl": cls(weight=2.0, low=0.19, high=1.61)}

    @override
    def at(self, target: Tilted, x: Tensor, sigma: float | Tensor) -> Tensor:
        weight = self.strength(target)
        if not isinstance(sigma, Tensor):
            return cfg(target, x, sigma, weight if self.low < sigma <= self.high else 1.0)
        given = target.conditional(x, sigma)
        levels = sigma.expand(target.space.batch(x))
        inside = (self.low < levels) & (levels <= self.high)
        if weight == 1 or not inside.any():
            return given
        # The unconditional model is evaluated on the rows inside only.
        free = target.unconditional(x[inside], levels[inside])
        return torch.index_put(given, (inside,), free.lerp(given[inside], weight))
