"""LGD: loss-guided diffusion by Monte Carlo."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from ...diffusion.scale import measured_std, spread_given
from ...target import Posterior
from ..base import Estimate, LikelihoodRule, Memory, StepInfo
from .smoothed import smoothed_score


@dataclass(frozen=True, kw_only=True)
class LGD(LikelihoodRule):
    """Loss guidance by Monte Carlo, LGD-MC (Song et al., 2023, PMLR song23k).

    Given x, the signal is taken for a Gaussian around `D(x)` with the variance `r^2` of a white
    Gaussian prior. The likelihood of x is the mean likelihood of a few draws of it; the exact gradient
    of its log guides the estimate, too much so with few draws. One evaluation and one vjp, and
    `points` evaluations of the likelihood.

    Args:
        points: Draws of the signal. The paper has 10 to 100.
        prior_std: Standard deviation of an entry of the signal; None measures it. The paper has 1.
        reach: Farthest that the estimate is moved, in the root mean square of its entries over
            `r`; None for any distance (the paper), which diverges where `std` is far below `r`.
    """

    points: int = 32
    prior_std: float | None = None
    reach: float | None = 4.0
    limits: ClassVar = {"points": "[1, inf)", "prior_std": "(0, inf)", "reach": "(0, inf)"}

    @override
    def __call__(self, target: Posterior, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        sigma, rng = info.sigma, info.streams(self)
        r = spread_given(sigma, measured_std(target.prior, self.prior_std))
        x0, denoiser_vjp = target.prior.vjp_once(x, sigma)
        cloud = r * rng.normal(target.space, self.points)
        moved = sigma**2 * denoiser_vjp(smoothed_score(target, x0, cloud))
        if self.reach is not None:
            most = self.reach * r * math.sqrt(target.space.size)
            moved = target.space.within(moved, most)
        return Estimate(x0 + moved, memory)
