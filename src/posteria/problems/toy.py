"""Problems whose posterior is known exactly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..analytic import GaussianMixture
from ..likelihood import GaussianLikelihood
from ..operators import Matrix
from ..target import Posterior


@dataclass(frozen=True, eq=False)
class Problem:
    """A target with its exact answer.

    Args:
        target: What a sampler is given.
        exact: Its law.
        truth: The signal that was measured, `[*event]`.
    """

    target: Posterior
    exact: GaussianMixture
    truth: Tensor


def gmm25(d: int, d_y: int, seed: int, dtype: torch.dtype = torch.float64) -> Problem:
    """The posterior of a mixture of 25 unit Gaussians seen through a random matrix.

    After the protocol of MCGDiff and DCPS (arXiv:2308.07983, arXiv:2410.09945): means (8i, 8j) for
    i, j in -2..2, repeated d/2 times; weights uniform on (0, 1); A = U diag(s) V^T with Haar U and
    V and s uniform on (0, 1); noise level uniform on (0, 1) times max(s), plus 0.01.

    Args:
        d: Dimension, even.
        d_y: Number of measurements.
        seed: Draws weights, operator, truth and measurement.
        dtype: Dtype of the prior.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, dtype=torch.float64, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    grid = [(8.0 * i, 8.0 * j) for i in range(-2, 3) for j in range(-2, 3)]
    means = torch.tensor(grid, dtype=torch.float64).repeat(1, d // 2)
    weights = uniform(25)
    u, _, vt = torch.linalg.svd(normal(d_y, d), full_matrices=False)
    s = uniform(d_y)
    std = float(uniform() * s.max()) + 0.01
    covariances = torch.eye(d, dtype=torch.float64).expand(25, d, d)
    prior = GaussianMixture(weights.to(dtype), means.to(dtype), covariances.to(dtype))
    likelihood = GaussianLikelihood(Matrix(((u * s) @ vt).to(dtype)), std=std)
    truth = prior.sample(1, generator)[0]
    noise = normal(d_y).to(dtype)
    y = likelihood.operator(truth) + std * noise
    target = Posterior(prior, likelihood, y)
    return Problem(target, prior.posterior(likelihood, y), truth)
