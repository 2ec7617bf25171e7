"""What compares samples with a law that is known exactly, along its leading axes."""

import math

import pytest
import torch

import posteria as po
from posteria.analytic.low_rank_posterior import PPCAPosterior
from posteria.metrics import AgainstExact, coverage_of
from posteria.problems.pictures import pictures_exact
from posteria.problems.toy import Problem


def law_of(problem: Problem) -> PPCAPosterior:
    assert isinstance(problem.exact, PPCAPosterior)
    return problem.exact


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_coverage_is_that_of_the_law_and_not_of_one_truth(width: float) -> None:
    # Catches: coverage of a single truth, which three repetitions leave with an error of a tenth.
    draws = torch.randn(2, 512, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    held = coverage_of(width * draws[0], draws[1])
    assert held == pytest.approx(math.erf(1.6449 * width / 2**0.5), abs=0.012)


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
    for n in (1, 2.5):
        with pytest.raises(po.InputError, match="number of samples is an integer of at least 2"):
            AgainstExact(exact, n)  # type: ignore[arg-type]
    with pytest.raises(po.CapabilityError, match="needs a PPCAPosterior; this is a Gaussian"):
        AgainstExact(po.Gaussian(torch.zeros(1), torch.eye(1)), 2)  # type: ignore[arg-type]
    with pytest.raises(po.ShapeError, match="draws are of one law"):
        coverage_of(x, x[..., :9])


def test_a_set_of_shares_is_that_of_its_components() -> None:
    exact = law_of(pictures_exact("random5", 0.3, seed=1))
    x, which = exact.sample_with_components(300, torch.Generator().manual_seed(5))
    ours = AgainstExact(exact, 300).weights(x)
    counted = torch.bincount(which, minlength=100) / 300
    assert (ours - counted).abs().sum() / 2 < 0.02
