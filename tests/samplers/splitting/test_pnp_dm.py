"""PnP-DM."""

import pytest
import torch

import posteria as po
from affine import Affine
from common.splitting import independent
from common.theory import assert_same_law
from helpers import F64
from posteria.samplers.splitting.pnp_dm import PnPDM


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("points", [1, 4])
def test_pnp_dm_is_the_gibbs_sampler_of_a_gaussian(points: int) -> None:
    # The law of every sweep of a two-variable Gibbs sampler, entry by entry. Catches: a coupling
    # of the wrong level, a reverse diffusion that returns the mean and not a draw (variance too
    # small by a third), a last step without a sweep.
    s, std = 0.5, 0.3
    target, _ = independent(s, std)
    schedule = po.schedules.LogLinear(steps=5, sigma_min=0.2, sigma_max=2.0)
    sampler = PnPDM(schedule=schedule, points=points, prior_std=s, last=2)
    mean, variance = torch.zeros(4, dtype=F64), torch.zeros(4, dtype=F64)
    precision = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=F64) / std**2
    pull = torch.zeros(4, dtype=F64)
    pull[::2] = target.y / std**2
    levels = schedule.levels()[:-1]
    for rho in [*levels, levels[-1]]:
        spread = 1 / (1 / rho**2 + precision)
        mean, variance = spread * (mean / rho**2 + pull), spread**2 * variance / rho**4 + spread
        gain = s**2 / (s**2 + rho**2)
        mean, variance = gain * mean, gain**2 * variance + gain * rho**2
    law = Affine(mean, torch.diag(variance.sqrt()))
    assert_same_law(sampler.sample(target, range(3000)), law, slack=0.01)


@pytest.mark.usefixtures("one_stream")
def test_pnp_dm_without_the_spread_of_a_reverse_move_is_too_narrow() -> None:
    # Catches: an option that does nothing. A spread near 0 takes the mean, as plain DDPM does.
    target, exact = independent(1.0, std=0.4)
    schedule = po.schedules.LogLinear(steps=60, sigma_min=0.05, sigma_max=20.0)
    narrow = PnPDM(schedule=schedule, prior_std=1e-6).sample(target, range(400))
    wide = PnPDM(schedule=schedule).sample(target, range(400))
    assert (narrow.var(0) / exact.covariance.diagonal()).mean() < 0.75
    assert (wide.var(0) / exact.covariance.diagonal()).mean() > 0.85
