"""What methods need to know of a prior, such as its scale, measured once a prior."""

import math
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..core.linalg import outside_inference
from ..core.rng import Rng
from ..core.state import State
from .denoiser import Denoiser, Scale
from .schedule import Karras
from .solver import Heun

# The stream of seeds 0, 1, ... that draws them; those of samples and of simulated noise are 0 and
# 1.
STREAM = 2
STEPS = 12
DRAWS = 32
# The least standard deviation, since it is divided by.
LEAST = 1e-12


class _Measured(NamedTuple):
    """What is known of a prior, by name."""

    prior: weakref.ref[Denoiser]
    known: dict[Hashable, Any]


# By the identity of a prior, which need not be hashable and is not changed by being measured.
_measured: dict[int, _Measured] = {}

T = TypeVar("T")


@torch.no_grad()
def once(prior: Denoiser, name: Hashable, measure: Callable[[], T]) -> T:
    """What `measure` returns, called once for each prior object and name, whatever wraps the prior.

    It is kept as long as the prior lives: who changes the weights of a network makes a new prior of it. What wraps
    the prior counts its evaluations where they are made.

    Args:
        prior: The prior.
        name: What is measured, with all that it depends on.
        measure: Evaluates the prior.
    """
    there = known_of(prior)
    if name not in there:
        # Kept for later, and so not made of the caller's inference mode.
        with outside_inference():
            there[name] = measure()
    found: T = there[name]
    return found


def known_of(prior: Denoiser) -> dict[Hashable, Any]:
    """What is known of a prior by now, by name."""
    base, key = prior.base, id(prior.base)
    entry = _measured.get(key)
    if entry is None or entry.prior() is not base:
        forget = weakref.ref(base, lambda _: _measured.pop(key, None))
        entry = _measured[key] = _Measured(forget, {})
    return entry.known


def prior_draws(prior: Denoiser, draws: int = DRAWS) -> Tensor:
    """A few draws of a prior, the same for every caller, `[draws, *event]`, by 23 evaluations each.

    Drawn once for each prior object, whatever wraps it (and counts them then), and kept as long as it
    lives: who changes the weights of a network makes a new prior of it.
    """
    return once(prior, draws, lambda: _draw(prior, draws))


def _draw(prior: Denoiser, draws: int) -> Tensor:
    levels = Karras(steps=STEPS).levels()
    rng = Rng(range(draws), prior.space.device, stream=STREAM)
    x = levels[0] * rng.normal(prior.space)
    state = State(x=x, x0=x)
    for sigma, sigma_next in pairwise(levels):
        state = Heun()(prior, state, sigma, sigma_next, rng)
    return state.x


def prior_scale(prior: Denoiser) -> Scale:
    """Mean and standard deviation of a prior: what its card says, or else by a few draws of it.

    Two calls give the same numbers, so that a sampler that uses them stays a function of its seed.
    """
    if prior.base.scale is not None:
        return prior.base.scale
    return once(prior, "scale", lambda: _scale(prior_draws(prior)))


def _scale(x: Tensor) -> Scale:
    return Scale(x.mean(0), max(float(x.var(0).mean().sqrt()), LEAST))


@dataclass(frozen=True, kw_only=True)
class ScaledState(State):
    """The state of a sampler that knows the scale of its prior.

    Args:
        prior_std: Standard deviation of an entry of the signal.
    """

    prior_std: float


def measured_std(prior: Denoiser, given: float | None) -> float:
    """The standard deviation of an entry of the signal: the one given, or a measured one."""
    return prior_scale(prior).std if given is None else given


def spread_given(sigma: float, prior_std: float) -> float:
    """Standard deviation of an entry of x_0 given x, for a white Gaussian prior."""
    return sigma * prior_std / math.hypot(sigma, prior_std)
