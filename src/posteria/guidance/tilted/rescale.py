"""Classifier-free guidance with its spread brought back to that of the conditional model."""

from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor
from typing_extensions import override

from ...core.space import Space
from ...diffusion.parametrisation import Parametrisation, Velocity
from ...target import Tilted
from ..base import Pointwise


@dataclass(frozen=True)
class Rescale(Pointwise):
    """CFG rescale (Lin et al., 2024, arXiv:2305.08891), section 3.4.

    The guided output F_w of the network is multiplied by `std(F_c) / std(F_w)`, each taken over the
    entries of one sample, and mixed with F_w. The paper's networks predict the velocity, which is the
    default here and changes next to nothing at low noise; diffusers rescales whatever the network
    predicts. Two evaluations, one where the weight is 1.

    Args:
        weight: The power of the condition, at least 1; by default the target's.
        phi: Share of the rescaled output, 0 (plain CFG) to 1.
        output: What is rescaled: `Velocity()`, `Epsilon()`, `X0()` or `FlowMatching()`; of its
            fields only the kind matters.
    """

    phi: float = 0.7
    output: Parametrisation = field(default_factory=Velocity)
    least: ClassVar[float] = 1.0
    limits: ClassVar = {"phi": "[0, 1]"}

    @classmethod
    def presets(cls) -> dict[str, Self]:
        """The paper's operating point, for Stable Diffusion tuned to v-prediction."""
        return {"sd-v": cls(weight=7.5, phi=0.7)}

    @override
    def at(self, target: Tilted, x: Tensor, sigma: float | Tensor) -> Tensor:
        weight = self.strength(target)
        given = target.conditional(x, sigma)
        if weight == 1:
            return given
        guided = target.unconditional(x, sigma).lerp(given, weight)
        # The output is F = (D - skip x) / out; `out` cancels in the ratio of spreads.
        _, skip, _ = self.output.coefficients(sigma)
        if isinstance(skip, Tensor):
            skip = target.space.per_sample(skip.to(x.dtype))
        kept = skip * x
        ratio = _spread_ratio(target.space, given - kept, guided - kept)
        return kept + (self.phi * ratio + 1 - self.phi) * (guided - kept)


def _spread_ratio(space: Space, a: Tensor, b: Tensor) -> Tensor:
    """`std(a) / std(b)` over the entries of each sample; 1 where b has no spread."""
    above, below = _squares(space, a), _squares(space, b)
    spread = below > 0
    # One root of the quotient, whose derivative is finite where both spreads are 0.
    return torch.where(spread, above / torch.where(spread, below, 1), 1).sqrt()


def _squares(space: Space, x: Tensor) -> Tensor:
    centered = x - space.sum(x) / space.size
    return space.dot(centered, centered)
