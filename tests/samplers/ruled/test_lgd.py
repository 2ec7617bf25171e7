"""LGD."""

import math

import pytest
import torch
from torch import Tensor

import posteria as po
from common.moment_matching import SMALL
from helpers import F64, normal
from posteria.guidance.likelihood.smoothed import smoothed_score
from posteria.problems.toy import gmm25
from posteria.samplers.ruled import LGD
from posteria.testing import example_posterior


@pytest.mark.usefixtures("one_stream")
def test_lgd_in_one_dimension() -> None:
    # Prior N(0, 1), x_vp = 1 at abar = 1/2, y = 2 with std 1/2: the exact guidance is 1.219 and that of
    # the denoised point alone 3.657. Catches: a log-sum-exp gradient divided by the number of draws.
    prior = po.Gaussian(torch.zeros(1, dtype=F64), torch.eye(1, dtype=F64))
    likelihood = po.GaussianLikelihood(po.operators.Identity((1,)), std=0.5)
    target = po.Posterior(prior, likelihood, torch.tensor([2.0], dtype=F64))

    def guidance(points: int, seeds: int, r: float = math.sqrt(0.5)) -> float:
        x0 = torch.full((seeds, 1), math.sqrt(0.5), dtype=F64)
        cloud = r * po.Rng(range(seeds)).normal(target.space, points)
        score = smoothed_score(target, x0, cloud)
        return float(math.sqrt(0.5) * score.mean())

    assert guidance(1, 2, r=0.0) == pytest.approx(3.657, abs=1e-3)
    assert guidance(20_000, 20) == pytest.approx(1.219, abs=0.01)
    # Of few draws the mean is too long; their median at n = 10 is 1.366.
    assert guidance(100, 2000) == pytest.approx(1.236, abs=0.02)
    assert guidance(10, 4000) == pytest.approx(1.445, abs=0.05)


def test_lgd_takes_any_likelihood_and_one_measurement_a_sample() -> None:
    # Catches: measurements of one sample scored with the draws of another.
    target, sampler = example_posterior(), SMALL["lgd"]
    likelihood = target.likelihood

    def log_prob(y: Tensor, x: Tensor) -> Tensor:
        return likelihood.log_prob(y, x)

    ys = normal(3, 4, seed=5)
    for law in (likelihood, po.FunctionLikelihood(log_prob, shape=(4,))):
        together = sampler.sample(po.Posterior(target.prior, law, ys), seeds=[4, 5, 6])
        for i in range(3):
            alone = sampler.sample(po.Posterior(target.prior, law, ys[i]), seeds=[4 + i])
            assert torch.allclose(alone[0], together[i], atol=1e-10)
    one = po.Posterior(target.prior, likelihood, ys[:1])
    assert torch.equal(
        sampler.sample(one, [1, 2]),
        sampler.sample(po.Posterior(target.prior, likelihood, ys[0]), [1, 2]),
    )


@pytest.mark.filterwarnings("ignore:LGD diverged")
def test_lgd_reaches_no_farther_than_it_may() -> None:
    # With little noise and few draws the guidance is that of the nearest draw, far too long; the
    # iterates then grow from step to step. Catches: samples of 1e50.
    target = gmm25(8, 4, 0).target
    sampler = LGD(schedule=po.Karras(steps=50), points=8)
    assert sampler.sample(target, range(20)).abs().max() < 100
    unbounded = LGD(schedule=po.Karras(steps=50), points=8, reach=None)
    assert unbounded.sample(target, range(20)).abs().max() > 1e6
