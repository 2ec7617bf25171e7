"""Denoisers of one's own and of other libraries as priors, without importing those."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import InputError
from ..core.space import Space
from ..diffusion.denoiser import Conditional
from ..diffusion.network import Network
from ..diffusion.parametrisation import Denoised
from ..diffusion.units import Units


def from_denoiser(
    denoiser: Callable[..., Any],
    space: Space | tuple[int, ...],
    *,
    data: tuple[float, float] | None = None,
) -> Conditional:
    """A denoiser as a prior: E[x_0 | x] of what it was trained on.

    Args:
        denoiser: A module or a function: `f(x, sigma)` of `x = x_0 + sigma * noise`, `[n, *event]`, and
            levels `[n]`, as deepinv's are; a blind one, `f(x)`, which guesses the level; or a denoiser of
            azula, whose time and coordinate are those of its `schedule`. It returns a tensor, or what
            `Network` finds one in. Nothing of it is changed.
        space: Of one signal, or its shape (then in float32 on the CPU).
        data: What -1 and 1 of the samples are to the denoiser; levels are taken along. By default (0, 1)
            for one of deepinv, and else (-1, 1), which changes nothing.

    Raises:
        InputError: If it is no function of one or two arguments. When it is evaluated, those of `Network`.
    """
    space = space if isinstance(space, Space) else Space(space)
    # The class that a compiler wraps around a module says nothing of the module.
    within = getattr(denoiser, "_orig_mod", denoiser)
    kinds = {part.__module__.partition(".")[0] for part in type(within).__mro__}
    if callable(getattr(denoiser, "schedule", None)):
        network = Network(_Timed(denoiser), space, Denoised())
    elif _arguments(within) == 1:
        network = Network(_Blind(denoiser), space, Denoised())
    else:
        network = Network(denoiser, space, Denoised())
    low, high = data or ((0.0, 1.0) if "deepinv" in kinds else (-1.0, 1.0))
    return network if (low, high) == (-1, 1) else Units(network, low, high)


def _arguments(denoiser: Callable[..., Any]) -> int:
    """How many arguments a denoiser is given: 1 or 2."""
    function = denoiser.forward if isinstance(denoiser, nn.Module) else denoiser
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise InputError(
            f"A denoiser is a function of a signal and its noise level; this is {denoiser!r}."
        ) from error
    kinds = [parameter.kind for parameter in parameters]
    places = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    # An option that is a truth value or a word is no level.
    given = sum(p.kind in places and not isinstance(p.default, bool | str) for p in parameters)
    if not given and inspect.Parameter.VAR_POSITIONAL not in kinds:
        raise InputError(
            "A denoiser is a function of a signal, or of a signal and its noise level; this one takes neither."
        )
    return 1 if given == 1 and inspect.Parameter.VAR_POSITIONAL not in kinds else 2


class _Blind(nn.Module):
    """A denoiser that is not conditioned on the level."""

    def __init__(self, denoiser: Callable[..., Any]) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, _: Tensor) -> Any:
        """The clean signal, `[n, *event]`."""
        return self.denoiser(x)


class _Timed(nn.Module):
    """A denoiser of azula: the mean of `denoiser(alpha x, t)`, where `alpha, alpha sigma = schedule(t)`."""

    def __init__(self, denoiser: Any) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, sigma: Tensor) -> Any:
        """The clean signal, `[n, *event]`."""
        time = self._time(sigma).to(x)
        alpha = self.denoiser.schedule(time)[0]
        scaled = alpha.reshape(-1, *(1,) * (x.ndim - 1)) * x
        return self.denoiser(scaled, time).mean

    @torch.no_grad()
    def _time(self, sigma: Tensor) -> Tensor:
        """The time in [0, 1] of each level, by halving: the noise over the signal grows with it."""
        goal = sigma.double().clamp(min=math.ulp(0.0))
        low, high = torch.zeros_like(goal), torch.ones_like(goal)
        for _ in range(52):
            middle = (low + high) / 2
            alpha, noise = self.denoiser.schedule(middle)
            above = noise > goal * alpha
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2
