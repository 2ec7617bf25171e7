"""MMPS."""

import math
from itertools import pairwise

import pytest
import torch

import posteria as po
from common.moment_matching import correlated, exact
from helpers import F64, normal
from posteria.samplers.ruled import MMPS


def white(s0: float, d: int = 8) -> po.Posterior:
    """N(0, s0^2) seen in half of its entries."""
    prior = po.Gaussian(torch.zeros(d, dtype=F64), s0**2 * torch.eye(d, dtype=F64))
    likelihood = po.GaussianLikelihood(
        po.operators.Inpainting(torch.arange(d) < d // 2), std=s0 / 2
    )
    return po.Posterior(prior, likelihood, s0 * normal(d // 2, seed=4))


def test_second_order_keeps_the_variance() -> None:
    # The law of a Gaussian after 200 steps, by its recursion: an estimate is c x, c the same for all
    # samples, and so is the last one. Catches: a default that loses 5 % of the variance.
    ratio = {}
    for order in (1, 2):
        schedule = po.Karras(steps=200)
        levels, s = schedule.levels(), 0.5
        # x and the last estimate, as coefficients of independent normals.
        own, last = [levels[0]], [0.0]
        for k, (sigma, after) in enumerate(pairwise(levels)):
            estimate = [s**2 / (s**2 + sigma**2) * v for v in own]
            goal = estimate
            if order == 2 and k > 0 and after > 0:
                half = math.log(sigma / after) / math.log(levels[k - 1] / sigma) / 2
                goal = [e + half * (e - p) for e, p in zip(estimate, last, strict=True)]
            weight = (after / sigma) ** 2
            own = [g + weight * (v - g) for g, v in zip(goal, own, strict=True)]
            own.append(after * math.sqrt(1 - weight))
            last = [*estimate, 0.0]
        ratio[order] = sum(v**2 for v in own) / s**2
    assert 0.92 < ratio[1] < 0.96
    assert 0.985 < ratio[2] < 1.015


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("problem", [white(1.0), white(0.25), correlated(), correlated(0.25)])
def test_defaults_of_mmps_are_exact_on_gaussians(problem: po.Posterior) -> None:
    # 6000 samples have 0.007 to 0.011 and 0.991 to 1.005. Catches: a schedule or a stopping rule
    # that knows the scale of the data.
    x, law = MMPS().sample(problem, seeds=range(800)), exact(problem)
    std = law.covariance.diagonal().sqrt()
    assert ((x.mean(0) - law.mean) / std).square().mean().sqrt() < 0.06
    assert 0.95 < (x.var(0) / std**2).mean() < 1.05
