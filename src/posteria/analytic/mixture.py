"""A Gaussian mixture prior: its denoiser, Jacobian, posterior and evidence in closed form."""

import abc

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import InputError, ShapeError, require
from ..core.level import Level, at_least
from ..core.linalg import LinearMap, rows_times
from ..core.space import Space, constant, finite, real
from ..diffusion.denoiser import Denoiser
from ..likelihood import LOG_TWO_PI, Likelihood
from .gaussian import Spectrum, condition, observation, spectrum


class Components(abc.ABC):
    """Gaussians `[K]` on flattened signals `[*batch, d]`; `variance` is `sigma^2`, a float or `[*batch, 1]`."""

    @abc.abstractmethod
    def log_densities(self, x: Tensor, variance: float | Tensor) -> Tensor:
        """Log-densities of the noised components, `[*batch, K]` in float64."""

    @abc.abstractmethod
    def denoise(self, x: Tensor, variance: float | Tensor, share: Tensor) -> Tensor:
        """E[x_0 | x] where component k has the probability `share[..., k]`."""

    @abc.abstractmethod
    def jacobian(self, x: Tensor, variance: float | Tensor, share: Tensor, v: Tensor) -> Tensor:
        """The product of `v` with the Jacobian of the denoiser, which is symmetric."""


class Separate(Components):
    """Components with a covariance each: K rotations an evaluation."""

    def __init__(self, means: Tensor, spectra: Spectrum) -> None:
        self.means, (self.values, self.vectors) = means, spectra

    def _rotate(self, x: Tensor) -> Tensor:
        return self._times(x, self.vectors)

    @staticmethod
    def _times(x: Tensor, matrices: Tensor) -> Tensor:
        """`[*batch, K, d]` times `[K, d, d]`."""
        parts = [rows_times(x[..., k, :], matrix) for k, matrix in enumerate(matrices)]
        return torch.stack(parts, dim=-2)

    def _gain(self, x: Tensor, variance: float | Tensor) -> Tensor:
        level = variance[..., None] if isinstance(variance, Tensor) else variance
        return (self.values / (self.values + level)).to(x.dtype)

    @override
    def log_densities(self, x: Tensor, variance: float | Tensor) -> Tensor:
        total = self.values + (variance[..., None] if isinstance(variance, Tensor) else variance)
        z = self._rotate(x[..., None, :] - self.means)
        return -(z**2 / total + total.log() + LOG_TWO_PI).sum(-1).double() / 2

    def _means_given(self, x: Tensor, variance: float | Tensor) -> Tensor:
        z = self._gain(x, variance) * self._rotate(x[..., None, :] - self.means)
        return self.means + self._times(z, self.vectors.mT)

    @override
    def denoise(self, x: Tensor, variance: float | Tensor, share: Tensor) -> Tensor:
        return (share[..., None] * self._means_given(x, variance)).sum(-2)

    @override
    def jacobian(self, x: Tensor, variance: float | Tensor, share: Tensor, v: Tensor) -> Tensor:
        means = self._means_given(x, variance)
        spread = means - (share[..., None] * means).sum(-2, keepdim=True)
        within = self._gain(x, variance) * self._rotate(v[..., None, :].expand_as(means))
        within = self._times(within, self.vectors.mT)
        between = spread * (spread * v[..., None, :]).sum(-1, keepdim=True)
        level = variance[..., None] if isinstance(variance, Tensor) else variance
        return (share[..., None] * (within + between / _above_zero(level, x))).sum(-2)


class Tied(Components):
    """Components that share one covariance: one rotation an evaluation, and no tensor `[*batch, K, d]`."""

    def __init__(self, means: Tensor, spectra: Spectrum) -> None:
        self.values, self.vectors = spectra.values[0], spectra.vectors[0]
        self.means = means @ self.vectors

    @override
    def log_densities(self, x: Tensor, variance: float | Tensor) -> Tensor:
        # In float64 because the expanded square cancels.
        z, means = rows_times(x, self.vectors).double(), self.means.double()
        total = (self.values + variance).double()
        quadratic = (z**2 / total + total.log() + LOG_TWO_PI).sum(-1, keepdim=True)
        cross = rows_times(z / total, means.mT)
        own = rows_times(1 / total, (means**2).mT)
        return cross - (quadratic + own) / 2

    @override
    def denoise(self, x: Tensor, variance: float | Tensor, share: Tensor) -> Tensor:
        gain = (self.values / (self.values + variance)).to(x.dtype)
        center = rows_times(share, self.means)
        shrunk = center + gain * (rows_times(x, self.vectors) - center)
        return rows_times(shrunk, self.vectors.mT)

    @override
    def jacobian(self, x: Tensor, variance: float | Tensor, share: Tensor, v: Tensor) -> Tensor:
        total = self.values + variance
        gain, rest = (self.values / total).to(x.dtype), (variance / total).to(x.dtype)
        z = rows_times(v, self.vectors)
        center = rows_times(share, self.means)
        # Var(mean) (rest z) / variance on the right of `rest`, by its factors.
        u = rest * z
        second = rows_times(share * rows_times(u, self.means.mT), self.means)
        spread = second - center * (center * u).sum(-1, keepdim=True)
        return rows_times(gain * z + rest * spread / _above_zero(variance, x), self.vectors.mT)


def _above_zero(variance: Level, x: Tensor) -> Level:
    """What the spread of means, which is of the order of the variance, is divided by at level 0 as well."""
    return at_least(variance, torch.finfo(x.dtype).eps)


class GaussianMixture(Denoiser):
    """The prior `sum_k weights_k N(means_k, covariances_k)`, exact in everything.

    Args:
        weights: `[K]`, above 0; they are normalised.
        means: `[K, *event]`.
        covariances: Of the flattened event, `[K, d, d]`.

    Raises:
        ShapeError: If they do not fit.
        InputError: If a weight is not above 0 or a covariance not symmetric positive definite.
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        weights, covariances = (
            real(weights, "Weights"),
            finite(covariances, "An array of covariances"),
        )
        means = constant(means, "An array of means", covariances.dtype)
        require(means.ndim > 0 and len(means) > 0, "A mixture has at least one component.")
        k = len(means)
        self.space = Space(tuple(means.shape[1:]), means.dtype, means.device)
        d = self.space.size
        if tuple(weights.shape) != (k,) or tuple(covariances.shape) != (k, d, d):
            raise ShapeError(
                f"{k} means of {d} entries need weights ({k},) and covariances ({k}, {d}, {d}); "
                f"got {tuple(weights.shape)} and {tuple(covariances.shape)}."
            )
        if not ((weights > 0) & weights.isfinite()).all():
            raise InputError("The weights of a mixture are above 0; here one is not.")
        self.weights = weights.to(means) / weights.to(means).sum()
        self.means = means
        self.covariances = covariances.to(means)
        tied = bool((self.covariances == self.covariances[:1]).all())
        self._spectra = spectrum(self.covariances[:1] if tied else self.covariances)
        flat = means.reshape(k, d)
        self._components: Components = (Tied if tied else Separate)(flat, self._spectra)

    def _at(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, float | Tensor, Tensor]:
        """Flattened signals, noise variances, and the probability of each component."""
        flat = self.space.flatten(x)
        variance = sigma[..., None] ** 2 if isinstance(sigma, Tensor) else sigma**2
        log_joint = self.weights.log() + self._components.log_densities(flat, variance)
        return flat, variance, log_joint.softmax(-1).to(x.dtype)

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self.space.unflatten(self._components.denoise(*self._at(x, sigma)))

    @override
    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        at = self._at(x, sigma)

        def pullback(v: Tensor) -> Tensor:
            return self.space.unflatten(self._components.jacobian(*at, self.space.flatten(v)))

        return self.space.unflatten(self._components.denoise(*at)), pullback

    @property
    def mean(self) -> Tensor:
        """The mean, `[*event]`."""
        return self.space.unflatten(self.weights @ self.means.reshape(len(self.means), -1))

    @property
    def covariance(self) -> Tensor:
        """The covariance of the flattened event, `[d, d]`."""
        apart = (self.means - self.mean).reshape(len(self.means), -1)
        within = (self.weights[:, None, None] * self.covariances).sum(0)
        return within + apart.mT @ (self.weights[:, None] * apart)

    @property
    def std(self) -> Tensor:
        """Standard deviation of each entry, `[*event]`."""
        return self.covariance.diagonal().sqrt().reshape(self.space.shape)

    def noised(self, sigma: float) -> "GaussianMixture":
        """The law of `x_0 + sigma * noise`."""
        eye = torch.eye(self.space.size, dtype=self.means.dtype, device=self.means.device)
        return GaussianMixture(self.weights, self.means, self.covariances + sigma**2 * eye)

    def posterior(self, likelihood: Likelihood, y: Tensor) -> "GaussianMixture":
        """The law of x given one measurement `y` `[*measurement]`, for a linear operator and Gaussian noise."""
        means, covariances, log_joint = self._condition(likelihood, y)
        weights = log_joint.softmax(-1).to(self.means)
        # The weight of a component that the measurement excludes underflows; it stays above 0, which a
        # mixture needs.
        weights = weights.clamp(min=torch.finfo(weights.dtype).tiny)
        return GaussianMixture(weights, means.reshape_as(self.means).to(self.means), covariances)

    def log_evidence(self, likelihood: Likelihood, y: Tensor) -> Tensor:
        """Log p(y), a scalar in float64."""
        return self._condition(likelihood, y)[2].logsumexp(-1)

    def _condition(self, likelihood: Likelihood, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = observation(likelihood, y, self.space, self)
        flat = self.means.reshape(len(self.weights), -1)
        tied = len(self._spectra.values) == 1
        covariances = self.covariances[:1] if tied else self.covariances
        means, covariances, log_evidence = condition(flat, covariances, seen)
        return means, covariances.expand_as(self.covariances), self.weights.log() + log_evidence

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` independent draws, `[n, *event]`."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        dtype, device = self.means.dtype, self.means.device
        shape = (n, self.space.size, 1)
        noise = torch.randn(shape, generator=generator, dtype=dtype, device=device)
        roots = self._spectra.vectors * self._spectra.values.sqrt()[:, None, :]
        roots = roots[which] if len(roots) > 1 else roots
        return self.means[which] + self.space.unflatten((roots @ noise)[..., 0])

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density, `[*batch, *event]` to `[*batch]`."""
        flat = self.space.flatten(self.space.check(x, "x"))
        log_joint = self.weights.log() + self._components.log_densities(flat, 0.0)
        return log_joint.logsumexp(-1).to(x.dtype)

    def __repr__(self) -> str:
        return f"GaussianMixture({len(self.weights)} components, event {self.space.shape})"
