"""What a sampler costs, how many steps a budget buys, and which sampler a target gets."""

import pytest
import torch
from helpers import F64, gaussian, linear_posterior, mixture, normal

import posteria as po
from posteria.samplers import cost
from posteria.samplers.choose import exact_schedule


@pytest.mark.parametrize("name", [name for name in po.SAMPLERS if name != "repaint"])
def test_a_budget_is_spent_and_not_overspent(name: str) -> None:
    # Catches: a population whose whole cost is taken for that of a sample, a step too many.
    target = linear_posterior(mixture(4))
    kind = po.SAMPLERS[name]
    small = {"particles": 64} if "particles" in kind.__dataclass_fields__ else {}
    sampler = po.at_budget(kind(**small), target, 400)
    counted = po.Counted(target.prior)
    sampler.sample(po.Posterior(counted, target.likelihood, target.y), seeds=[0])
    spent = (counted.forward + counted.backward) / sampler.shared
    assert spent <= 400
    # DDNM and DCPS pay for 30 evaluations and more a step.
    assert spent > (300 if name in {"ddnm", "dcps"} else 360)


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
    own = po.FunctionLikelihood(lambda y, x: -x.abs().flatten(1).sum(-1))
    target = po.Posterior(prior, own, torch.zeros(1))
    assert isinstance(po.choose(target, 300).sampler, po.MGDM)


def test_the_exact_sampler_starts_above_the_prior() -> None:
    # Catches: the deviation of an entry taken for that of the widest direction.
    wide = po.Gaussian(torch.zeros(50, dtype=F64), torch.ones(50, 50, dtype=F64) + torch.eye(50))
    schedule = exact_schedule(wide)
    assert 5 * 50**0.5 < schedule.sigma_max < 15 * 50**0.5
    assert abs(schedule.sigma_min - 0.01) < 1e-12
