"""Problems with exact posteriors."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ..analytic import Gaussian, GaussianMixture
from ..analytic.quadrature import Quadrature
from ..core.errors import require, unknown
from ..core.space import Space
from ..likelihood import GaussianLikelihood
from ..operators import Function, Inpainting, LinearOperator, Matrix, Operator
from ..target import Posterior

F64 = torch.float64


class KnownLaw(Protocol):
    """A law that is known exactly."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` independent draws, `[n, *event]`."""

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density, `[*batch, *event]` to `[*batch]`."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A target with its exact answer.

    Args:
        target: What a sampler is given.
        exact: Its law.
        truth: The signal that was measured, `[*event]`.
        log_evidence: Log p(y).
    """

    target: Posterior
    exact: KnownLaw
    truth: Tensor
    log_evidence: float


def _measure(
    prior: Gaussian | GaussianMixture, operator: Operator, std: float, generator: torch.Generator
) -> tuple[Tensor, Posterior]:
    """A signal from the prior, and the target that its measurement makes."""
    likelihood = GaussianLikelihood(operator, std=std)
    truth = prior.sample(1, generator)[0]
    noise = torch.randn(operator.codomain.shape, dtype=F64, generator=generator).to(truth.dtype)
    return truth, Posterior(prior, likelihood, operator(truth) + std * noise)


def _linear(
    prior: Gaussian | GaussianMixture,
    operator: LinearOperator,
    std: float,
    generator: torch.Generator,
) -> Problem:
    truth, target = _measure(prior, operator, std, generator)
    exact = prior.posterior(target.likelihood, target.y)
    evidence = prior.log_evidence(target.likelihood, target.y)
    return Problem(target, exact, truth, float(evidence))


def _haar(m: int, d: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Haar `U` `[m, m]` and `V^T` `[m, d]`."""
    require(1 <= m <= d, f"There are 1 to {d} measurements of {d} entries; d_y={m} is not.")
    u, _, vt = torch.linalg.svd(
        torch.randn(m, d, dtype=F64, generator=generator), full_matrices=False
    )
    return u, vt


def _uniform(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, dtype=F64, generator=generator)


def gaussian_half(
    scale: float = 1.0, d: int = 8, seed: int = 0, dtype: torch.dtype = F64
) -> Problem:
    """White noise whose first half is measured: N(0, scale^2 I), with a noise level of half the scale.

    In units of the scale the posterior does not depend on it, which exposes a sampler that assumes data
    of unit variance. On the measured half the prior itself has a mean error of 2 posterior standard
    deviations in the root mean square, and 5 times the variance.

    Args:
        scale: Standard deviation of the prior.
        d: Dimension, at least 2.
        seed: Draws truth and measurement, as in all of these.
        dtype: Dtype of the prior, as in all of these.
    """
    require(d >= 2 and scale > 0, f"d is at least 2 and scale above 0; got d={d}, scale={scale}.")
    generator = torch.Generator().manual_seed(seed)
    prior = Gaussian(torch.zeros(d, dtype=dtype), scale**2 * torch.eye(d, dtype=dtype))
    return _linear(prior, Inpainting(torch.arange(d) < d // 2), scale / 2, generator)


def gaussian_correlated(
    d: int = 16, d_y: int = 8, seed: int = 0, dtype: torch.dtype = F64
) -> Problem:
    """A Gaussian with the spectrum of natural images in `d` dimensions, measured `d_y` times through a random matrix.

    The prior's k-th standard deviation is 1 / k along a Haar direction, its mean is standard normal;
    A = U diag(s) V^T with Haar U and V and s uniform on (0, 1); the noise level is 0.1.
    """
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(d, dtype=F64, generator=generator)
    rotation, _ = _haar(d, d, generator)
    std = 1 / torch.arange(1, d + 1, dtype=F64)
    u, vt = _haar(d_y, d, generator)
    s = _uniform(d_y, generator=generator)
    covariance = (rotation * std**2) @ rotation.mT
    prior = Gaussian(mean.to(dtype), ((covariance + covariance.mT) / 2).to(dtype))
    return _linear(prior, Matrix(((u * s) @ vt).to(dtype)), 0.1, generator)


def gmm25(d: int, d_y: int, seed: int, dtype: torch.dtype = F64) -> Problem:
    """The posterior of a mixture of 25 unit Gaussians in `d` dimensions, measured `d_y` times through a random matrix.

    After the protocol of MCGDiff and DCPS (arXiv:2308.07983, arXiv:2410.09945): means (8i, 8j) for
    i, j in -2..2, repeated d/2 times; weights uniform on (0, 1); A = U diag(s) V^T with Haar U and
    V and s uniform on (0, 1); noise level uniform on (0, 1) times max(s), plus 0.01.
    """
    require(d >= 2 and d % 2 == 0, f"The means of gmm25 are pairs repeated; d={d} is not even.")
    generator = torch.Generator().manual_seed(seed)
    grid = [(8.0 * i, 8.0 * j) for i in range(-2, 3) for j in range(-2, 3)]
    means = torch.tensor(grid, dtype=F64).repeat(1, d // 2)
    weights = _uniform(25, generator=generator)
    u, vt = _haar(d_y, d, generator)
    s = _uniform(d_y, generator=generator)
    std = float(_uniform(generator=generator) * s.max()) + 0.01
    covariances = torch.eye(d, dtype=F64).expand(25, d, d)
    prior = GaussianMixture(weights.to(dtype), means.to(dtype), covariances.to(dtype))
    return _linear(prior, Matrix(((u * s) @ vt).to(dtype)), std, generator)


def banana(seed: int = 0, dtype: torch.dtype = F64) -> Problem:
    """A curved density in the plane, measured across its arms: two unequal modes, each bent.

    101 round Gaussians of width 0.2 along the parabola b = (a^2 - 1) / 2 with weights that make `a`
    nearly standard normal. Measured is `0.3 a + b` with noise of level 0.2.
    """
    a = torch.linspace(-3, 3, 101, dtype=F64)
    means = torch.stack([a, (a**2 - 1) / 2], -1)
    covariances = 0.2**2 * torch.eye(2, dtype=F64).expand(101, 2, 2)
    weights = torch.exp(-(a**2) / 2)
    prior = GaussianMixture(weights.to(dtype), means.to(dtype), covariances.to(dtype))
    operator = Matrix(torch.tensor([[0.3, 1.0]], dtype=dtype))
    return _linear(prior, operator, 0.2, torch.Generator().manual_seed(seed))


def _radius(x: Tensor) -> Tensor:
    return (x**2).sum(-1, keepdim=True)


def _product(x: Tensor) -> Tensor:
    return x.prod(-1, keepdim=True)


MAPS: dict[str, Callable[[Tensor], Tensor]] = {"radius": _radius, "product": _product}


def nonlinear_2d(kind: str = "radius", seed: int = 0, dtype: torch.dtype = F64) -> Problem:
    """Three Gaussians in the plane, measured by |x|^2 (`radius`, a broken ring) or x_1 x_2 (`product`, two hyperbolas).

    The posterior is exact by quadrature. The noise level is 0.5.
    """
    if kind not in MAPS:
        raise unknown("kind", kind, MAPS)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    means = torch.tensor([[-1.5, 0.0], [1.5, 1.0], [0.0, -2.0]], dtype=F64)
    shapes = [[[1.0, 0.3], [0.3, 0.5]], [[0.4, -0.2], [-0.2, 0.6]], [[0.8, 0.0], [0.0, 0.2]]]
    covariances = torch.tensor(shapes, dtype=F64)
    prior = GaussianMixture(weights.to(dtype), means.to(dtype), covariances.to(dtype))
    operator = Function(MAPS[kind], Space((2,), dtype))
    truth, target = _measure(prior, operator, 0.5, torch.Generator().manual_seed(seed))
    law, likelihood = (
        GaussianMixture(weights, means, covariances),
        target.likelihood.to(F64, "cpu"),
    )
    y = target.y.double()
    reach = 7 * math.sqrt(float(covariances.diagonal(dim1=1, dim2=2).max()))
    exact = Quadrature(
        lambda x: law.log_prob(x) + likelihood.log_prob(y, x),
        low=(means.amin(0) - reach).tolist(),
        high=(means.amax(0) + reach).tolist(),
        dtype=dtype,
    )
    return Problem(target, exact, truth, exact.log_evidence)


class Build(Protocol):
    """Makes one instance of a problem a seed."""

    def __call__(self, *, seed: int, dtype: torch.dtype = F64) -> Problem:
        """The instance."""


PROBLEMS: dict[str, Build] = {
    "gaussian-half": partial(gaussian_half, 1.0, 8),
    "gaussian-half-small": partial(gaussian_half, 0.25, 8),
    "gaussian-correlated": partial(gaussian_correlated, 16, 8),
    "gmm25-8-1": partial(gmm25, 8, 1),
    "gmm25-8-2": partial(gmm25, 8, 2),
    "gmm25-8-4": partial(gmm25, 8, 4),
    "gmm25-80-1": partial(gmm25, 80, 1),
    "gmm25-80-2": partial(gmm25, 80, 2),
    "gmm25-80-4": partial(gmm25, 80, 4),
    "gmm25-200-4": partial(gmm25, 200, 4),
    "banana": banana,
    "radius": partial(nonlinear_2d, "radius"),
    "product": partial(nonlinear_2d, "product"),
}
