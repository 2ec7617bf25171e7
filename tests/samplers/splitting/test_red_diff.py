"""RED-diff."""

import pytest
import torch

import posteria as po
from common.splitting import independent
from helpers import F64
from posteria.samplers.splitting.red_diff import REDDiff

SPREADS = (0.25, 0.5, 1.0, 2.0, 4.0)


def test_red_diff_at_random_levels_reaches_the_optimum_of_its_objective() -> None:
    # The prior's term has the curvature lambda * mean_t[sigma^2 / (l + sigma^2)] along a direction
    # of variance l, so that the optimum is y / (1 + curvature). Catches: a weight with one power
    # of sigma too many, noise that is not subtracted, moments that samples share.
    y = torch.tensor([1.0, -1.0, 0.5, 2.0, -2.0], dtype=F64)
    variances = torch.tensor(SPREADS, dtype=F64)
    prior = po.Gaussian(torch.zeros(5, dtype=F64), torch.diag(variances))
    likelihood = po.GaussianLikelihood(po.operators.Identity((5,)), std=1.0)
    target = po.Posterior(prior, likelihood, y)
    schedule = po.schedules.Table(steps=999)
    sampler = REDDiff(
        schedule=schedule, order="random", weighting="linear", weight=0.25, lr=0.05, prior_std=1.0
    )
    x = sampler.sample(target, range(24))
    levels = torch.tensor(schedule.levels()[:-1], dtype=F64)[:, None]
    curvature = 0.25 * (levels**2 / (variances + levels**2)).mean(0)
    assert curvature.tolist() == pytest.approx(
        [0.25 * v for v in (0.8269, 0.7788, 0.7245, 0.6657, 0.6046)], rel=3e-3
    )
    assert (x.mean(0) - y / (1 + curvature)).abs().max() < 4e-3
    assert (x.std(0) < 0.05).all()
    # One descending sweep, as published, ends at the measurement: the weights vanish there.
    swept = REDDiff.published("inverse_problems").sample(target, range(8))
    assert (swept.mean(0) - y).abs().max() < 0.03


@pytest.mark.parametrize("weighting", ["linear", "sqrt", "square", "log", "clipped", "two_thirds"])
def test_red_diff_s_own_weight_is_right_for_independent_entries(weighting: str) -> None:
    # Catches: a weight that is right in one unit of the data only, or for one weighting only.
    for s in (1.0, 0.25):
        target, exact = independent(s, std=0.5 * s)
        sampler = REDDiff(
            schedule=po.schedules.LogLinear(steps=300, sigma_min=0.1 * s, sigma_max=20 * s),
            order="random",
            weighting=weighting,
            prior_std=s,
        )
        x = sampler.sample(target, range(16))
        assert ((x.mean(0) - exact.mean) / s).abs().max() < 0.06
