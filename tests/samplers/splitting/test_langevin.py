"""Langevin steps."""

import math

import pytest
import torch

import posteria as po
from affine import Affine
from common.splitting import as_affine
from common.theory import assert_same_law
from helpers import F64, gaussian, normal
from posteria.core.rng import Rng
from posteria.samplers.splitting.langevin import Langevin, draw_near


@pytest.mark.usefixtures("one_stream")
def test_langevin_on_a_gaussian() -> None:
    # Catches: a discretisation error of the variance (a third with plain steps of this size), a
    # step that is larger than the curvature allows.
    matrix = torch.tensor([[3.0, 1.0, 0.0], [1.0, -2.0, 0.0]], dtype=F64)
    likelihood = po.GaussianLikelihood(po.operators.Matrix(matrix), std=0.7)
    prior = po.Gaussian(normal(3), 0.8 * torch.eye(3, dtype=F64))
    target = po.Posterior(prior, likelihood, normal(2, seed=2))
    n, langevin = 4000, Langevin(steps=40, lr=0.5)
    mean = prior.mean.expand(n, 3)
    x = draw_near(target, mean, 0.8, Rng(range(n)), langevin=langevin, exact=False)
    assert_same_law(x, as_affine(prior.posterior(likelihood, target.y)), slack=0.03)


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("steps", [1, 3])
def test_langevin_where_nothing_is_measured(steps: int) -> None:
    # Catches: a start at the mean, a first step that adds to the variance of the start.
    flat = po.FunctionLikelihood(lambda y, x: 0 * x.sum(-1))
    target = po.Posterior(gaussian(2), flat, torch.zeros(1, dtype=F64))
    n, langevin = 20_000, Langevin(steps=steps, lr=0.3)
    mean = torch.ones(n, 2, dtype=F64)
    x = draw_near(target, mean, 0.8, Rng(range(n)), langevin=langevin, exact=True)
    assert_same_law(x, Affine(mean[0], math.sqrt(0.8) * torch.eye(2, dtype=F64)), slack=0.0)
