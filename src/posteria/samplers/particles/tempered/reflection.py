"""Draws of x_0 given x_0 + sigma * noise for the price of few evaluations: reverse runs and reflections.

A reflection takes x_0 to `2 D(x) - x_0`. Given x it keeps the mean and the covariance of x_0 whatever its law, and
the law itself where that is symmetric about its mean, as every Gaussian is.
"""

import math

import torch
from torch import Tensor

from ....core.rng import Rng
from ....diffusion.denoiser import Denoiser
from ....diffusion.kernel import bridge
from ....diffusion.scale import LEAST, STREAM, once, prior_draws

# Levels at which reflections are tried, the ratio of two of them, and how often each of the prior's few draws is.
PLACES, RATIO, REPEATS = 10, 2.0, 4
# A draw whose error of denoising grows by more than this share has left the prior.
SLACK = 0.03
# Their level over the one that is tried, and what is kept of the highest one that passes.
NEAR, KEPT = 0.125, 0.5


def ladder(high: Tensor, low: Tensor, points: int) -> Tensor:
    """Levels between two that are spaced as those of Karras et al. (2022), `[points, *batch]`."""
    share = torch.linspace(0, 1, points, dtype=high.dtype, device=high.device)
    share = share.reshape(-1, *(1,) * high.ndim)
    return (high ** (1 / 7)).lerp(low ** (1 / 7), share) ** 7


def descend(
    x: Tensor, x0: Tensor, before: Tensor, levels: Tensor, j: int, noise: Tensor
) -> Tensor:
    """Where a reverse run is at level j + 1, from x at level j with its estimate of x_0 and the one before it.

    The estimate is extrapolated to the middle of the step (Lu et al., 2022, arXiv:2211.01095, in its SDE form):
    of the variance of x_0 along its leading axes, plain ancestral steps lose a third in eight evaluations.

    Args:
        x: `[*batch, *event]`.
        x0: Estimate at level j.
        before: That at level j - 1; not looked at if j is 0.
        levels: `[points, *batch]`, with an axis of length one for each that the batch has more.
        j: Index of the level.
        noise: Standard normal, like `x`.
    """
    here, there = levels[j], levels[j + 1]
    if j:
        reach = (here / there).log() / (levels[j - 1] / here).log() / 2
        x0 = before.lerp(x0, 1 + over(reach, x))
    weight, std = bridge(0.0, there, here)
    return x0.lerp(x, over(weight, x)).addcmul_(over(std, x), noise)


def over(level: float | Tensor, x: Tensor) -> Tensor:
    """A number, or one for each of the first axes of `x`, as a factor of `x`."""
    value = torch.as_tensor(level, device=x.device).to(x)
    return value.reshape(value.shape + (1,) * (x.ndim - value.ndim))


@torch.no_grad()
def reach(prior: Denoiser) -> float:
    """The highest level up to which reflections are taken to keep the law of a prior; infinite if there is none.

    Draws of the prior are reflected at levels a factor of 2 apart, upwards, by 3 evaluations each. A draw that has
    left the law is denoised worse than one of it. Half of the last level at which that is not seen is returned.
    That is measured `once`, by 3840 evaluations.
    """
    return once(prior, "reach", lambda: _reach(prior))


def _reach(prior: Denoiser) -> float:
    draws = prior_draws(prior)
    x = draws.repeat(REPEATS, *(1,) * len(prior.space.shape))
    rng = Rng(range(len(x)), x.device, stream=STREAM)
    level = max(float(draws.var(0).mean().sqrt()), LEAST) / RATIO ** (PLACES - 3)
    best, left = level / RATIO, False
    for _ in range(PLACES):
        noise, probe = rng.normal_like(x), NEAR * level * rng.normal_like(x)
        mirrored = 2 * prior(x + level * noise, level) - x
        worse, error = (_error(prior, z, probe, NEAR * level) for z in (mirrored, x))
        worse = worse - error
        slack = SLACK * error.mean() + 2 * worse.std() / len(x) ** 0.5
        left = left or bool(worse.mean() > slack)
        best = best if left else level
        level *= RATIO
    return KEPT * best if left else math.inf


def _error(prior: Denoiser, x: Tensor, noise: Tensor, level: float) -> Tensor:
    """Squared error of denoising each signal, `[n]`."""
    return prior.space.flatten(prior(x + noise, level) - x).double().square().sum(-1)
