"""MSDM on two Gaussian stems, where Wiener's filter is the posterior."""

import math

import pytest
import torch
from torch import Tensor

import posteria as po
from common.projection import law
from helpers import F64
from posteria.samplers import MSDM
from posteria.testing import check_sampler

A, B, Y = 1.0, 0.09, 0.7


def stems(*variances: float, weights: tuple[float, ...] = (1.0, 1.0)) -> po.Posterior:
    """Two stems of one number each, of which the sum is known."""
    prior = po.Gaussian(torch.zeros(2, 1, dtype=F64), torch.diag(torch.tensor(variances).double()))
    operator = po.operators.ColorMixing(torch.tensor([weights]).double(), (2, 1))
    return po.Posterior(
        prior, po.GaussianLikelihood(operator, std=1e-3), torch.tensor([[Y]]).double()
    )


def first(sampler: MSDM, target: po.Posterior) -> tuple[float, float, Tensor]:
    """Mean and standard deviation of the first stem, and the covariance of both."""
    found = law(sampler, target)
    return float(found.offset[0]), float(found.covariance[0, 0].sqrt()), found.covariance


def test_a_constrained_stem_shares_by_amplitude_and_hardly_spreads() -> None:
    # The flow of two Gaussians, solved by hand. Catches: a drift without the constrained stem's score, or with half.
    high = 10.0
    schedule = po.Karras(steps=1500, sigma_min=1e-3, sigma_max=high)
    sampler = MSDM(schedule=schedule, constrained=1, churn=0.0, visits=1)
    mean, std, covariance = first(sampler, stems(A, B))
    rise = math.sqrt((A + high**2) / (B + high**2)) - math.sqrt(A / B)
    assert abs(mean - Y * math.sqrt(A * B) / (B - A) * rise) < 1e-2
    assert abs(mean - Y * math.sqrt(A) / (math.sqrt(A) + math.sqrt(B))) < 2e-2
    assert abs(mean - Y * A / (A + B)) > 0.1
    assert abs(std - high * math.sqrt(A * B / ((A + high**2) * (B + high**2)))) < 2e-3
    # The sum is y in every sample.
    assert float(covariance.sum()) < 1e-24


def test_projected_flow_is_exact_for_stems_of_one_variance() -> None:
    # Catches: a projection that takes a share of the plane's own drift away.
    schedule = po.Karras(steps=500, sigma_min=1e-3, sigma_max=80.0)
    mean, std, _ = first(MSDM(schedule=schedule, churn=0.0, visits=1), stems(A, A))
    assert abs(mean - Y / 2) < 1e-6
    assert abs(std - math.sqrt(A / 2)) < 5e-3


@pytest.mark.parametrize("form", [{"constrained": 0}, {"constrained": 1}, {}, {"gamma": 1.2}])
def test_many_visits_go_to_the_posterior(form: dict[str, float]) -> None:
    # Catches: noise between visits that is not of the level, a constraint that drifts off, weights that are left out.
    weights = (1.0, 0.5)
    schedule = po.schedules.LogLinear(steps=40, sigma_min=0.02, sigma_max=10.0)
    sampler = MSDM(schedule=schedule, churn=0.0, visits=15, **form)  # type: ignore[arg-type]
    mean, std, _ = first(sampler, stems(A, B, weights=weights))
    power = [w**2 * v for w, v in zip(weights, (A, B), strict=True)]
    assert abs(mean - Y * power[0] / sum(power)) < 0.03
    assert abs(std / math.sqrt(A * power[1] / sum(power)) - 1) < 0.2


def test_battery_and_what_it_refuses() -> None:
    check_sampler(MSDM(schedule=po.Karras(steps=8)))
    check_sampler(MSDM(schedule=po.Karras(steps=8), constrained=0), stems(A, B))
    with pytest.raises(po.CapabilityError, match="needs a weighted sum of stems"):
        MSDM(constrained=0).sample(po.testing.example_posterior(), seeds=1)
    with pytest.raises(po.InputError, match="is a stem that is heard, of 2"):
        MSDM(constrained=2).sample(stems(A, B), seeds=1)
    with pytest.raises(po.InputError, match="constrained is of the Dirac form"):
        MSDM(constrained=0, gamma=1.0)
