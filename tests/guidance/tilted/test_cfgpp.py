"""CFG++."""

from itertools import pairwise

import pytest

import posteria as po
from common.guidance.linear import LABEL, MIXTURES, draw, iso, pair
from posteria.diffusion.kernel import bridge
from posteria.diffusion.schedule import levels_of
from posteria.guidance.base import StepInfo
from posteria.guidance.tilted.cfgpp import CFGPlusPlus

# CFG++.


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_cfgpp_is_a_guided_estimate_with_unguided_noise(eta: float) -> None:
    # Catches: a weight that is off by a factor, noise taken from the guided estimate.
    schedule, lam, seeds = po.Karras(steps=50), 0.6, range(8)
    free, given = MIXTURES.unconditional(), MIXTURES.given(LABEL)
    rng = po.Rng(seeds)
    x = levels_of(schedule)[0] * rng.normal(free.space)
    for sigma, sigma_next in pairwise(levels_of(schedule)):
        x_free = free(x, sigma)
        kept, std = bridge(0.0, sigma_next, sigma, eta)
        x = x_free + lam * (given(x, sigma) - x_free) + kept * (x - x_free)
        if std:
            x = x + std * rng.normal_like(x)
    drawn = draw(CFGPlusPlus(lam=lam, eta=eta), MIXTURES, schedule, po.DDIM(eta), seeds)
    assert (drawn - x).abs().max() < 1e-12


def test_cfgpp_weights_are_the_published_ones() -> None:
    # Catches: `following` taken from the step before, or from above.
    levels = levels_of(po.schedules.Table(steps=50))
    rule = CFGPlusPlus(lam=0.6)
    weights = [rule.weight_at(StepInfo.of(levels, levels[k])) for k in (0, 25, 49)]
    assert weights == pytest.approx([3.3, 5.85, 0.6], abs=0.02)


@pytest.mark.usefixtures("one_stream")
def test_cfgpp_grows_with_the_number_of_steps() -> None:
    # What the documentation warns of: twice the steps are nearly twice the shift of the mean.
    family = pair(iso(1.0), iso(1.0, 1.5))
    shift = [
        draw(CFGPlusPlus(), family, po.schedules.Table(steps=n), po.DDIM(), range(200)).mean()
        for n in (50, 100)
    ]
    assert float(shift[0]) == pytest.approx(7.9, abs=0.3)
    assert 1.85 < float(shift[1] / shift[0]) < 2.05
