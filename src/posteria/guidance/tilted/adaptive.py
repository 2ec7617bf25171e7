"""Adaptive guidance: classifier-free guidance until it no longer matters."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.space import Space
from ...target import Tilted
from ..base import Estimate, Memory, StepInfo, TiltedRule


@dataclass(frozen=True)
class AdaptiveGuidance(TiltedRule):
    """AG (Castillo et al., 2025, arXiv:2312.12487): CFG until the two members agree, then the conditional one alone.

    They agree where the cosine between their predictions of the noise, `(x - D) / sigma`, reaches
    `threshold` in a sample. At the highest levels either prediction is the noise itself and the cosine
    near 1; an armed rule ends only after it has been below the threshold, and keeps CFG where it never
    is. Two evaluations before the end of a sample, the last one included, and one after it.

    Args:
        weight: The power of the condition, at least 1; by default the target's.
        threshold: Cosine from which the members agree, in (0, 1]. The paper studies .991 to .996.
        armed: Whether the end waits until the members have disagreed.
    """

    threshold: float = 0.991
    armed: bool = True
    needs: ClassVar[str] = "an unconditional member and a weight of at least 1"
    least: ClassVar[float] = 1.0
    limits: ClassVar = {"threshold": "(0, 1]"}

    def init(self, target: Tilted, x: Tensor) -> Memory:
        """The flags `armed` and `ended`, each `[*batch]`."""
        off = torch.zeros(target.space.batch(x), dtype=torch.bool, device=x.device)
        armed = off if self.armed else ~off
        return {"armed": armed, "ended": off}

    @override
    def __call__(self, target: Tilted, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        space, weight, sigma = target.space, self.strength(target), info.sigma
        given = target.conditional(x, sigma)
        armed, ended = memory["armed"], memory["ended"]
        rows = (~ended).flatten().nonzero()[:, 0]
        if weight == 1 or len(rows) == 0:
            return Estimate(given, {"armed": armed, "ended": ended})
        flat = given.reshape(-1, *space.shape)
        x_here = x.reshape(-1, *space.shape).index_select(0, rows)
        given_here = flat.index_select(0, rows)
        free_here = target.unconditional(x_here, sigma)
        agree = _cosine(space, x_here - given_here, x_here - free_here) >= self.threshold
        armed_here = armed.flatten().index_select(0, rows)
        memory = {
            "armed": _put(armed, rows, armed_here | ~agree),
            "ended": _put(ended, rows, armed_here & agree),
        }
        x0 = flat.index_copy(0, rows, free_here.lerp(given_here, weight))
        return Estimate(x0.reshape(x.shape), memory)


def _cosine(space: Space, x: Tensor, y: Tensor) -> Tensor:
    """Cosine of two tensors `[n, *event]`, `[n]`; 0 where one of them is 0."""
    norms = (space.norm(x) * space.norm(y)).clamp(min=torch.finfo(x.dtype).tiny)
    return (space.dot(x, y) / norms).reshape(-1)


def _put(flags: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """Flags of any shape with new values at some places of the flattened ones."""
    return flags.flatten().index_copy(0, rows, values).reshape(flags.shape)
