"""Moves between noise levels: the bridge of the forward process, and the reverse step made of it."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, overload

import torch
from torch import Tensor

from ..core.level import Level, at_least, root, spreads
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

    Levels are floats or float64 `[*batch]`. `eta` is 1 for the exact bridge of the forward process and 0 for
    its deterministic counterpart (DDIM); whatever it is, x_t has the law of the forward process if x_s and
    x_l have. Returns `weight` and `std`.
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
    weight, std = spreads(bridge(*sigmas, eta), space, x_l)
    return _drawn(x_s, x_l, weight, std, rng)


def run_to_clean(
    denoise: Callable[[Tensor, Level], Tensor],
    space: Space,
    x: Tensor,
    sigmas: Sequence[Level],
    rng: Rng,
    eta: float = 1.0,
) -> Tensor:
    """The last estimate of x_0 of a run over decreasing levels, of floats or of tensors `[*batch]`, and on to 0.

    It is that of `bridge_step`, with the coefficients of all levels made at once.
    """
    if isinstance(sigmas[0], Tensor):
        levels = torch.stack([torch.as_tensor(sigma) for sigma in sigmas])
        below = torch.cat([levels[1:], torch.zeros_like(levels[:1])])
        law: Iterable[Any] = spreads(bridge(0.0, below, levels, eta), space, x)
        given: Iterable[Level] = levels.to(x)
    else:
        pairs = pairwise([*sigmas, 0.0])
        law = zip(*(bridge(0.0, low, high, eta) for high, low in pairs), strict=True)
        given = sigmas
    x0 = x
    for sigma, weight, std in zip(given, *law, strict=True):
        x0 = denoise(x, sigma)
        x = _drawn(x0, x, weight, std, rng)
    return x0


def reverse_step(
    x: Tensor, x0: Tensor, sigma: float, sigma_next: float, eta: float, rng: Rng
) -> Tensor:
    """Draw from the DDIM kernel: `eta=0` is deterministic and `eta=1` is ancestral (DDPM)."""
    return _drawn(x0, x, *bridge(0.0, sigma_next, sigma, eta), rng)


def _drawn(x_s: Tensor, x_l: Tensor, weight: Level, std: Level, rng: Rng) -> Tensor:
    """`x_s + weight (x_l - x_s) + std * noise`, in place where tensors are new; a `std` of 0 draws no noise."""
    x = (x_l - x_s).mul_(weight).add_(x_s)
    if isinstance(std, float) and std == 0:
        return x
    return rng.normal_like(x).mul_(std).add_(x)
