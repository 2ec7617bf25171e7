"""Noise schedules and tables."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import posteria as po
from posteria.diffusion.betas import Betas

SCHEDULES = [
    po.Karras(steps=20),
    po.schedules.LogLinear(steps=20, sigma_min=0.01, sigma_max=50.0),
    po.schedules.Flow(steps=20, sigma_min=0.01, sigma_max=50.0),
    po.schedules.VP(steps=20),
    po.schedules.Table(steps=20),
    po.schedules.Table(steps=299),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_levels_decrease_from_the_highest_to_zero(schedule: po.schedules.Schedule) -> None:
    levels = schedule.levels()
    assert len(levels) == schedule.steps + 1
    assert levels[-1] == 0
    assert all(a > b for a, b in pairwise(levels))
    assert levels[0] == pytest.approx(schedule.at(1.0))
    if not isinstance(schedule, po.schedules.Table):
        assert levels[-2] == pytest.approx(schedule.lowest)
    if isinstance(schedule, po.Karras):
        assert (levels[0], levels[-2]) == pytest.approx((80.0, 0.002))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_time_is_the_inverse_of_at(schedule: po.schedules.Schedule) -> None:
    # Catches: a midpoint taken in another time than the one in which the index laws are stated.
    for level in schedule.levels()[:-1]:
        assert schedule.at(schedule.time(level)) == pytest.approx(level, rel=1e-9)
    u = torch.linspace(0, 1, 7, dtype=torch.float64)
    assert schedule.at(u).tolist() == pytest.approx([schedule.at(v) for v in u.tolist()])


def test_table_is_the_grid_of_the_papers() -> None:
    # Catches: an unshifted table, rounding instead of truncation.
    n, levels = 300, po.schedules.Table(steps=299).levels()
    abar = np.concatenate([[1], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
    grid = np.trunc(np.linspace(0, 999, n)).astype(int)[::-1]
    expected = np.sqrt((1 - abar[grid]) / abar[grid])
    assert np.allclose(levels, expected, rtol=1e-9)


def test_midpoints_are_table_entries_and_never_zero() -> None:
    # Catches: m = 0, where the official code has a standard deviation of 0 and its log is -inf.
    table = po.schedules.Table(steps=299)
    sigmas = (0.0, *po.schedules.LinearBetas().sigmas)
    for k in (3, 6, 500, 999):
        assert table.fraction(sigmas[k], 0.5) == pytest.approx(sigmas[max(1, k // 2)])
    assert table.fraction(sigmas[1], 0.5) == sigmas[1]
    assert table.fraction(sigmas[7], 1.0) == sigmas[7]


def test_vp_agrees_with_its_differential_equation() -> None:
    schedule = po.schedules.VP(steps=10, beta_min=0.1, beta_max=20.0)
    t = 0.3
    abar = math.exp(-(0.1 * t + 19.9 / 2 * t**2))
    u = (t - schedule.start) / (1 - schedule.start)
    assert schedule.at(u) == pytest.approx(math.sqrt((1 - abar) / abar))


@pytest.mark.parametrize(
    "betas",
    [
        po.schedules.LinearBetas(),
        po.schedules.ScaledLinearBetas(),
        po.schedules.CosineBetas(),
        po.schedules.KarrasBetas(),
        po.schedules.GivenBetas((0.1, 0.2, 0.3)),
    ],
)
def test_tables_invert(betas: po.schedules.LinearBetas) -> None:
    assert all(a < b for a, b in pairwise(betas.sigmas))
    last = len(betas.sigmas) - 1
    for k in (0, 1, last // 2, last):
        assert betas.index(betas.sigmas[k]) == pytest.approx(k)
        assert float(
            betas.index(torch.tensor(betas.sigmas[k], dtype=torch.float64))
        ) == pytest.approx(k)
    assert betas.index(0.0) == 0
    assert betas.index(1e9) == last
    abar = np.cumprod(1 - betas.values())
    assert np.allclose(1 / (1 + np.array(betas.sigmas) ** 2), abar)


def test_table_of_karras_has_the_levels_of_karras() -> None:
    # Catches: betas of the differences of levels, not of their squares.
    levels = po.Karras(steps=1000, sigma_min=5e-4, sigma_max=20.0, rho=3.0).levels()[-2::-1]
    assert np.allclose(po.schedules.KarrasBetas().sigmas, levels, rtol=1e-9)


def test_bad_schedules_are_refused() -> None:
    with pytest.raises(po.InputError, match="steps of Karras is an integer, at least 1; 0"):
        po.Karras(steps=0)
    with pytest.raises(po.InputError, match="0 < sigma_min < sigma_max"):
        po.Karras(sigma_min=2.0, sigma_max=1.0)


@pytest.mark.parametrize(
    ("betas", "most"),
    [(po.schedules.LinearBetas(), 999), (po.schedules.GivenBetas((0.1, 0.2, 0.3)), 2)],
)
def test_a_table_has_no_more_steps_than_entries(betas: Betas, most: int) -> None:
    # Catches: levels that repeat, the level 0 twice at the end.
    levels = po.schedules.Table(steps=most, betas=betas).levels()
    assert all(a > b for a, b in pairwise(levels))
    for steps in (most + 1, 5000):
        with pytest.raises(po.InputError, match=f"at most steps={most}; {steps} were asked"):
            po.schedules.Table(steps=steps, betas=betas)
