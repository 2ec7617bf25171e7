"""Small exact problems and generators for the tests."""

import torch
from torch import Tensor

import posteria as po

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def random_covariance(d: int, seed: int = 0) -> Tensor:
    factor = normal(d, d, seed=seed) / d**0.5
    return factor @ factor.mT + 0.2 * torch.eye(d, dtype=F64)


def gaussian(d: int = 4, seed: int = 0) -> po.Gaussian:
    return po.Gaussian(normal(d, seed=seed + 1), random_covariance(d, seed))


def mixture(d: int = 4, k: int = 3, seed: int = 0, tied: bool = False) -> po.GaussianMixture:
    covariances = torch.stack([random_covariance(d, seed + (0 if tied else i)) for i in range(k)])
    weights = torch.rand(k, dtype=F64, generator=torch.Generator().manual_seed(seed)) + 0.1
    return po.GaussianMixture(weights, 2 * normal(k, d, seed=seed + 7), covariances)


def linear_posterior(
    prior: po.Gaussian | po.GaussianMixture, m: int = 2, std: float = 0.5
) -> po.Posterior:
    a = normal(m, prior.space.size, seed=11)
    y = normal(m, seed=12)
    operator = po.operators.Matrix(a, prior.space.shape)
    return po.Posterior(prior, po.GaussianLikelihood(operator, std=std), y)
