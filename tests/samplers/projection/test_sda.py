"""SDA."""

from itertools import pairwise

import pytest
import torch

import posteria as po
from affine import Affine, Noise, Problem
from common.projection import (
    assert_same_law,
    general,
    law,
    vp,
)
from helpers import F64, normal
from posteria.core.rng import Rng
from posteria.samplers.projection.sda import SDA, SDAState


def sda(p: Problem, levels: list[float], gamma: float) -> Affine:
    """Algorithm 3 without corrections, in the paper's units: mu and sigma, and eps as the estimate of the noise."""
    noise = Noise()
    x = noise(vp(levels[0]) * levels[0] * p.eye)
    for ratio, after in pairwise(levels):
        mu, sigma = vp(ratio), vp(ratio) * ratio
        x0 = p.denoise(1 / mu * p.eye @ x, ratio)
        eps = (1 / sigma * p.eye @ x) + (-mu / sigma * p.eye @ x0)
        jacobian = p.a @ p.spread(ratio) / ratio**2 / mu
        variance = p.std**2 + gamma * (sigma / mu) ** 2
        score = (-jacobian.mT @ p.a / variance @ x0).shift(jacobian.mT @ p.y / variance)
        eps = eps + (-sigma * p.eye @ score)
        r = vp(after) / mu
        x = (r * p.eye @ x) + ((vp(after) * after - r * sigma) * p.eye @ eps)
    return x


def test_sda_predictor_is_its_algorithm() -> None:
    # Catches: gamma times sigma in the place of (sigma / mu)^2, a guidance without the Jacobian
    # of the denoiser, a factor mu lost in the change of units.
    problem = general()
    sampler = SDA(schedule=po.Karras(steps=60), gamma=1.0, corrections=0)
    theirs = sda(problem, sampler.schedule.levels(), 1.0)
    assert_same_law(law(sampler, problem.target()), theirs)


def test_sda_corrector_is_its_algorithm() -> None:
    # Algorithm 4 in the paper's units, where delta = tau d / |score|^2. Catches: a mean over the
    # batch, noise of the wrong units.
    problem = general()
    target, prior = problem.target(), po.Gaussian(problem.mean, problem.covariance)
    x, sigma, after, gamma, tau = 2 * normal(3, 4, seed=8), 2.0, 1.9, 1.0, 0.3
    start = SDAState(x=x, x0=x, energy=torch.ones(3, 1, dtype=F64))
    given = SDA().narrow(target)
    plain = SDA(gamma=gamma, corrections=0).step(given, start, sigma, after, Rng([1, 2, 3]))
    moved = SDA(gamma=gamma, corrections=1, tau=tau, memory=0.0).step(
        given, start, sigma, after, Rng([1, 2, 3])
    )
    a, mu = problem.a, vp(after)
    jacobian = a @ problem.spread(after) / after**2
    residual = problem.y - prior(plain.x, after) @ a.mT
    score = (prior(plain.x, after) - plain.x) / after**2
    score = (score + residual @ jacobian / (problem.std**2 + gamma * after**2)) / mu
    delta = tau / score.square().mean(1, keepdim=True)
    noise = Rng([1, 2, 3]).normal(target.space)
    theirs = mu * plain.x + delta * score + (2 * delta).sqrt() * noise
    assert torch.allclose(mu * moved.x, theirs, atol=1e-10)


@pytest.mark.usefixtures("one_stream")
def test_sda_does_not_diverge_where_the_published_step_does() -> None:
    # Little noise and few steps. Catches: a shift that is not cut (errors of 1e10 deviations).
    problem = general(0.005)
    exact = problem.posterior()
    x = SDA(schedule=po.Karras(steps=60)).sample(problem.target(), seeds=range(200))
    std = exact.covariance.diagonal().sqrt()
    assert ((x.mean(0) - exact.mean) / std).abs().max() < 1
    assert (problem.y - x @ problem.a.mT).abs().max() < 1


@pytest.mark.usefixtures("one_stream")
def test_sda_keeps_its_variance_in_few_dimensions() -> None:
    # Catches: a Langevin step of the length of one score, which is sometimes nearly 0: without
    # memory the variance is several times too large.
    problem = general(0.05)
    exact = problem.posterior().covariance.diagonal()
    ratio = {}
    for memory in (0.0, 0.95):
        sampler = SDA(schedule=po.Karras(steps=200), memory=memory)
        x = sampler.sample(problem.target(), seeds=range(200))
        ratio[memory] = (x.var(0) / exact).mean().item()
    assert ratio[0.95] < 1.5 < ratio[0.0]
