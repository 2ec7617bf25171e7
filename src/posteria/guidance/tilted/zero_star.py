"""CFG-Zero*: guidance with a fitted unconditional velocity and first steps that do not move."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from ...core.errors import require
from ...target import Tilted
from ..base import Estimate, Memory, StepInfo, TiltedRule


@dataclass(frozen=True)
class ZeroStar(TiltedRule):
    """CFG-Zero* (Fan et al., 2025, arXiv:2503.18886), for flow matching.

    The unconditional velocity u_u is scaled to fit the conditional one in the least squares, by
    `s = <u_c, u_u> / |u_u|^2` over the entries of each sample, and the guided velocity is
    `s u_u + weight (u_c - s u_u)`; it is zero for the first levels ("zero-init"). The velocity is
    proportional to `D - z` with `z = x / (1 + sigma)`, on which the rule works, for any prior. Two
    evaluations, none at the first levels. In one dimension there is no guidance at all.

    Args:
        weight: The power of the condition, at least 1; by default the target's.
        zero_init_steps: Levels of the schedule at which the velocity is zero. The authors advise 4 % of
            the steps of a `Flow` schedule, for poor networks.
    """

    zero_init_steps: int = 1
    least: ClassVar[float] = 1.0
    limits: ClassVar = {"zero_init_steps": "[0, inf)"}

    @override
    def __call__(self, target: Tilted, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        require(
            self.zero_init_steps < info.steps,
            f"zero_init_steps={self.zero_init_steps} leaves no step of {info.steps} to be made.",
        )
        z = x / (1 + info.sigma)
        if info.index < self.zero_init_steps:
            return Estimate(z, memory)
        weight, space = self.strength(target), target.space
        x0 = target.conditional(x, info.sigma)
        if weight == 1:
            return Estimate(x0, memory)
        given, free = x0 - z, target.unconditional(x, info.sigma) - z
        fitted = space.share(given, free) * free
        return Estimate(z + fitted.lerp(given, weight), memory)
