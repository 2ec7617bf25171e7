"""Classifier-free guidance."""

import math

import pytest
import torch

import posteria as po
from common.guidance.linear import (
    FINE,
    draw,
    iso,
    pair,
    slope,
    start,
)
from helpers import F64

# Classifier-free guidance on Gaussian pairs.


def test_cfg_is_exact_for_a_shift() -> None:
    # Catches: a weight in the other convention (w - 1), members exchanged.
    family = pair(iso(1.0, d=2), iso(1.0, 1.5, -0.5))
    x = draw(po.CFG(), family, FINE, po.Heun(), weight=3.0)
    center = 3 * torch.tensor([1.5, -0.5], dtype=F64)
    expected = center + (start(family, FINE) - center) / math.hypot(1, 80)
    assert (x - expected).abs().max() < 5e-4


def test_cfg_has_the_known_bias() -> None:
    # Catches: a rule that mixes scores with other weights than its denoisers. The tilted law has the
    # variance 0.571 here.
    family = pair(iso(4.0), iso(1.0, 1.5))
    x, x_start = draw(po.CFG(2.0), family, FINE, po.Heun()), start(family, FINE)
    measured = float((x[0] - x[1]) / (x_start[0] - x_start[1]))
    assert measured == pytest.approx(slope(1, 4, 2, 0, 80), rel=1e-3)
    assert (measured * 80) ** 2 == pytest.approx(0.25, rel=3e-3)
