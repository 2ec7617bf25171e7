"""MGDM."""

import math

import pytest
import torch
from torch import Tensor

import posteria as po
from affine import mgdm
from common.theory import assert_same_law, small_problem
from helpers import F64, mixture, normal


@pytest.mark.usefixtures("one_stream")
def test_mgdm_has_the_law_that_its_formulas_imply() -> None:
    problem, schedule = small_problem(), po.Karras(steps=8, sigma_min=0.05, sigma_max=20.0)
    sampler = po.MGDM(
        schedule=schedule,
        gibbs=2,
        points=6,
        index=po.samplers.Midpoint(0.6),
        inner=po.samplers.InnerSteps(100),
        lr=0.03,
    )
    x = sampler.sample(problem.target(), seeds=range(1500))
    assert_same_law(x, mgdm(problem, schedule, 6, 2, 0.6), slack=0.04)


def test_exact_sweeps_leave_their_law_invariant() -> None:
    # The augmented law of MGDM on a Gaussian: x_s | x_0, x_t is Gaussian with precision I/s_p^2 +
    # J^T A^T A J / std^2. Catches: a bridge or a reference that does not belong to the same joint
    # law.
    p, s, t, above = small_problem(), 0.5, 1.5, 3.0
    precision, weighted = p.guide(s)
    cov_s = p.covariance + s**2 * p.eye
    # Joint of (x_0, x_s, x_t) given x_above: start from x_s prop. to guide(x_s) p(x_s) q(x_above |
    # x_s).
    total = precision + cov_s.inverse() + p.eye / (above**2 - s**2)
    x_above = normal(3, seed=3)
    mean = total.inverse() @ (weighted + cov_s.inverse() @ p.mean + x_above / (above**2 - s**2))
    n, generator = 200_000, torch.Generator().manual_seed(0)
    x_s = (
        mean
        + torch.randn(n, 3, dtype=F64, generator=generator)
        @ torch.linalg.cholesky(total.inverse()).mT
    )

    def normal_like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, dtype=F64, generator=generator)

    def pinned(low: Tensor, high: Tensor, a: float, b: float, c: float) -> Tensor:
        weight, std = (
            (b**2 - a**2) / (c**2 - a**2),
            math.sqrt((b**2 - a**2) * (c**2 - b**2) / (c**2 - a**2)),
        )
        return low + weight * (high - low) + std * normal_like(low)

    x_t = pinned(x_s, x_above.expand(n, 3), s, t, above)
    prior = po.Gaussian(p.mean, p.covariance)
    x_0 = prior(x_s, s) + normal_like(x_s) @ torch.linalg.cholesky(p.spread(s)).mT
    # One sweep of block (i).
    variance = s**2 * (t**2 - s**2) / t**2
    sweep = (precision + p.eye / variance).inverse()
    reference = x_0 + s**2 / t**2 * (x_t - x_0)
    again = (reference / variance + weighted) @ sweep + normal_like(x_s) @ torch.linalg.cholesky(
        sweep
    ).mT
    std = total.inverse().diagonal().sqrt()
    assert ((again.mean(0) - mean) / std).abs().max() < 0.01
    assert ((again.T.cov() - total.inverse()) / torch.outer(std, std)).abs().max() < 0.02


def test_pairing_of_transitions() -> None:
    # p(x_s | x_t) p(x_t) = p(x_s) q(x_t | x_s) on a mixture, by conditioning the mixture of x_s on
    # x_t.
    prior, s, t = mixture(2), 0.5, 1.5
    at_s, at_t = prior.noised(s), prior.noised(t)
    x_s, x_t = normal(2, seed=1), normal(2, seed=2)
    forward = po.GaussianLikelihood(po.operators.Identity((2,)), std=math.sqrt(t**2 - s**2))
    backward = at_s.posterior(forward, x_t)
    left = backward.log_prob(x_s) + at_t.log_prob(x_t)
    right = at_s.log_prob(x_s) + forward.log_prob(x_t, x_s)
    assert left.item() == pytest.approx(right.item())
