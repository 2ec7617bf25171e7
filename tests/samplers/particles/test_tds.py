"""TDS and its twists."""

import math

import pytest
import torch
from torch import Tensor

import posteria as po
from common.particles import counts, last, own
from helpers import F64, normal
from posteria.core import linalg
from posteria.samplers.particles.tds import TDS, _twist
from posteria.testing import example_posterior


def isotropic(operator: po.operators.LinearOperator, std: float | Tensor) -> po.Posterior:
    prior = po.Gaussian(normal(4), 0.49 * torch.eye(4, dtype=F64))
    return po.Posterior(prior, po.GaussianLikelihood(operator, std), normal(2, seed=3))


A = normal(2, 4, seed=9)
STDS: list[tuple[po.operators.LinearOperator, float | Tensor]] = [
    (po.operators.Matrix(A), 0.3),
    (po.operators.LinearFunction(lambda x: x @ A.to(x).mT, po.Space((4,), F64)), 0.3),
    (po.operators.Matrix(A), torch.tensor([0.3, 1.1], dtype=F64)),
]


@pytest.mark.parametrize("index", range(3), ids=["svd", "cg", "noise per entry"])
def test_the_twist_is_exact_for_an_isotropic_gaussian(index: int) -> None:
    # Catches: a wrong variance of the signal given x, A A^T left out, a guide that is not the
    # gradient of the twist.
    operator, std = STDS[index]
    target, sigma = isotropic(operator, std), 0.8
    x = normal(2, 5, 4, seed=1)
    _, twist, slope = _twist(target, x, sigma, 0.7)
    variance = 0.49 * sigma**2 / (0.49 + sigma**2)
    covariance = variance * A @ A.mT + torch.as_tensor(std, dtype=F64).expand(2).square().diag()

    def exact(z: Tensor) -> Tensor:
        law = torch.distributions.MultivariateNormal(target.prior(z, sigma) @ A.mT, covariance)
        return law.log_prob(target.y)

    gap = twist - exact(x)
    assert (gap - gap[0, 0]).abs().max() < 1e-8
    assert torch.allclose(slope, linalg.score(exact, x), atol=1e-7)


@pytest.mark.parametrize("kind", ["nonlinear", "counts", "own"])
def test_the_guide_is_the_gradient_of_the_twist(kind: str) -> None:
    # Catches: a guide without the variance of the twist, a transposed reshape of the particles.
    target = counts() if kind == "counts" else example_posterior("nonlinear")
    target = own(target) if kind == "own" else target
    x, v = (normal(2, 5, *target.space.shape, seed=seed) for seed in (1, 2))
    slope = sum(
        weight * _twist(target, x + step * v, 0.8, 0.7)[1]
        for weight, step in (
            (8e5 / 12, 1e-5),
            (-8e5 / 12, -1e-5),
            (-1e5 / 12, 2e-5),
            (1e5 / 12, -2e-5),
        )
    )
    guide = _twist(target, x, 0.8, 0.7)[2]
    assert torch.allclose(slope, (guide * v).flatten(2).sum(-1), rtol=1e-6)


def importance(target: po.Posterior, n: int = 200_000) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and log-evidence of a posterior by draws from its prior."""
    prior = target.prior
    assert isinstance(prior, po.GaussianMixture)
    x = prior.sample(n, torch.Generator().manual_seed(3))
    log_weight = target.likelihood.log_prob(target.y, x)
    weight = log_weight.softmax(0).reshape(-1, *[1] * (x.ndim - 1))
    mean = (weight * x).sum(0)
    variance = (weight * (x - mean) ** 2).sum(0)
    return mean, variance.sqrt(), log_weight.logsumexp(0) - math.log(n)


@pytest.mark.parametrize("kind", ["nonlinear", "counts"])
def test_tds_beyond_linear_measurements(kind: str) -> None:
    # Catches: the twist of the denoised signal alone, whose error on the counts was 1 standard
    # deviation and that of the evidence 30.
    target = counts() if kind == "counts" else example_posterior("nonlinear")
    mean, std, log_evidence = importance(target)
    state = last(TDS(), target, 6)
    error = (state.x.flatten(0, 1).mean(0) - mean) / std
    assert error.square().mean().sqrt() < 0.25
    assert (state.log_evidence.logsumexp(0) - math.log(6) - log_evidence).abs() < 1.5
