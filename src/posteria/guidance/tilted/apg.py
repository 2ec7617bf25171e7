"""Adaptive projected guidance."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from typing_extensions import override

from ...target import Tilted
from ..base import Estimate, Memory, StepInfo, TiltedRule


@dataclass(frozen=True)
class APG(TiltedRule):
    """Adaptive projected guidance (Sadat et al., 2025, arXiv:2410.02416), algorithm 1.

    Of the push `D_c - D_u`, in order: a running sum with a negative coefficient is taken (of the push
    before the cut, advancing with every evaluation: with Heun twice a step), its norm is cut to a
    radius, and the part along D_c, which makes saturated pictures, is scaled by `eta`; `weight - 1`
    times the rest is added to D_c. With `eta=1`, no radius and `beta=0` it is CFG. Two evaluations,
    one where the weight is 1. Norms and angles are of estimates of the clean signal, for data around
    0; diffusers takes them on the network's raw output.

    Args:
        weight: The power of the condition, at least 1; by default the target's.
        eta: Share that is kept of the part along D_c, from 0 (the paper's) to 1.
        radius: Largest norm of the push over all entries, in data units; None for no limit.
        beta: Coefficient of the running sum, above -1 and below 1; the paper's are negative.
    """

    eta: float = 0.0
    radius: float | None = None
    beta: float = 0.0
    least: ClassVar[float] = 1.0
    limits: ClassVar = {"eta": "[0, 1]", "radius": "(0, inf]", "beta": "(-1, 1)"}

    @classmethod
    def presets(cls) -> dict[str, Self]:
        """Settings of the paper, as others quote them, for the latents of SDXL and EDM2."""
        return {
            "sdxl": cls(eta=0.0, radius=15.0, beta=-0.5),
            "edm2": cls(eta=0.0, radius=2.5, beta=-0.75),
        }

    @override
    def init(self, target: Tilted, x: Tensor) -> Memory:
        return {"push": torch.zeros_like(x)} if self.beta else {}

    @override
    def __call__(self, target: Tilted, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        weight, space = self.strength(target), target.space
        given = target.conditional(x, info.sigma)
        if weight == 1:
            return Estimate(given, memory)
        push = given - target.unconditional(x, info.sigma)
        if self.beta:
            push = push + self.beta * memory["push"]
            memory = {**memory, "push": push}
        if self.radius is not None:
            push = space.within(push, self.radius)
        along = space.share(push, given) * given
        return Estimate(given + (weight - 1) * (push - (1 - self.eta) * along), memory)
