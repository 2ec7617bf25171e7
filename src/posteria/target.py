"""What is sampled."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .core.errors import InputError, ShapeError
from .core.space import Space
from .diffusion.denoiser import Denoiser
from .likelihood import Likelihood


@dataclass(frozen=True, eq=False)
class Posterior:
    """p(x) p(y | x): what is known of a signal after a measurement.

    Operator and measurement are taken to the dtype and device of the prior.

    Args:
        prior: The law of the signal before the measurement.
        likelihood: The law of the measurement.
        y: The measurement, `[*measurement]`, or one for each sample, `[len(seeds), *measurement]`.

    Raises:
        ShapeError: If prior, likelihood and `y` do not fit together.
        InputError: If `y` holds values that are not finite.
    """

    prior: Denoiser
    likelihood: Likelihood
    y: Tensor

    def __post_init__(self) -> None:
        space = self.prior.space
        operator = getattr(self.likelihood, "operator", None)
        if operator is not None and operator.domain.shape != space.shape:
            raise ShapeError(
                f"The prior draws signals of shape {space.shape}; {operator!r} measures another shape."
            )
        y = torch.as_tensor(self.y)
        measurement = self.likelihood.measurement
        if measurement is not None:
            measurement.check(y, "y")
            if len(measurement.batch(y)) > 1:
                raise ShapeError(f"y has shape {tuple(y.shape)}; it has one batch axis at most.")
        if not y.isfinite().all():
            bad = int((~y.isfinite()).sum())
            raise InputError(
                f"The measurement has {bad} entries that are NaN or infinite; remove them with a mask."
            )
        object.__setattr__(self, "y", y.to(space.device, space.dtype))
        object.__setattr__(self, "likelihood", self.likelihood.to(space.dtype, space.device))

    @property
    def space(self) -> Space:
        """Space of the samples."""
        return self.prior.space

    def check_seeds(self, n: int) -> None:
        """Raise `ShapeError` unless `y` is one measurement for all or one for each of `n` samples."""
        measurement = self.likelihood.measurement
        rows = () if measurement is None else measurement.batch(self.y)
        if rows and rows[0] not in {1, n}:
            raise ShapeError(
                f"y holds {rows[0]} measurements for {n} seeds; give one, or one for each seed."
            )
