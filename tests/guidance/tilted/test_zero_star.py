"""CFG-Zero*."""

from itertools import pairwise

import pytest
from torch import Tensor

import posteria as po
from common.guidance.linear import LABEL, MIXTURES, draw, start
from posteria.diffusion.schedule import levels_of
from posteria.guidance.tilted.zero_star import ZeroStar

# CFG-Zero*.


@pytest.mark.parametrize("zero_steps", [0, 2])
def test_zero_star_is_its_algorithm_in_the_coordinates_of_flow_matching(zero_steps: int) -> None:
    # Catches: a fit on the noise or on x_0 in place of the velocity, a zero velocity taken for a
    # zero estimate.
    schedule, weight = po.schedules.Flow(steps=28), 4.0
    free, given = MIXTURES.unconditional(), MIXTURES.given(LABEL)
    levels = levels_of(schedule)
    z = start(free, schedule) / (1 + levels[0])
    for index, (sigma, sigma_next) in enumerate(pairwise(levels)):
        tau, tau_next = 1 / (1 + sigma), 1 / (1 + sigma_next)
        x = z / tau

        def velocity(prior: po.Denoiser, x: Tensor = x, sigma: float = sigma) -> Tensor:
            x0 = prior(x, sigma)
            return x0 - (x - x0) / sigma

        u_free, u_given = velocity(free), velocity(given)
        share = (u_free * u_given).sum(-1, keepdim=True) / (u_free**2).sum(-1, keepdim=True)
        u = share * u_free + weight * (u_given - share * u_free)
        z = z + (tau_next - tau) * (u if index >= zero_steps else 0 * u)
    rule = ZeroStar(weight, zero_init_steps=zero_steps)
    assert (draw(rule, MIXTURES, schedule, po.DDIM()) - z).abs().max() < 1e-11
