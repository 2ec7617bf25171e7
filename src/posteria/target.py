"""What is sampled."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor
from typing_extensions import override

from .core.errors import InputError, ShapeError, expect
from .core.linalg import LinearMap
from .core.meter import Meter
from .core.settings import as_number, brief
from .core.space import Space, real
from .diffusion.denoiser import Condition, Conditional, Counted, Denoiser, as_condition
from .latent import decoder_of, measured
from .likelihood import FunctionLikelihood, Likelihood


def metered(target: Any, meter: Meter | None = None) -> tuple[Any, Meter]:
    """The same target, a posterior, a tilted law or a prior, with a meter of its prior's evaluations."""
    whole = not isinstance(target, Posterior | Tilted)
    counted = Counted(target if whole else target.prior, meter)
    return counted if whole else replace(target, prior=counted), counted.meter


class Observed(Protocol):
    """A prior and a measurement that has been checked: a `Posterior`, or what particles see of one."""

    @property
    def prior(self) -> Denoiser:
        """The law of the signal before the measurement."""

    @property
    def likelihood(self) -> Likelihood:
        """The law of the measurement."""

    @property
    def y(self) -> Tensor:
        """The measurement."""

    @property
    def space(self) -> Space:
        """Space of the samples."""


@dataclass(frozen=True, eq=False)
class OfPrior:
    """A target with a prior, whose space is that of the samples."""

    prior: Denoiser

    @property
    def space(self) -> Space:
        """Space of the samples."""
        return self.prior.space


@dataclass(frozen=True, eq=False)
class Posterior(OfPrior):
    """p(x) p(y | x): what is known of a signal after a measurement.

    Where the prior is one of latents (`posteria.latent.Latent`), an operator of signals measures what they are decoded
    to. Operator and measurement are taken to the dtype and device of the prior.

    Args:
        prior: The law of the signal before the measurement.
        likelihood: The law of the measurement.
        y: The measurement, `[*measurement]`, or one for each sample, `[len(seeds), *measurement]`.

    Raises:
        ShapeError: If prior, likelihood and `y` do not fit together.
        CapabilityError: If the prior is no `Denoiser` or the likelihood no `Likelihood`.
        InputError: If `y` holds values that cannot be measured, such as NaN.
    """

    likelihood: Likelihood
    y: Tensor

    def __post_init__(self) -> None:
        space = expect(self.prior, Denoiser, by=self).space
        expect(self.likelihood, Likelihood, by=self)
        decoder = decoder_of(self.prior)
        if decoder is not None:
            object.__setattr__(self, "likelihood", measured(self.likelihood, decoder))
        operator = getattr(self.likelihood, "operator", None)
        if operator is not None and operator.domain.shape != space.shape:
            also = "" if decoder is None else f", decoded to {decoder.codomain.shape}"
            raise ShapeError(
                f"The prior draws signals of shape {space.shape}{also}; {operator!r} measures another shape."
            )
        y = self.likelihood.check(real(self.y, "The measurement"))
        object.__setattr__(self, "y", y.to(space.device, space.dtype))
        likelihood = self.likelihood.to(space.dtype, space.device)
        if isinstance(likelihood, FunctionLikelihood):
            likelihood = replace(likelihood, axes=len(space.shape))
        object.__setattr__(self, "likelihood", likelihood)

    def __repr__(self) -> str:
        return f"Posterior({self.prior!r}, {self.likelihood!r}, y={brief(self.y)})"

    @property
    def rows(self) -> int:
        """Measurements that `y` holds: 1 for all samples, or one for each."""
        measurement = self.likelihood.measurement
        batch = () if measurement is None else measurement.batch(self.y)
        return batch[0] if batch else 1

    def part(self, samples: slice) -> "Posterior":
        """The target of some of the samples: with their measurements, where each has one of its own."""
        return replace(self, y=self.y[samples]) if self.rows > 1 else self

    def check_seeds(self, n: int) -> None:
        """Raise `ShapeError` unless `y` is one measurement for all or one for each of `n` samples."""
        if self.rows not in {1, n}:
            raise ShapeError(
                f"y holds {self.rows} measurements for {n} seeds; give one, or one for each seed."
            )


@dataclass(frozen=True, eq=False)
class Tilted(Denoiser):
    """p(x | c)^weight p(x)^(1 - weight): a condition raised to a power. Weight 1 is the conditional law, 0 the prior.

    The denoiser of its noised law is intractable: it lacks the gradient of a Renyi divergence between
    the laws of x_0 given x with and without the condition (Moufad et al., 2025, arXiv:2505.21101). As a denoiser
    this is what classifier-free guidance puts in its place, so that a tilted law may be the prior of
    a `Posterior`; other rules are `posteria.guidance`.

    Args:
        prior: The family, with an unconditional member unless the weight is 1.
        condition: Such as `Label(3)`, for which 3 may stand.
        weight: The power, at least 0.

    Raises:
        CapabilityError: If the prior is not conditional or has no unconditional member.
        InputError: If it knows no such condition, or the weight is none.
    """

    prior: Conditional
    condition: Condition
    weight: float

    def __post_init__(self) -> None:
        expect(self.prior, Conditional, by=self)
        object.__setattr__(self, "condition", as_condition(self.condition))
        expect(self.condition, Condition, by=self)
        weight = as_number(self.weight)
        if weight is None or not 0 <= weight < math.inf:
            raise InputError(
                f"The weight of a tilted law is a number of at least 0; {self.weight!r} is not."
            )
        object.__setattr__(self, "weight", weight)
        if self.weight != 0:
            _ = self.conditional
        if self.weight != 1:
            _ = self.unconditional

    @property
    def space(self) -> Space:  # type: ignore[override]
        """Space of the samples."""
        return self.prior.space

    @cached_property
    def conditional(self) -> Denoiser:
        """The law given the condition."""
        return self.prior.given(self.condition)

    @cached_property
    def unconditional(self) -> Denoiser:
        """The law without it."""
        return self.prior.unconditional()

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        if self.weight in {0, 1}:
            return (self.conditional if self.weight else self.unconditional)(x, sigma)
        return self.unconditional(x, sigma).lerp(self.conditional(x, sigma), self.weight)

    @override
    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        if self.weight in {0, 1}:
            return (self.conditional if self.weight else self.unconditional).vjp(x, sigma)
        free, of_free = self.unconditional.vjp(x, sigma)
        given, of_given = self.conditional.vjp(x, sigma)
        return free.lerp(given, self.weight), lambda v: of_free(v).lerp(of_given(v), self.weight)
