"""A Gaussian prior with any covariance: its denoiser, posterior and evidence in closed form."""

from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import InputError, ShapeError, expect
from ..core.linalg import LinearMap, rows_times
from ..core.space import Space, constant, finite
from ..diffusion.denoiser import Denoiser
from ..likelihood import LOG_TWO_PI, GaussianLikelihood, Likelihood
from ..operators.base import LinearOperator


class Spectrum(NamedTuple):
    """Eigenvalues `[*components, d]` and eigenvectors `[*components, d, d]` of covariances."""

    values: Tensor
    vectors: Tensor


def spectrum(covariance: Tensor) -> Spectrum:
    """The spectrum of symmetric positive definite matrices `[*components, d, d]`.

    Raises:
        InputError: If one is not symmetric positive definite.
    """
    scale = covariance.abs().amax((-2, -1), keepdim=True)
    if not ((covariance - covariance.mT).abs() <= 1e-5 * scale).all():
        raise InputError("A covariance is a symmetric matrix; this one is not.")
    values, vectors = torch.linalg.eigh(covariance)
    if not (values > 0).all():
        low = values.min().item()
        rounded = covariance.dtype == torch.float32 and bool(
            (values > -1e-6 * scale[..., 0]).all()
        )
        hint = " Single precision may have rounded it: make it in float64." if rounded else ""
        raise InputError(
            f"A covariance is positive definite; this one has the eigenvalue {low:.3g}.{hint}"
        )
    return Spectrum(values, vectors)


class Observation(NamedTuple):
    """A linear-Gaussian measurement: `y ~ N(matrix x, diag(variance))` on flattened signals, in float64."""

    y: Tensor
    matrix: Tensor
    variance: Tensor


def measured(
    likelihood: Likelihood, y: Tensor, space: Space, by: object
) -> tuple[LinearOperator, Tensor, Tensor]:
    """The operator, the noise level of each entry and `y` of a linear-Gaussian likelihood, as the space has it.

    Raises:
        CapabilityError: If it is not linear-Gaussian.
        ShapeError: If `y` is not one measurement.
    """
    gaussian = expect(likelihood, GaussianLikelihood, by=by).to(space.dtype, space.device)
    operator = expect(gaussian.operator, LinearOperator, by=by)
    if operator.domain.shape != space.shape:
        raise ShapeError(
            f"The prior has shape {space.shape}; {operator!r} measures another shape."
        )
    if tuple(y.shape) != operator.codomain.shape:
        raise ShapeError(
            f"y has shape {tuple(y.shape)}; one measurement has {operator.codomain.shape}."
        )
    std = torch.as_tensor(gaussian.std, dtype=space.dtype, device=space.device)
    return operator, std.expand(operator.codomain.shape), y.to(space.device, space.dtype)


def observation(likelihood: Likelihood, y: Tensor, space: Space, by: object) -> Observation:
    """The dense form of a linear-Gaussian likelihood; errors as `measured`."""
    # In single precision little noise is lost beside what is measured with it.
    space = Space(space.shape, torch.float64, space.device)
    operator, std, y = measured(likelihood, y, space, by)
    return Observation(y.flatten(), operator.matrix(), std.flatten() ** 2)


def condition(
    mean: Tensor, covariance: Tensor, seen: Observation
) -> tuple[Tensor, Tensor, Tensor]:
    """The law of x given y, for Gaussians `[*components, d]`: means, covariances and log-evidences `[*components]`.

    All in float64.
    """
    mean, covariance = mean.double(), covariance.double()
    a, r = seen.matrix, torch.diag(seen.variance)
    factor = torch.linalg.cholesky(a @ covariance @ a.mT + r)
    gain = torch.cholesky_solve(a @ covariance, factor).mT
    residual = seen.y - mean @ a.mT
    keep = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device) - gain @ a
    # Joseph's form stays positive definite when the noise is small.
    updated = keep @ covariance @ keep.mT + gain @ r @ gain.mT
    white = torch.linalg.solve_triangular(factor, residual[..., None], upper=False)[..., 0]
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_evidence = -(white**2).sum(-1) / 2 - log_det - len(seen.y) * LOG_TWO_PI / 2
    return mean + (gain @ residual[..., None])[..., 0], (updated + updated.mT) / 2, log_evidence


class Gaussian(Denoiser):
    """The prior N(mean, covariance), exact in everything.

    Args:
        mean: `[*event]`.
        covariance: Of the flattened event, `[d, d]`.

    Raises:
        ShapeError: If they do not fit.
        InputError: If one is not finite, or the covariance not symmetric positive definite.
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        covariance = finite(covariance, "A covariance")
        mean = constant(mean, "A mean", covariance.dtype)
        self.space = Space(tuple(mean.shape), mean.dtype, mean.device)
        d = self.space.size
        if tuple(covariance.shape) != (d, d):
            raise ShapeError(
                f"A mean with {d} entries needs a covariance ({d}, {d}), not {tuple(covariance.shape)}."
            )
        self.mean = mean
        self.covariance = covariance.to(mean)
        self._spectrum = spectrum(self.covariance)

    @property
    def std(self) -> Tensor:
        """Standard deviation of each entry, `[*event]`."""
        return self.covariance.diagonal().sqrt().reshape(self.space.shape)

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self.mean + self._shrink(x - self.mean, sigma)

    def _shrink(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """`covariance (covariance + sigma^2)^-1 x`, which is the Jacobian of the denoiser."""
        values, vectors = self._spectrum
        variance = sigma[..., None] ** 2 if isinstance(sigma, Tensor) else sigma**2
        gains = values / (values + variance)
        flat = rows_times(self.space.flatten(x), vectors) * gains.to(x)
        return self.space.unflatten(rows_times(flat, vectors.mT))

    @override
    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        return self(x, sigma), lambda v: self._shrink(v, sigma)

    def noised(self, sigma: float) -> "Gaussian":
        """The law of `x_0 + sigma * noise`."""
        eye = torch.eye(self.space.size, dtype=self.mean.dtype, device=self.mean.device)
        return Gaussian(self.mean, self.covariance + sigma**2 * eye)

    def posterior(self, likelihood: Likelihood, y: Tensor) -> "Gaussian":
        """The law of x given one measurement `y` `[*measurement]`, for a linear operator and Gaussian noise."""
        seen = observation(likelihood, y, self.space, self)
        mean, covariance, _ = condition(self.mean.flatten(), self.covariance, seen)
        return Gaussian(mean.reshape(self.space.shape).to(self.mean), covariance)

    def log_evidence(self, likelihood: Likelihood, y: Tensor) -> Tensor:
        """Log p(y), a scalar in float64."""
        seen = observation(likelihood, y, self.space, self)
        return condition(self.mean.flatten(), self.covariance, seen)[2]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` independent draws, `[n, *event]`."""
        values, vectors = self._spectrum
        noise = torch.randn(
            n, self.space.size, dtype=self.mean.dtype, device=self.mean.device, generator=generator
        )
        return self.mean + self.space.unflatten((noise * values.sqrt()) @ vectors.mT)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density, `[*batch, *event]` to `[*batch]`."""
        values, vectors = self._spectrum
        z = self.space.flatten(self.space.check(x, "x") - self.mean) @ vectors
        return -(z**2 / values + values.log() + LOG_TWO_PI).sum(-1) / 2
