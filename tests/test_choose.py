"""What a sampler costs, how many steps a budget buys, and which sampler a target gets."""

import dataclasses
from typing import Any

import pytest
import torch
from helpers import F64, gaussian, linear_posterior, normal

import posteria as po
from posteria.diffusion.scale import prior_scale
from posteria.metrics.distribution import moments, sliced_wasserstein, variance_ratio
from posteria.problems.toy import PROBLEMS
from posteria.samplers import POSTERIOR_SAMPLERS as KINDS
from posteria.samplers import cost
from posteria.samplers.choose import exact_schedule


def spent(sampler: po.Sampler[Any], target: po.Posterior) -> int:
    """Evaluations and vjps of one sample, or of a whole population, as they were asked for."""
    prior_scale(target.prior)
    counted = po.Counted(target.prior)
    sampler.sample(po.Posterior(counted, target.likelihood, target.y), seeds=[0])
    return counted.meter.forward + counted.meter.backward


def assert_spends(sampler: Any, target: po.Posterior, budget: int) -> None:
    """As many steps as the budget buys, and not one more."""
    chosen = po.at_budget(sampler, target, budget)
    total = spent(chosen, target)
    assert total <= budget * chosen.shared
    assert cost(chosen, target) == -(-total // chosen.shared)
    schedule = dataclasses.replace(chosen.schedule, steps=chosen.schedule.steps + 1)
    more = dataclasses.replace(chosen, schedule=schedule)
    assert spent(more, target) > budget * more.shared


def masked() -> po.Posterior:
    """A target that every sampler takes."""
    prior = po.Gaussian(torch.zeros(4, dtype=F64), torch.eye(4, dtype=F64))
    operator = po.operators.Inpainting(torch.tensor([True, False, True, False]))
    return po.Posterior(prior, po.GaussianLikelihood(operator, std=0.5), normal(2))


@pytest.mark.parametrize("name", KINDS)
def test_a_budget_is_spent_and_not_overspent(name: str) -> None:
    # Catches: a population whose whole cost is taken for that of a sample, what particles share
    # counted once each, a step too many or too few.
    kind: Any = KINDS[name]
    small = {"particles": 5} if "particles" in kind.__dataclass_fields__ else {}
    # Whole populations of the exact sampler measure the prior first, by 535 evaluations.
    assert_spends(kind(**small), masked(), 300 if name in {"exact", "ddnm", "dcps"} else 100)


LADDER = po.PnPDM(ladder=po.Karras(steps=30), last=3)
UNEVEN = [*(KINDS[name].published("images") for name in ("mgps", "mgdm", "repaint")), LADDER]


@pytest.mark.parametrize("sampler", UNEVEN, ids=lambda sampler: type(sampler).__name__)
def test_where_steps_differ_in_cost(sampler: Any) -> None:
    # Catches: a straight line through the cost of a few steps, taken for the cost of all.
    assert_spends(sampler, masked(), 900)


NOISY = po.FunctionLikelihood(lambda y, x: -((x[..., 0] - y[..., 0]) ** 2))


@pytest.mark.parametrize("name", ["exact", "tds", "mmps", "mgps"])
def test_cost_depends_on_the_kind_of_measurement(name: str) -> None:
    # Catches: a stand-in that is linear where the operator is not, or has as many entries as the
    # signal, so that the exact sampler pays 4 vjps a level instead of 1 or 2.
    kind: Any = KINDS[name]
    sampler = kind(particles=16) if "particles" in kind.__dataclass_fields__ else kind()
    prior, y = gaussian(4), torch.ones(2, dtype=F64)
    bent = po.operators.Function(lambda x: x[:, :2].tanh(), prior.space)
    free = po.operators.LinearFunction(lambda x: x[:, :2] + x[:, 2:], prior.space)
    levels = torch.tensor([0.5, 0.4], dtype=F64)
    likelihoods: list[po.Likelihood] = [
        po.GaussianLikelihood(bent, std=0.5),
        po.GaussianLikelihood(free, std=levels),
    ]
    if name in {"tds", "mgps"}:
        counts = po.operators.Function(lambda x: x[:, :1].exp(), prior.space)
        likelihoods += [po.PoissonLikelihood(counts, peak=5.0), NOISY]
    for likelihood in likelihoods:
        measurement = likelihood.measurement
        size = 1 if measurement is None else measurement.size
        assert_spends(
            sampler,
            po.Posterior(prior, likelihood, y[:size]),
            250 if name in {"exact", "mgps"} else 60,
        )


def test_a_large_budget_is_not_run_to_be_counted() -> None:
    # Catches: a population that is simulated whole, with all its steps, to count what it costs.
    target = linear_posterior(gaussian(4))
    chosen = po.at_budget(po.TwistedSMC(), target, 10**6)
    assert chosen.particles == 512
    # One evaluation and two vjps a level, and a few for what comes before and after.
    assert 333_300 < chosen.schedule.steps <= 333_333


@pytest.mark.parametrize("gibbs", [1, 3])
def test_a_large_budget_buys_mgdm_sweeps(gibbs: int) -> None:
    # Catches: levels without end, with which MGDM is too sure of itself; sweeps that overspend.
    target, sampler = masked(), po.MGDM(schedule=po.Table(steps=12), gibbs=gibbs)
    assert_spends(sampler, target, 3000)
    chosen: Any = po.at_budget(sampler, target, 3000)
    assert 6 <= chosen.schedule.steps <= 12 and chosen.gibbs > 12
    assert po.at_budget(sampler, target, cost(sampler, target)) == sampler


def test_sweeps_keep_the_variance_that_levels_lose() -> None:
    # Catches: a budget of thousands spent on levels, which leaves 0.7 of the variance of a broken ring.
    problem = PROBLEMS["radius"](seed=1)
    std = moments(problem.exact).std
    exact = problem.exact.sample(128, torch.Generator().manual_seed(0))
    levels = po.MGDM(schedule=po.Table(steps=140))
    samplers = (levels, po.at_budget(po.MGDM(), problem.target, 4000))
    sure, near = (sampler.sample(problem.target, seeds=range(128)) for sampler in samplers)
    assert variance_ratio(near, std) == pytest.approx(1, abs=0.1)
    assert variance_ratio(sure, std) < 0.8
    assert sliced_wasserstein(near, exact) < sliced_wasserstein(sure, exact) / 2


def test_cost_is_what_a_prior_is_asked_for() -> None:
    target = linear_posterior(gaussian(4))
    sampler = po.DPS(schedule=po.Table(steps=20))
    assert cost(sampler, target) == 20 + 19
    many = po.Posterior(target.prior, target.likelihood, normal(3, 2))
    assert cost(sampler, many) == 20 + 19


def test_a_budget_that_buys_nothing_is_refused() -> None:
    target = linear_posterior(gaussian(4))
    with pytest.raises(po.InputError, match="too small for MGDM: 5 steps cost"):
        po.at_budget(po.MGDM(), target, 20)
    with pytest.raises(po.InputError, match="at least 100"):
        po.choose(target, 50)


def test_which_sampler() -> None:
    prior = po.Gaussian(torch.zeros(1, 6, 6, dtype=F64), torch.eye(36, dtype=F64))
    space = prior.space
    few = po.operators.Matrix(normal(3, 36), space.shape)
    every = po.operators.Identity(space.shape)
    bent = po.operators.Function(torch.tanh, space)
    chosen = {}
    for operator in (few, every, bent):
        y = operator(torch.zeros(1, 1, 6, 6, dtype=F64))[0]
        target = po.Posterior(prior, po.GaussianLikelihood(operator, std=0.1), y)
        choice = po.choose(target, 300)
        chosen[type(operator).__name__] = type(choice.sampler).__name__
        assert "300 evaluations a sample" in choice.why
    assert chosen == {"Matrix": "TwistedSMC", "Identity": "MGPS", "Function": "MGPS"}
    # Catches: an exact sampler with too few levels to be one; 100 evaluations are 25 of them here.
    y = few(torch.zeros(1, 1, 6, 6, dtype=F64))[0]
    target = po.Posterior(prior, po.GaussianLikelihood(few, std=0.1), y)
    assert isinstance(po.choose(target, 100).sampler, po.FPS)
    assert isinstance(po.choose(target, 120).sampler, po.TwistedSMC)
    own = po.FunctionLikelihood(lambda y, x: -x.abs().flatten(1).sum(-1))
    target = po.Posterior(prior, own, torch.zeros(1))
    assert isinstance(po.choose(target, 300).sampler, po.MGDM)


def test_the_exact_sampler_starts_above_the_prior() -> None:
    # Catches: the deviation of an entry taken for that of the widest direction.
    wide = po.Gaussian(torch.zeros(50, dtype=F64), torch.ones(50, 50, dtype=F64) + torch.eye(50))
    schedule = exact_schedule(wide)
    assert 5 * 50**0.5 < schedule.sigma_max < 15 * 50**0.5
    assert abs(schedule.sigma_min - 0.01) < 1e-12
