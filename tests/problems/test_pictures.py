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


@pytest.mark.parametrize("task", ["box", "random5", "sr4"])
def test_exact_draws_are_at_the_floor(task: str) -> None:
    exact = law_of(pictures_exact(task, seed=1))
    against = AgainstExact(exact, 64)
    found = against.evaluate(exact.sample(64, torch.Generator().manual_seed(5)))
    assert 0.7 < found["ratio"] < 1.4
    assert found["mode_weight_error"] < against.weight_floor + 0.1
    assert 0.87 < found["coverage_90"] < 0.93
    assert found["variance_ratio"] == pytest.approx(1, abs=0.25)
    assert found["mean_error"] < 4 / math.sqrt(64)


def test_the_metrics_see_what_is_wrong() -> None:
    # Catches: a distance along axes that see nothing, a weight that ignores components.
    problem = pictures_exact("random5", seed=1)
    exact = law_of(problem)
    against = AgainstExact(exact, 64)
    x = exact.sample(64, torch.Generator().manual_seed(5))
    prior = exact.prior.sample(64, torch.Generator().manual_seed(5))
    narrow = exact.mean + 0.5 * (x - exact.mean)
    assert against.evaluate(prior)["ratio"] > 2
    assert against.evaluate(prior)["mode_weight_error"] > 0.5
    assert against.evaluate(narrow)["variance_ratio"] == pytest.approx(0.25, abs=0.07)
    assert against.evaluate(narrow)["coverage_90"] < 0.75
    assert against.evaluate(narrow)["ratio"] > 1.5
    one = exact.sample(64, torch.Generator().manual_seed(5)) + 1
    assert against.evaluate(one)["mean_error"] > 1
    missing = x.clone()
    missing[3, 0, 0, 0] = math.nan
    assert all(math.isnan(value) for value in against.evaluate(missing).values())
    with pytest.raises(po.ShapeError, match=r"\(64, 1, 28, 28\), not \(3, 1, 28, 28\)"):
        against.evaluate(x[:3])
    with pytest.raises(po.InputError, match="n=1"):
        AgainstExact(exact, 1)


def test_a_set_of_shares_is_that_of_its_components() -> None:
    exact = law_of(pictures_exact("random5", 0.3, seed=1))
    x, which = exact.sample_with_components(300, torch.Generator().manual_seed(5))
    ours = AgainstExact(exact, 300).weights(x)
    counted = torch.bincount(which, minlength=100) / 300
    assert (ours - counted).abs().sum() / 2 < 0.02


def test_samplers_run_on_the_tiny_one() -> None:
    problem = pictures_exact("box", seed=0, prior=tiny())
    for sampler in (po.MMPS(schedule=po.Karras(steps=10)), po.DAPS()):
        x = po.at_budget(sampler, problem.target, 50).sample(problem.target, seeds=4)
        found = AgainstExact(law_of(problem), 4).evaluate(x)
        assert all(math.isfinite(value) for value in found.values())
