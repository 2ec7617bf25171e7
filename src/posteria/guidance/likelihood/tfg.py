"""TFG: guidance by the gradient of a function of the estimate, of which several methods are special cases."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from ...core.space import Space
from ...diffusion.kernel import bridge
from ...target import Posterior
from ..base import Estimate, LikelihoodRule, Memory, StepInfo
from .smoothed import smoothed_score
from .strength import Bayes, Even, Move, Strength


@dataclass(frozen=True, kw_only=True)
class TFG(LikelihoodRule):
    """Training-free guidance (Ye et al., 2024, arXiv:2409.15761), algorithm 1 without its recurrence.

    With log f(x_0) = log p(y | x_0), smoothed by noise on x_0, it (1) moves the iterate by the gradient
    of log f(D(x)) in x and (2) climbs log f from D(x) by gradients in x_0; both push the iterate after
    the solver's step and leave the estimate. One evaluation, one vjp if `rho` is above 0, and the
    gradient of log f `points` times for `rho` and `points` times `iterations` for `mu`. Strengths of 0
    leave the prior, to the bit. The official code's clipping of the estimate to [-1, 1] and its
    division of the LGD gradient by the number of points once too often are left out.

    Args:
        rho: Strength of the gradient in x, through the denoiser.
        mu: Strength of the gradient in x_0, not through it.
        iterations: Gradients in x_0 a step.
        spread: Standard deviation of the noise on x_0 by which f is smoothed, times
            `sigma / sqrt(1 + sigma^2)`; 0 does not smooth.
        even: Whether the spread is the same at all levels, not times that.
        points: Draws of that noise, made once a step.
        reach: Farthest that either gradient moves the estimate, in the root mean square of its entries
            over `sigma / sqrt(1 + sigma^2)`; None for any distance (the papers).
        renoise: Whether the noise of the next iterate is that of the estimate after (2), as in universal
            guidance, and not that of the denoiser, as in MPGD and TFG.
        eta: That of the `DDIM` solver it runs with, 1 for `DDPM`.
    """

    rho: Strength = field(default_factory=lambda: Bayes(1.0))
    mu: Strength = field(default_factory=lambda: Even(0.0))
    iterations: int = 1
    spread: float = 1.0
    even: bool = False
    points: int = 16
    reach: float | None = 4.0
    renoise: bool = False
    eta: float = 1.0
    limits: ClassVar = {
        "iterations": "[1, inf)",
        "points": "[1, inf)",
        "spread": "[0, inf)",
        "reach": "(0, inf)",
        "eta": "[0, 1]",
    }

    @override
    def evaluations(self, target: Posterior) -> int:
        return 2 if self.rho.size else 1

    @override
    def __call__(self, target: Posterior, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        sigma = info.sigma
        if self.rho.size == self.mu.size == 0:
            return Estimate(target.prior(x, sigma), memory)
        kept, _ = bridge(0.0, info.sigma_next, sigma, self.eta)
        move = Move(info.levels, sigma, info.sigma_next, 1 - kept)
        cloud = self.cloud(target, info)
        pushed: Tensor | float = 0.0
        if self.rho.size:
            x0, pullback = target.prior.vjp_once(x, sigma)
            gradient = pullback(smoothed_score(target, x0, cloud))
            # What moves the next iterate by this is a move of the estimate by so much over its share.
            pushed = self.rho.of_iterate(move) / move.share * gradient
            pushed = move.share * self._within(target.space, pushed, sigma)
        else:
            x0 = target.prior(x, sigma)
        moved = x0
        for _ in range(self.iterations if self.mu.size else 0):
            moved = moved + self.mu.of_estimate(move) * smoothed_score(target, moved, cloud)
        climbed = self._within(target.space, moved - x0, sigma)
        return Estimate(x0, memory, pushed + (move.share if self.renoise else 1.0) * climbed)

    def _within(self, space: Space, move: Tensor, sigma: float) -> Tensor:
        """A move of the estimate, shortened if it goes beyond the reach."""
        if self.reach is None:
            return move
        return space.within(
            move, self.reach * sigma / math.hypot(1, sigma) * math.sqrt(space.size)
        )

    def cloud(self, target: Posterior, info: StepInfo) -> Tensor | None:
        """The noise on x_0, `[n, points, *event]`; None for none."""
        if self.spread == 0:
            return None
        scale = self.spread * (1.0 if self.even else info.sigma / math.hypot(1, info.sigma))
        return scale * info.streams(self).normal(target.space, self.points)
