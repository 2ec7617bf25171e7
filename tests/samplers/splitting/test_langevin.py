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
@pytest.mark.parametrize("kept", [0.0, 0.8])
def test_plain_steps_are_an_affine_map(kept: float) -> None:
    # Catches: noise, start or friction of damped Hamiltonian steps in other units than the position.
    lr, variance, slope, y = 0.05, 0.8, 2.0, 1.5
    likelihood = po.GaussianLikelihood(po.operators.Identity((1,)), 1 / math.sqrt(slope))
    n, langevin = 20_000, Langevin(steps=12, lr=lr, adaptive=False, momentum=kept)
    target = po.Posterior(gaussian(1), likelihood, torch.tensor([y], dtype=F64))
    x = draw_near(
        target,
        torch.zeros(n, 1, dtype=F64),
        variance,
        Rng(range(n)),
        langevin=langevin,
        exact=False,
    )
    curve = 1 / variance + slope
    # Of position and velocity, `lr` times that of the paper's code.
    move = torch.tensor([[1 - lr * curve, kept], [-lr * curve, kept]], dtype=F64)
    noise = 2 * (1 - kept) * lr * torch.ones(2, 2, dtype=F64)
    mean, cov = (
        torch.zeros(2, dtype=F64),
        torch.diag(torch.tensor([0.0, lr * (kept > 0)])).double(),
    )
    for _ in range(12):
        mean, cov = move @ mean + lr * slope * y, move @ cov @ move.T + noise
    assert x.mean().item() == pytest.approx(float(mean[0]), abs=4 * float(cov[0, 0] / n) ** 0.5)
    assert x.var().item() == pytest.approx(float(cov[0, 0]), rel=4 * math.sqrt(2 / n))


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
