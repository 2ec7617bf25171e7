"""Likelihoods: an operator and the law of the noise, in data units."""

import abc
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from typing_extensions import override

from .core import linalg
from .core.errors import CapabilityError, InputError, ShapeError, expect, require
from .core.rng import Rng
from .core.settings import as_number, brief
from .core.space import Space, real
from .operators.base import Operator

LOG_TWO_PI = math.log(2 * math.pi)


class Likelihood(abc.ABC):
    """The law p(y | x) of a measurement."""

    @property
    @abc.abstractmethod
    def measurement(self) -> Space | None:
        """Space of `y`; None if only the user knows."""

    def check(self, y: Tensor) -> Tensor:
        """Return `y` if it can be a measurement, or one for each sample.

        Raises:
            ShapeError: If its shape is another.
            InputError: If it holds values that cannot be measured.
        """
        space = self.measurement
        if space is not None and len(space.batch(space.check(y, "y"))) > 1:
            raise ShapeError(f"y has shape {tuple(y.shape)}; it has one batch axis at most.")
        bad = int((~y.isfinite()).sum())
        if bad:
            raise InputError(
                f"The measurement has {bad} entries that are NaN or infinite; remove them with a mask."
            )
        return y

    @abc.abstractmethod
    def log_prob(self, y: Tensor, x: Tensor) -> Tensor:
        """Log p(y | x), `[*batch]`, of signals `[*batch, *event]`; `y` is `[*measurement]` or one each."""

    def score(self, y: Tensor, x: Tensor) -> Tensor:
        """The gradient of log p(y | x) in `x`, `[*batch, *event]`."""
        return linalg.score(lambda z: self.log_prob(y, z), x, self)

    @abc.abstractmethod
    def sample(self, x: Tensor, rng: Rng) -> Tensor:
        """One measurement of each signal, `[n, ..., *measurement]`, where `rng` has a stream for each of the n rows.

        Raises:
            ShapeError: If it has not.
        """

    @abc.abstractmethod
    def to(self, dtype: torch.dtype, device: torch.device | str) -> Self:
        """The same likelihood in another dtype and on another device."""


def _given(y: Tensor, space: Space) -> Tensor:
    """`y`, if it has the shape of measurements; looked at here, as a sampler comes by at every evaluation."""
    return y if y.shape[y.ndim - len(space.shape) :] == space.shape else space.check(y, "y")


def _of_rows(ax: Tensor, space: Space, rng: Rng) -> Tensor:
    """What was measured of signals, if there is a stream of random numbers for each of their rows."""
    batch = tuple(space.batch(ax))
    if batch[:1] != (len(rng),):
        raise ShapeError(
            f"Measurements are simulated of signals [n, *event] with n seeds; these have the batch {batch}, and there "
            f"are {len(rng)} seeds."
        )
    return ax


@dataclass(frozen=True)
class GaussianLikelihood(Likelihood):
    """`y = A(x) + std * noise`.

    Args:
        operator: A.
        std: Standard deviation of the noise in data units, one number or one for each entry of `y`.

    Raises:
        CapabilityError: If there is no operator.
        InputError: If `std` is not above 0.
        ShapeError: If `std` is neither a number nor has the shape of `y`.
    """

    operator: Operator
    std: float | Tensor

    def __post_init__(self) -> None:
        shape = expect(self.operator, Operator, by=self).codomain.shape
        level = None if isinstance(self.std, Tensor) else as_number(self.std)
        if level is not None:
            require(
                0 < level < math.inf,
                f"The noise level is a number above 0 in data units; {level:g} is not.",
            )
            object.__setattr__(self, "std", level)
            return
        std = real(self.std, f"The noise level {brief(self.std)}")
        if std.numel() == 1 and std.shape != shape:
            std = std.reshape(())
        if std.ndim and tuple(std.shape) != shape:
            raise ShapeError(
                f"std has shape {tuple(std.shape)}; it is a number or has the shape {shape} of the measurement."
            )
        if not ((std > 0) & std.isfinite()).all():
            raise InputError("The noise level is above 0 in every entry; here it is not.")
        object.__setattr__(self, "std", std)

    @property
    @override
    def measurement(self) -> Space:
        return self.operator.codomain

    @override
    def log_prob(self, y: Tensor, x: Tensor) -> Tensor:
        space = self.measurement
        z = space.flatten((_given(y, space) - self.operator(x)) / self.std)
        std = torch.as_tensor(self.std, dtype=z.dtype, device=z.device).expand(space.shape)
        return -(z**2).sum(-1) / 2 - std.log().sum() - space.size * LOG_TWO_PI / 2

    @override
    def score(self, y: Tensor, x: Tensor) -> Tensor:
        ax, pullback = self.operator.vjp(x)
        return pullback((_given(y, self.measurement) - ax) / self.std**2)

    def misfit(self, y: Tensor, x: Tensor) -> Tensor:
        """What `x` leaves of `y` in units of the noise, `[*batch, codomain.size]`.

        Where `y` was rounded or clipped it is the distance from the middle of the cell, in units of the standard
        deviation over it: its mean square is 1 where the signal is as likely anywhere in it, and less where it is not.
        """
        cells = self.operator.rounded(_given(y, self.measurement), self.std)
        if cells is None:
            return self.measurement.flatten((y - self.operator(x)) / self.std)
        return cells.operator.codomain.flatten((cells.centre - cells.operator(x)) / cells.std)

    @override
    def sample(self, x: Tensor, rng: Rng) -> Tensor:
        ax = _of_rows(self.operator(x), self.measurement, rng)
        return ax + self.std * rng.normal_like(ax)

    @override
    def to(self, dtype: torch.dtype, device: torch.device | str) -> Self:
        std = self.std.to(device, dtype) if isinstance(self.std, Tensor) else self.std
        return dataclasses.replace(self, operator=self.operator.to(dtype, device), std=std)

    def __repr__(self) -> str:
        return f"GaussianLikelihood({self.operator!r}, std={brief(self.std)})"


@dataclass(frozen=True)
class PoissonLikelihood(Likelihood):
    """Counts: `y ~ Poisson(peak * A(x))`.

    Args:
        operator: A; its values are intensities. A picture in [-1, 1] is first taken to [0, 1], for
            instance by `Function(lambda x: (x + 1) / 2, shape)`.
        peak: Mean count at intensity 1.
        floor: Intensities below this count as this, so that the log-likelihood is finite
            everywhere; the gradient is that of the intensity itself, so that a sample can come
            back from below.

    Raises:
        CapabilityError: If there is no operator.
        InputError: If the peak or the floor is not above 0 and finite.
    """

    operator: Operator
    peak: float
    floor: float = 1e-3

    def __post_init__(self) -> None:
        expect(self.operator, Operator, by=self)
        for name, value in (("peak", as_number(self.peak)), ("floor", as_number(self.floor))):
            if value is None or not 0 < value < math.inf:
                raise InputError(
                    f"The peak and the floor of counts are numbers above 0; got peak={self.peak!r} and "
                    f"floor={self.floor!r}."
                )
            object.__setattr__(self, name, value)

    @property
    @override
    def measurement(self) -> Space:
        return self.operator.codomain

    @override
    def check(self, y: Tensor) -> Tensor:
        y = super().check(y)
        if (y < 0).any():
            raise InputError(
                f"Counts are at least 0; this measurement goes down to {float(y.min()):g}."
            )
        if (y != y.round()).any():
            raise InputError(
                "Counts are whole numbers; this measurement holds others. If it was divided by the peak or by a gain, "
                "multiply it by that."
            )
        return y

    def _rate(self, x: Tensor) -> Tensor:
        return self.peak * self.operator(x).clamp(min=self.floor)

    @override
    def log_prob(self, y: Tensor, x: Tensor) -> Tensor:
        rate, y = self._rate(x), _given(y, self.measurement)
        return self.measurement.flatten(y * rate.log() - rate - torch.lgamma(y + 1)).sum(-1)

    @override
    def score(self, y: Tensor, x: Tensor) -> Tensor:
        ax, pullback = self.operator.vjp(x)
        return pullback(_given(y, self.measurement) / ax.clamp(min=self.floor) - self.peak)

    @override
    def sample(self, x: Tensor, rng: Rng) -> Tensor:
        return rng.poisson(_of_rows(self._rate(x), self.measurement, rng))

    @override
    def to(self, dtype: torch.dtype, device: torch.device | str) -> Self:
        return dataclasses.replace(self, operator=self.operator.to(dtype, device))


@dataclass(frozen=True)
class FunctionLikelihood(Likelihood):
    """Any likelihood, by its log-density.

    Args:
        function: `log_prob(y, x)`: takes `y` and signals `[*batch, *event]` to `[*batch]`, each
            sample by itself; differentiable in `x` by autograd. A constant may be left out.
        shape: Shape of one measurement, if `y` is to be checked and may differ from sample to
            sample.
        axes: Number of axes of one signal, which a posterior fills in.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    shape: tuple[int, ...] | None = None
    axes: int | None = None

    @property
    @override
    def measurement(self) -> Space | None:
        return None if self.shape is None else Space(self.shape)

    @override
    def log_prob(self, y: Tensor, x: Tensor) -> Tensor:
        # Of a reward outside PyTorch, an array.
        value = real(self.function(y, x), "A log-density").to(x.device)
        batch = value.ndim if self.axes is None else x.ndim - self.axes
        if value.ndim < 1 or value.shape != x.shape[:batch]:
            raise ShapeError(
                "A log-density gives one number for each signal (*batch, *event); this one takes "
                f"{tuple(x.shape)} to {tuple(value.shape)}."
            )
        return value

    @override
    def sample(self, x: Tensor, rng: Rng) -> Tensor:
        raise CapabilityError(
            "A FunctionLikelihood has a log-density only; it cannot simulate measurements."
        )

    @override
    def to(self, dtype: torch.dtype, device: torch.device | str) -> Self:
        return self

    def __repr__(self) -> str:
        return f"FunctionLikelihood({brief(self.function)}, shape={self.shape})"
