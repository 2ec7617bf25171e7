"""What the tests of particles share."""

from typing import Any

import torch
from torch import Tensor

import posteria as po
from helpers import F64, mixture, normal
from posteria.core.rng import Rng
from posteria.likelihood import PoissonLikelihood
from posteria.samplers.particles.population import (
    ParticleState,
    PopulationSampler,
)


def last(sampler: PopulationSampler[Any], target: po.Posterior, populations: int) -> ParticleState:
    """The last state of whole populations."""
    seeds = [k * sampler.particles for k in range(populations)]
    *_, state = sampler.iterate(target, seeds)
    assert isinstance(state, ParticleState)
    return state


def counts(peak: float = 20.0) -> po.Posterior:
    prior = mixture()
    matrix = normal(4, 4, seed=4)
    operator = po.operators.Function(
        lambda x: torch.nn.functional.softplus(x @ matrix.to(x).mT), po.Space((4,), F64)
    )
    likelihood = PoissonLikelihood(operator, peak)
    truth = prior.sample(1, torch.Generator().manual_seed(1))
    return po.Posterior(prior, likelihood, likelihood.sample(truth, Rng([0], stream=1))[0])


def own(target: po.Posterior) -> po.Posterior:
    """The same likelihood as a function that a user may write, who thinks of one batch axis."""

    def log_prob(y: Tensor, x: Tensor) -> Tensor:
        assert x.ndim == 1 + len(target.space.shape)
        return target.likelihood.log_prob(y, x)

    return po.Posterior(target.prior, po.FunctionLikelihood(log_prob, (4,)), target.y)


def fixture() -> tuple[po.Posterior, Tensor]:
    """Three modes in two dimensions of which one entry is measured, and the mean of the posterior."""
    means = torch.tensor([[-2.0, -1.0], [2.0, 1.0], [0.0, 3.0]], dtype=F64)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    prior = po.GaussianMixture(weights, means, 0.3 * torch.eye(2, dtype=F64).expand(3, 2, 2))
    operator = po.operators.Matrix(torch.tensor([[1.0, 0.0]], dtype=F64))
    likelihood, y = po.GaussianLikelihood(operator, std=0.5), torch.ones(1, dtype=F64)
    exact = prior.posterior(likelihood, y)
    mean = (exact.weights[:, None] * exact.means).sum(0)
    assert torch.allclose(mean, torch.tensor([1.090, 1.798], dtype=F64), atol=1e-3)
    return po.Posterior(prior, likelihood, y), mean


def population_error(sampler: PopulationSampler[Any], populations: int) -> tuple[float, float]:
    """Mean error of a population's mean, and error of the mean over populations (largest entry)."""
    target, mean = fixture()
    error = last(sampler, target, populations).x.mean(1) - mean
    return float(error.abs().amax(1).mean()), float(error.mean(0).abs().max())


LEVELS = po.schedules.LogLinear(steps=100, sigma_min=0.01, sigma_max=100)
