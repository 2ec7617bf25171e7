"""What samples of several measurements cost, budgets that are none, and levels that are not those of the data."""

import math
from functools import partial
from typing import Any

import pytest
import torch

import posteria as po
from helpers import F64, gaussian, linear_posterior, normal
from posteria.samplers import cost

ONE = linear_posterior(gaussian(4))
MANY = po.Posterior(ONE.prior, ONE.likelihood, normal(6, 2))


def test_samples_of_other_measurements_share_no_population() -> None:
    # Catches: a population of 8 that is simulated for each of them and counts as an eighth of itself.
    sampler = po.samplers.FPS(particles=8).with_steps(20)
    twice = po.Posterior(ONE.prior, ONE.likelihood, MANY.y[:3].repeat_interleave(2, 0))
    assert [cost(sampler, target) for target in (ONE, MANY, twice)] == [20, 160, 80]
    for target, populations in ((MANY, 6), (twice, 3)):
        counted = po.diffusion.Counted(target.prior)
        sampler.sample(po.Posterior(counted, target.likelihood, target.y), 6)
        assert counted.meter.forward == populations * 160


def test_samples_of_several_measurements_are_advised_on() -> None:
    # Catches: one seed for all measurements; a population that is simulated for each, at 512 times the budget.
    assert po.choose(ONE, 1000).sampler.shared > 1
    sampler = po.choose(MANY, 1000).sampler
    assert sampler.shared == 1 and 900 < cost(sampler, MANY) <= 1000


def test_where_nothing_is_measured() -> None:
    # Catches: the logarithm of a gain of 0.
    blind = po.operators.Matrix(torch.zeros(2, 4, dtype=F64))
    target = po.Posterior(ONE.prior, po.GaussianLikelihood(blind, std=0.3), ONE.y)
    assert po.choose(target, 1000).why


@pytest.mark.parametrize(
    ("sampler", "unit", "words"),
    [
        (
            po.MMPS().with_steps(20),
            1e3,
            "starts from noise of 80, beside which signals of .* are not small",
        ),
        (
            po.MGDM(),
            1e-3,
            "ends at noise of 0.07617, in which signals of .* vanish: take more steps",
        ),
        (po.samplers.DDRM(), 1e3, "diverged: .* or a schedule from far above"),
    ],
)
def test_data_in_another_unit(sampler: po.samplers.Sampler[Any], unit: float, words: str) -> None:
    # Catches: means of 0.003 where 0.92 is right, and a tenth of the spread, without a word.
    prior = po.Gaussian(torch.zeros(2, dtype=F64), unit**2 * torch.eye(2, dtype=F64))
    operator = po.operators.Inpainting(torch.tensor([True, False]), (2,))
    y = torch.full((1,), unit, dtype=F64)
    target = po.Posterior(prior, po.GaussianLikelihood(operator, std=0.3 * unit), y)
    with pytest.warns(RuntimeWarning, match=f"{type(sampler).__name__} {words}"):
        sampler.sample(target, 4)


def test_a_budget_is_an_integer() -> None:
    # Catches: nan, which buys the fewest steps of whatever comes first; a complaint about steps of 503.0.
    for wrong in (math.nan, 1e3, "1000"):
        for spend in (po.choose, partial(po.at_budget, po.MMPS())):
            with pytest.raises(po.InputError, match="A budget is an integer"):
                spend(ONE, wrong)  # type: ignore[operator]
    with pytest.raises(po.InputError, match="number of samples is an integer of at least 1"):
        po.choose(ONE, samples=0)
    # Catches: a division by sweeps that half of few steps cannot have.
    with pytest.raises(po.InputError, match="too small for MGDM: 5 steps cost"):
        po.at_budget(po.MGDM(schedule=po.schedules.Table(steps=3)), ONE, 40)
    with pytest.raises(po.CapabilityError, match="A cost needs a Posterior"):
        po.at_budget(po.MMPS(), ONE.prior, 1000)  # type: ignore[arg-type]
