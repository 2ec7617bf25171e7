"""The event space of a tensor `[*batch, *event]`, and reductions that never cross from one sample to another."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import InputError, ShapeError, require, whole

FLOATS = (torch.float32, torch.float64)


def shape_of(sides: Any) -> tuple[int, ...]:
    """The shape of a signal or a measurement.

    Raises:
        InputError: If it is no sequence of sides, or one of them is no number of entries.
    """
    require(
        isinstance(sides, Iterable),
        f"A shape is a tuple of sides, such as (3, 256, 256) or (12, 5000); got {sides!r} in its place.",
    )
    return tuple(whole(side, "A side of a signal or a measurement") for side in sides)


@dataclass(frozen=True)
class Space:
    """The shape, dtype and device of one event.

    Args:
        shape: Event shape; `()` is a scalar.
        dtype: float32 or float64. In half precision, levels, residuals and variances overflow or
            vanish; a network may have weights of half precision all the same.
        device: Where tensors of this space live.

    Raises:
        InputError: For another dtype, or a side that is no number of entries.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        sides = shape_of(self.shape)
        object.__setattr__(self, "shape", sides)
        object.__setattr__(self, "device", torch.device(self.device))
        if self.dtype not in FLOATS:
            raise InputError(
                f"Samples and measurements are of float32 or float64, not of {self.dtype!r}; only a network's weights "
                "may have another dtype (posteria.Network and load_prior convert what goes in and out)."
            )

    @property
    def size(self) -> int:
        """Number of entries of one event."""
        return math.prod(self.shape)

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The event axes, counted from the end."""
        return tuple(range(-len(self.shape), 0))

    def batch(self, x: Tensor) -> torch.Size:
        """The batch shape of `x`, `[*batch, *event]`."""
        return x.shape[: x.ndim - len(self.shape)]

    def sum(self, x: Tensor) -> Tensor:
        """Sum over the event axes, which stay as axes of length one."""
        return x.sum(self.axes, keepdim=True) if self.shape else x

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """Inner product over the event axes, which stay as axes of length one."""
        return self.sum(x * y)

    def norm(self, x: Tensor) -> Tensor:
        """Euclidean norm over the event axes, which stay as axes of length one."""
        return self.dot(x, x).sqrt()

    def unit(self, x: Tensor) -> Tensor:
        """`x` at length 1; 0 has no direction and stays."""
        norm = self.norm(x)
        return x / norm.clamp(min=torch.finfo(norm.dtype).tiny)

    def within(self, x: Tensor, most: float) -> Tensor:
        """`x`, shortened to the length `most` where it is longer."""
        square = self.dot(x, x)
        beyond = square.sqrt() > most
        # The root is taken where it is wanted alone: its derivative at 0 is infinite.
        return x * torch.where(beyond, most / torch.where(beyond, square, 1).sqrt(), 1)

    def share(self, x: Tensor, onto: Tensor) -> Tensor:
        """How many times `onto` the part of `x` along it is, `<x, onto> / |onto|^2`; 0 where `onto` is 0."""
        square = self.dot(onto, onto)
        return torch.where(square > 0, self.dot(x, onto) / torch.where(square > 0, square, 1), 0)

    def per_sample(self, value: float | Tensor) -> float | Tensor:
        """A float, or a tensor `[*batch]` with an axis of length one for each event axis."""
        if isinstance(value, Tensor) and value.ndim > 0:
            return value.reshape(value.shape + (1,) * len(self.shape))
        return value

    def flatten(self, x: Tensor) -> Tensor:
        """`[*batch, *event]` to `[*batch, size]`."""
        return x.reshape(*self.batch(x), self.size)

    def unflatten(self, x: Tensor) -> Tensor:
        """`[*batch, size]` to `[*batch, *event]`."""
        return x.reshape((*x.shape[:-1], *self.shape))

    def zeros(self, *batch: int) -> Tensor:
        """Zeros, `[*batch, *event]`."""
        return torch.zeros((*batch, *self.shape), dtype=self.dtype, device=self.device)

    def expect(self, other: "Space", whose: str) -> None:
        """Raise unless signals of another space are signals of this one, as those of two models of one run.

        Args:
            other: Their space.
            whose: Whose they are, with the verb: "The weak model draws".

        Raises:
            ShapeError: If they have another shape.
            InputError: If they have another dtype.
        """
        if other.shape != self.shape:
            raise ShapeError(
                f"{whose} signals of shape {other.shape}; those of the prior have {self.shape}."
            )
        if other.dtype != self.dtype:
            raise InputError(
                f"{whose} signals of {other.dtype}; those of the prior are of {self.dtype}. Make both of one dtype."
            )

    def check(self, x: Tensor, name: str) -> Tensor:
        """Return `x` if its last axes are the event shape.

        Raises:
            ShapeError: Otherwise.
        """
        n = len(self.shape)
        if x.ndim < n or (n and tuple(x.shape[-n:]) != self.shape):
            event = ", ".join(map(str, self.shape))
            raise ShapeError(f"{name} has shape {tuple(x.shape)}, not (*batch, {event}).")
        return x


# Numbers that are worked on at once where a result is one number a sample.
AT_ONCE = 2**22


def few(x: Tensor) -> tuple[Tensor, ...]:
    """Samples `[n, *event]` in groups of at most `AT_ONCE` numbers, or of one."""
    return torch.split(x, max(1, AT_ONCE // max(1, x[:1].numel())))


def native(array: np.ndarray, whose: str) -> np.ndarray:
    """Real numbers in the byte order of this machine, in double precision at most.

    Raises:
        InputError: If they are not real.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(f"{whose} holds {array.dtype} values; real numbers are needed.")
    wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
    return array.astype(np.float64 if wide else array.dtype.newbyteorder("="), copy=False)


def real(value: Any, whose: str) -> Tensor:
    """A tensor of what a user gives: a tensor, an array or numbers.

    Raises:
        InputError: If they are not real numbers, or some of them are masked.
    """
    if not isinstance(value, Tensor):
        if np.ma.is_masked(value):
            raise InputError(
                f"{whose} has masked entries: fill them, .filled(0), and measure with the mask of those that are seen, "
                "operators.Inpainting(~array.mask)."
            )
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise InputError(f"{whose} is no array of numbers: {error}.") from error
        array = native(array, whose)
        # PyTorch computes with no wider unsigned integers.
        unsigned = array.dtype.kind == "u" and array.dtype.itemsize > 1
        return torch.from_numpy(array.astype(np.float64) if unsigned else array.copy())
    if value.is_complex():
        raise InputError(f"{whose} holds {value.dtype} values; real numbers are needed.")
    return value


def finite(value: Any, whose: str) -> Tensor:
    """A tensor of what a user gives, as `real` does, of finite numbers.

    Raises:
        InputError: If they are not real and finite.
    """
    tensor = real(value, whose)
    require(bool(tensor.isfinite().all()), f"{whose} holds finite numbers; this one does not.")
    return tensor


def constant(value: Any, whose: str, like: torch.dtype | None = None) -> Tensor:
    """`finite` numbers in single or double precision.

    Whole numbers, truth values and half precision, which have no precision to keep, take that of `like`, or the default
    of PyTorch if that is neither.

    Raises:
        InputError: As `finite`.
    """
    tensor = finite(value, whose)
    if tensor.dtype in FLOATS:
        return tensor
    return tensor.to(like if like in FLOATS else torch.get_default_dtype())


def mask_of(value: Any, whose: str) -> Tensor:
    """A mask that a user gives, True where something is seen.

    Raises:
        InputError: If it holds anything but 0 and 1.
    """
    mask = real(value, whose)
    require(
        mask.dtype == torch.bool or bool(((mask == 0) | (mask == 1)).all()),
        f"{whose} holds 1 where the signal is seen and 0 elsewhere; this one holds other values.",
    )
    return mask.bool()
