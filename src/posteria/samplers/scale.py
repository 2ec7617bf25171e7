"""The scale of a prior, measured: what methods that assume one need to know."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from ..core.errors import require
from ..core.rng import Rng
from ..diffusion.denoiser import Denoiser
from ..diffusion.schedule import Karras
from ..diffusion.solver import State
from .unconditional import Unconditional

# The stream of seeds 0, 1, ... that draws them; those of samples and of simulated noise are 0 and
# 1.
STREAM = 2
# The least standard deviation, since it is divided by.
LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class Scale:
    """Location and spread of a prior.

    Args:
        mean: `[*event]`.
        std: Root of the variance of an entry, in the mean over entries; above 0.
    """

    mean: Tensor
    std: float


def prior_draws(prior: Denoiser, draws: int = 32, steps: int = 12) -> Tensor:
    """The same few draws of a prior whoever asks, `[draws, *event]`; `2 steps - 1` evaluations each."""
    sampler = Unconditional(schedule=Karras(steps=steps))
    rng = Rng(range(draws), prior.space.device, stream=STREAM)
    state = sampler.init(prior, rng)
    levels = sampler.schedule.levels()
    for sigma, sigma_next in pairwise(levels):
        state = sampler.step(prior, state, sigma, sigma_next, rng)
    return state.x


def prior_scale(prior: Denoiser, draws: int = 32) -> Scale:
    """Mean and standard deviation of a prior, from a few draws of it.

    Two calls give the same numbers, so that a sampler that asks stays a function of its seed. The
    evaluations are shared by all samples of a run.
    """
    x = prior_draws(prior, draws)
    return Scale(x.mean(0), max(float(x.var(0).mean().sqrt()), LEAST))


@dataclass(frozen=True, kw_only=True)
class ScaledState(State):
    """The state of a sampler that knows the scale of its prior.

    Args:
        prior_std: Standard deviation of an entry of the signal.
    """

    prior_std: float


def check_prior_std(given: float | None) -> None:
    """Raise `InputError` unless it is None or above 0."""
    require(
        given is None or 0 < given < math.inf,
        f"prior_std is None or a standard deviation above 0; {given} is not.",
    )


def measured_std(prior: Denoiser, given: float | None) -> float:
    """The standard deviation of an entry of the signal: the one given, or a measured one."""
    return prior_scale(prior).std if given is None else given


def spread_given(sigma: float, prior_std: float) -> float:
    """Standard deviation of an entry of x_0 given x, for a white Gaussian prior."""
    return sigma * prior_std / math.hypot(sigma, prior_std)
