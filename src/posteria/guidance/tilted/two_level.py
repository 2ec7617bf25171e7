"""The two-noise-level denoiser of a tilted law."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from ...core.errors import require
from ...target import Tilted
from ..base import Pointwise


@dataclass(frozen=True)
class TwoLevel(Pointwise):
    """Two noise levels in one estimate (Moufad et al., 2025, arXiv:2505.21101): `(1 + delta) D_c - delta D_u`.

    Here D_c is evaluated at the level `sigma sqrt(weight / (1 + delta))` and D_u at
    `sigma sqrt((weight - 1) / delta)`. The score of the noised tilted law is that of this estimate and
    a Renyi term between the laws of x_0 at the two levels, which is left out. `delta = weight - 1` is
    classifier-free guidance; below that both levels are above `sigma`, and at the schedule's highest
    one a network may not know them. (The published code has `weight - 1` in place of `delta` in the
    estimate and not in the levels.) Two evaluations.

    Args:
        weight: The power of the condition, above 1; by default the target's.
        delta: Share of the unconditional estimate, above 0.
    """

    delta: float = 0.1
    limits: ClassVar = {"weight": "(1, inf)", "delta": "(0, inf)"}

    @override
    def check_tilted(self, target: Tilted) -> None:
        super().check_tilted(target)
        weight = self.strength(target)
        require(weight > 1, f"TwoLevel needs a weight above 1; weight={weight:g}. CFG takes any.")

    @override
    def at(self, target: Tilted, x: Tensor, sigma: float | Tensor) -> Tensor:
        weight = self.strength(target)
        given = target.conditional(x, sigma * math.sqrt(weight / (1 + self.delta)))
        free = target.unconditional(x, sigma * math.sqrt((weight - 1) / self.delta))
        return free.lerp(given, 1 + self.delta)
