"""RLG."""

import math

import pytest
import torch

import posteria as po
from common.guidance.linear import (
    FINE,
    LABEL,
    MIXTURES,
    OTHERS,
    draw,
    iso,
    pair,
    start,
)
from posteria.guidance.models.rlg import RLG

# Reinforcement learning guidance.


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_rlg_follows_a_linear_reward_in_proportion(weight: float) -> None:
    # A reward a x moves N(0, 1) to N(a / b, 1). Catches: models exchanged, `weight - 1` for `weight`.
    family = pair(iso(9.0, -5.0), iso(1.0))
    x = draw(RLG(weight, tuned=iso(1.0, 0.8)), family, FINE, po.Heun())
    center = 0.8 * weight
    expected = center + (start(family, FINE) - center) / math.hypot(1, 80)
    assert (x - expected).abs().max() < 5e-4


def test_rlg_has_the_bias_of_cfg_where_a_reward_changes_the_variance() -> None:
    # Catches: a claim of exactness. N(0, 1) under -x^2 / 2 becomes N(0, 1/2); twice the reward is 1/3.
    family = pair(iso(9.0, -5.0), iso(1.0))
    x = draw(RLG(2.0, tuned=iso(0.5)), family, FINE, po.Heun())
    x_start = start(family, FINE)
    measured = float((x[0] - x[1]) / (x_start[0] - x_start[1])) * 80
    assert measured**2 == pytest.approx(0.25, rel=3e-3)


def test_rlg_guides_both_models_first() -> None:
    # Catches: guidance inside one model only, the weight of the target taken for it.
    target = po.Tilted(MIXTURES, LABEL, 1.6)
    x = po.Rng(range(3)).normal(target.space)
    base, tuned = (po.Tilted(family, LABEL, 3.0)(x, 0.5) for family in (MIXTURES, OTHERS))
    guided = RLG(tuned=OTHERS, guidance=3.0).at(target, x, 0.5)
    torch.testing.assert_close(guided, base.lerp(tuned, 1.6))
