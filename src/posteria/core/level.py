"""A noise level, or a time: a float for all samples, or a tensor with one for each, `[*batch]`."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from .space import Space

Level = float | Tensor


def power(value: Level, exponent: float) -> Level:
    """`value ** exponent`."""
    return value**exponent if isinstance(value, Tensor) else math.pow(value, exponent)


def exp(value: Level) -> Level:
    """`e ** value`."""
    return value.exp() if isinstance(value, Tensor) else math.exp(value)


def expm1(value: Level) -> Level:
    """`e ** value - 1`, exact near 0."""
    return value.expm1() if isinstance(value, Tensor) else math.expm1(value)


def root(value: Level) -> Level:
    """The square root, of 0 where rounding has gone below it."""
    return value.clamp(min=0).sqrt() if isinstance(value, Tensor) else math.sqrt(max(value, 0.0))


def at_least(value: Level, floor: float) -> Level:
    """The larger of the two."""
    return value.clamp(min=floor) if isinstance(value, Tensor) else max(value, floor)


def like(value: Level, x: Tensor) -> Level:
    """The level in the dtype and on the device of `x`: what a denoiser of `x` is given."""
    return value.to(x) if isinstance(value, Tensor) else value


def spread(value: Level, space: Space, x: Tensor) -> Level:
    """The level in the dtype of `x`, with an axis of length one for each event axis."""
    if not isinstance(value, Tensor):
        return value
    return value.to(x).reshape(value.shape + (1,) * len(space.shape))


def spreads(values: Iterable[Level], space: Space, x: Tensor) -> tuple[Level, ...]:
    """Each of several levels, as `spread` makes it; those of one shape in one copy."""
    several = tuple(values)
    tensors = [value for value in several if isinstance(value, Tensor)]
    if not tensors:
        return several
    if len(tensors) < len(several) or len({value.shape for value in tensors}) > 1:
        return tuple(spread(value, space, x) for value in several)
    shape = tensors[0].shape + (1,) * len(space.shape)
    return torch.stack(tensors).to(x).reshape(-1, *shape).unbind()


def several(*levels: Level) -> bool:
    """Whether one of some noise levels or variances is a tensor of numbers, one for each entry."""
    return any(isinstance(level, Tensor) and level.ndim > 0 for level in levels)


def typical(noise: Level) -> Level:
    """One variance for all entries of a measurement."""
    return noise.mean() if isinstance(noise, Tensor) else noise


def tensor(value: Level, x: Tensor) -> Tensor:
    """The level as a tensor in the dtype and on the device of `x`."""
    if isinstance(value, Tensor):
        return value.to(x)
    # Filled there: a copy from the host would wait.
    return torch.full((), value, dtype=x.dtype, device=x.device)
