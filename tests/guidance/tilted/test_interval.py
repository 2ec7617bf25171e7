"""Guidance in an interval."""

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.linear import LABEL, SHORT, draw, iso, pair, slope, start
from helpers import F64, mixture
from posteria.diffusion.schedule import levels_of
from posteria.guidance.tilted.interval import Interval


class Watched(po.Denoiser):
    """A denoiser that keeps the levels it is asked for and the number of rows."""

    def __init__(self, prior: po.Denoiser) -> None:
        self.prior, self.space = prior, prior.space
        self.levels: list[float] = []
        self.rows = 0

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        if not isinstance(sigma, Tensor):
            self.levels.append(sigma)
        self.rows += len(x)
        return self.prior(x, sigma)


# Interval.


def test_interval_has_its_closed_form() -> None:
    # Catches: guidance outside in place of inside, an end of the interval that is ignored.
    family, schedule = pair(iso(4.0), iso(1.0, 1.5)), po.Karras(steps=1000)
    x = draw(Interval(2.0, low=0.5, high=2.0), family, schedule, po.Heun())
    x_start = start(family, schedule)
    measured = float((x[0] - x[1]) / (x_start[0] - x_start[1]))
    parts = slope(1, 4, 1, 0, 0.5) * slope(1, 4, 2, 0.5, 2) * slope(1, 4, 1, 2, 80)
    assert measured == pytest.approx(parts, rel=2e-3)
    assert (measured * 80) ** 2 == pytest.approx(0.4706, rel=5e-3)


def test_interval_asks_for_the_unconditional_model_inside_only() -> None:
    # Catches: an evaluation whose share is 0, ends that are open and closed the other way round.
    free, given = Watched(mixture()), Watched(mixture(seed=5))
    rule = Interval.presets()["edm2-xxl"]
    draw(rule, pair(free, given), po.Karras(steps=32), po.Heun())
    assert len(given.levels) == 63
    assert len(free.levels) == 12
    levels = levels_of(po.Karras(steps=32))
    assert {levels.index(level) for level in free.levels} == set(range(17, 23))

    target = po.Tilted(pair(free, given), LABEL, 1.0)
    rule, x = Interval(3.0, low=0.5, high=2.0), start(free, SHORT)
    for sigma, guided in ((0.5, False), (0.5001, True), (2.0, True), (2.0001, False)):
        before = len(free.levels)
        x0 = rule.at(target, x, sigma)
        assert len(free.levels) - before == guided
        expected = po.CFG(3.0 if guided else 1.0).at(target, x, sigma)
        torch.testing.assert_close(x0, expected)


def test_interval_judges_each_sample_by_its_own_level() -> None:
    # Catches: one decision for a batch with many levels, an evaluation of the rows outside.
    free = Watched(mixture())
    target = po.Tilted(pair(free, mixture(seed=5)), LABEL, 3.0)
    rule, x = Interval(low=0.5, high=2.0), po.Rng(range(4)).normal(free.space)
    x0 = rule.at(target, x, torch.tensor([0.3, 0.7, 2.0, 5.0], dtype=F64))
    assert free.rows == 2
    for row, sigma in enumerate((0.3, 0.7, 2.0, 5.0)):
        torch.testing.assert_close(x0[row], rule.at(target, x[row], sigma), rtol=0, atol=1e-13)
