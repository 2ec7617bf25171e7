"""ReSample and DAPS in latents whose posterior is known."""

from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from helpers import F64, normal, random_covariance
from posteria.priors import Decoder, Latent
from posteria.samplers import ReSample

LATENTS, SIGNALS, STD = 4, 9, 0.1
BASIS: Tensor = torch.linalg.qr(normal(SIGNALS, LATENTS, seed=3))[0]
PRIOR = po.Gaussian(normal(LATENTS), random_covariance(LATENTS))


def problem(encoder: Any, operator: Any = None) -> tuple[po.Posterior, po.Gaussian]:
    """A posterior of latents that are decoded onto a plane, and the same as a Gaussian."""
    decoder = Decoder(lambda z: z @ BASIS.mT, PRIOR.space, (SIGNALS,), encoder)
    measured = po.operators.Matrix(normal(3, SIGNALS, seed=5))
    truth = PRIOR.sample(1, torch.Generator().manual_seed(1))
    y = measured(decoder(truth))[0] + STD * normal(3, seed=8)
    likelihood = po.GaussianLikelihood(operator or measured, std=STD)
    plain = po.GaussianLikelihood(po.operators.Matrix(measured.matrix() @ BASIS), std=STD)
    return po.Posterior(Latent(PRIOR, decoder), likelihood, y), PRIOR.posterior(plain, y)


@pytest.mark.parametrize("encoder", [lambda x: x @ BASIS, None], ids=["encoded", "by descent"])
def test_resample_is_near_the_posterior_of_latents(encoder: Any) -> None:
    # Catches: a move with the wrong sign or units, weights of the two that are exchanged, a missing draw.
    target, exact = problem(encoder)
    x = ReSample(schedule=po.schedules.Table(steps=200)).sample(target, 300)
    spread = exact.covariance.diagonal().sqrt()
    # Measured: .07 and .11; .78 to .83.
    assert ((x.mean(0) - exact.mean) / spread).abs().max() < 0.3
    assert ((x.std(0) / spread - 0.85).abs() < 0.2).all()


def test_daps_draws_from_the_posterior_of_latents() -> None:
    # Catches: a likelihood of latents whose derivative is not that of what they are decoded to.
    target, exact = problem(None)
    x = po.DAPS(schedule=po.schedules.LogLinear(steps=60, sigma_min=0.01)).sample(target, 200)
    spread = exact.covariance.diagonal().sqrt()
    # Measured at 400 steps: .03 and 1.03 to 1.04.
    assert ((x.mean(0) - exact.mean) / spread).abs().max() < 0.4
    assert ((x.std(0) / spread - 1).abs() < 0.2).all()


@pytest.mark.parametrize("kind", ["signal", "by descent"])
def test_residuals_end_at_the_noise(kind: str) -> None:
    # Catches: noise that is reproduced, a sample that moves on after it has arrived, and one that waits for another.
    target, exact = problem(None)
    if kind == "signal":
        matrix = target.likelihood.operator.outer.matrix() @ BASIS  # type: ignore[attr-defined]
        likelihood = po.GaussianLikelihood(po.operators.Matrix(matrix), std=STD)
        target = po.Posterior(PRIOR, likelihood, target.y)
    sampler = ReSample(inner=400)
    # One is far from what was measured, and one is at it.
    x = torch.stack([exact.mean + 0.7 * normal(LATENTS, seed=4), exact.mean])
    moved = sampler._moved(target, x, 0.5)
    residual: Tensor = target.y - target.likelihood.operator(moved)  # type: ignore[attr-defined]
    rms = residual.norm(dim=1) / (STD * 3**0.5)
    assert torch.equal(moved[1], x[1])
    assert 0.9 < rms[0] < 1.001
    alone = sampler._moved(target, x[:1], 0.5)
    assert torch.allclose(alone, moved[:1], rtol=1e-12)


def test_a_draw_between_two_gaussians() -> None:
    # Catches: weights in other units than those of the levels.
    sampler = ReSample(schedule=po.Karras(steps=4), every=1, begin=0.0, gamma=2.0)
    flat = po.Gaussian(torch.zeros(1, dtype=F64), torch.eye(1, dtype=F64))
    operator = po.operators.Matrix(torch.eye(1, dtype=F64))
    target = po.Posterior(flat, po.GaussianLikelihood(operator, std=1e-9), torch.tensor([5.0]))
    rng, state = po.Rng(20000), po.core.state.State(x=3 + torch.zeros(20000, 1), x0=torch.zeros(1))
    after = sampler.step(target, state, 2.0, 1.0, rng)
    # The prior goes from 3 by its estimate 3/5: to 3/5 + (3 - 3/5) / 2.
    wide, low, way = 2 * 1 * 3 / 4, 1.0, 0.6 + 1.2
    mean = (wide * 5 + low * way) / (wide + low)
    assert float(after.x.mean()) == pytest.approx(mean, abs=0.02)
    assert float(after.x.var()) == pytest.approx(wide * low / (wide + low), rel=0.03)
