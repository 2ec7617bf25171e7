"""DAPS."""

from itertools import pairwise

import pytest

import posteria as po
from common.splitting import as_affine, independent
from common.theory import assert_same_law
from posteria.samplers.splitting.daps import DAPS


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("s", [1.0, 0.25])
def test_daps_is_exact_where_entries_are_independent_and_gaussian(s: float) -> None:
    # Catches: a spread about the estimate that is not that of the signal given its noised value
    # (sigma, as published, or one for data of unit variance), noise of the wrong level after it.
    target, exact = independent(s, std=0.4 * s)
    sampler = DAPS(
        schedule=po.schedules.LogLinear(steps=3, sigma_min=0.3 * s, sigma_max=50.0), prior_std=s
    )
    assert_same_law(sampler.sample(target, range(3000)), as_affine(exact), slack=0.01)


@pytest.mark.usefixtures("one_stream")
def test_daps_as_published_has_the_law_that_its_formulas_imply() -> None:
    # Where nothing is measured a step is x0 = g x, x0 + sigma * noise, + sigma_next * noise, and g
    # is the product of the Euler factors of the ODE. Catches: an ODE with a step too few, a
    # spread or noise at the wrong level. The variance is 1.8 times the prior's, which is why one
    # step and the matched spread are the default.
    target, _ = independent(1.0, std=0.4)
    schedule = po.Karras(steps=40, sigma_min=0.1, sigma_max=100.0)
    sampler = DAPS(schedule=schedule, ode=5, as_published=("spread",))
    x = sampler.sample(target, range(3000))[:, 1]
    variance = schedule.levels()[0] ** 2
    for sigma, sigma_next in pairwise(schedule.levels()):
        gain = 1.0
        ladder = po.Karras(steps=5, sigma_min=0.01, sigma_max=sigma).levels()
        for a, b in pairwise(ladder):
            gain *= (1 + a * b) / (1 + a**2)
        variance = gain**2 * variance + sigma**2 + sigma_next**2
    assert 1.7 < variance < 2.0
    assert x.var().item() == pytest.approx(variance, rel=0.1)


def test_tau_is_the_noise_level_in_data_units_whatever_the_operator_is_solved_by() -> None:
    # Catches: a dense operator in units of the target's noise, in which tau was taken for a level (tau * std).
    target, _ = independent(1.0, std=0.1)
    matrix = target.likelihood.operator.matrix()
    operator = po.operators.LinearFunction(lambda x: x @ matrix.mT.to(x), matrix.shape[1:])
    y, schedule = target.y.flatten(), po.schedules.LogLinear(steps=3)
    draws = [
        DAPS(schedule=schedule, prior_std=1.0, tau=tau).sample(
            po.Posterior(target.prior, po.GaussianLikelihood(operator, std), y), 4
        )
        for tau, std in ((1.0, 0.1), (None, 1.0))
    ]
    assert draws[0].equal(draws[1])
