"""Posteriors of pictures: the law of the small version against whole covariances, and the digits that ship."""

import math

import pytest
import torch

import posteria as po
from posteria.analytic.low_rank_posterior import PPCAPosterior
from posteria.metrics import AgainstExact
from posteria.problems.pictures import PICTURES, pictures_exact, tiny
from posteria.problems.toy import Problem

F64 = torch.float64


def law_of(problem: Problem) -> PPCAPosterior:
    assert isinstance(problem.exact, PPCAPosterior)
    return problem.exact


@pytest.mark.parametrize("task", PICTURES)
def test_tiny_against_whole_covariances(task: str) -> None:
    # Catches: the answer to another measurement or noise level; a mask that another seed has drawn.
    law = tiny(F64)
    problem = pictures_exact(task, 0.1, seed=3, prior=law)
    covariances = (law.factors * law.variances[:, None]) @ law.factors.mT
    eye = torch.eye(64, dtype=F64)
    whole = po.GaussianMixture(
        law.weights, law.means, covariances + law.noise[:, None, None] * eye
    )
    target, exact = problem.target, law_of(problem)
    posterior = whole.posterior(target.likelihood, target.y)
    assert problem.log_evidence == pytest.approx(
        float(whole.log_evidence(target.likelihood, target.y)), abs=1e-8
    )
    assert torch.allclose(exact.weights, posterior.weights, atol=1e-8)
    assert torch.allclose(exact.covariance_times(eye), posterior.covariance, atol=1e-8)
    residual = (target.likelihood.operator(problem.truth) - target.y) / 0.1
    assert residual.square().mean() == pytest.approx(1, abs=5 / math.sqrt(target.y.numel()))
    again = pictures_exact(task, 0.1, seed=3, prior=law)
    assert torch.equal(again.target.y, target.y)
    assert not torch.equal(pictures_exact(task, 0.1, seed=4, prior=law).truth, problem.truth)


def test_the_digits() -> None:
    counts = {task: pictures_exact(task, seed=0).target.y.numel() for task in PICTURES}
    assert counts == {
        **{"box": 495, "half": 392, "random5": 39, "random30": 235},
        **{"sr2": 196, "sr4": 49, "blur": 784, "denoise": 784},
    }
    s = PICTURES["blur"]((1, 28, 28), 0)
    assert isinstance(s, po.operators.CircularBlur)
    assert s.singular_values.max() == pytest.approx(1)
    assert 1e-6 < s.singular_values.min() < 1e-3
    with pytest.raises(po.InputError, match="no task 'hole'"):
        pictures_exact("hole", seed=0)


def test_samplers_run_on_the_tiny_one() -> None:
    problem = pictures_exact("box", seed=0, prior=tiny())
    for sampler in (po.MMPS(schedule=po.Karras(steps=10)), po.DAPS()):
        x = po.at_budget(sampler, problem.target, 50).sample(problem.target, seeds=4)
        found = AgainstExact(law_of(problem), 4).evaluate(x)
        assert all(math.isfinite(value) for value in found.values())
