"""Moves between noise levels: the bridge of the forward process, and the reverse step made of it."""

from typing import overload

import torch
from torch import Tensor

from ..core.level import Level, at_least, root, spread
from ..core.rng import Rng
from ..core.space import Space

# The least span of a bridge, since it is divided by.
TINY = torch.finfo(torch.float64).tiny


@overload
def bridge(
    sigma_s: float, sigma_t: float, sigma_l: float, eta: float = 1.0
) -> tuple[float, float]: ...
@overload
def bridge(
    sigma_s: Level, sigma_t: Level, sigma_l: Level, eta: float = 1.0
) -> tuple[Level, Level]: ...
def bridge(
    sigma_s: Level, sigma_t: Level, sigma_l: Level, eta: float = 1.0
) -> tuple[Level, Level]:
    """The law of x_t given x_s and x_l, for `sigma_s <= sigma_t <= sigma_l`: `N(x_s + weight (x_l - x_s), std^2 I)`.

    Args:
        sigma_s: Level of the cleaner end, a float or float64 `[*batch]`.
        sigma_t: Level in between.
        sigma_l: Level of the noisier end.
        eta: 1 is the exact bridge of the forward process and 0 its deterministic counterpart
            (DDIM); whatever it is, x_t has the law of the forward process if x_s and x_l have.

    Returns:
        `weight` and `std`.
    """
    s, t, l = sigma_s**2, sigma_t**2, sigma_l**2  # ruff: ignore[ambiguous-variable-name]
    span = at_least(l - s, TINY)
    variance = eta**2 * (t - s) * (l - t) / span
    return root((t - s - variance) / span), root(variance)


def bridge_step(
    space: Space,
    x_s: Tensor,
    x_l: Tensor,
    sigmas: tuple[Level, Level, Level],
    rng: Rng,
    eta: float = 1.0,
) -> Tensor:
    """Draw x_t from the bridge between `x_s` and `x_l`; `sigmas` are those of s, t and l."""
    weight, std = (spread(value, space, x_l) for value in bridge(*sigmas, eta))
    x = x_s + weight * (x_l - x_s)
    if isinstance(std, float) and std == 0:
        return x
    return x + std * rng.normal_like(x)


def reverse_step(
    x: Tensor, x0: Tensor, sigma: float, sigma_next: float, eta: float, rng: Rng
) -> Tensor:
    """Draw from the DDIM kernel: `eta=0` is deterministic and `eta=1` is ancestral (DDPM)."""
    weight, std = bridge(0.0, sigma_next, sigma, eta)
    x_next = x0 + weight * (x - x0)
    return x_next + std * rng.normal_like(x) if std else x_next
