"""The bridge between noise levels."""

import math

import pytest
import torch

from helpers import F64
from posteria.core.rng import Rng
from posteria.core.space import Space
from posteria.diffusion.kernel import bridge, bridge_step, reverse_step


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_limits(eta: float) -> None:
    assert bridge(0.3, 0.3, 2.0, eta) == pytest.approx((0, 0))
    assert bridge(0.3, 2.0, 2.0, eta) == pytest.approx((1, 0))
    assert bridge(0.0, 0.0, 2.0, eta) == pytest.approx((0, 0))
    assert all(math.isfinite(v) for v in bridge(0.5, 0.5, 0.5, eta))


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("levels", [(0.0, 0.5, 2.0), (0.3, 1.0, 1.5), (1.0, 30.0, 80.0)])
def test_marginals_are_invariant(eta: float, levels: tuple[float, float, float]) -> None:
    # Catches: any wrong coefficient, at any eta: x_t given x_s must keep mean x_s and variance t^2
    # - s^2, and its covariance with x_l must stay that of the forward process at eta = 1.
    s, t, l = levels  # ruff: ignore[ambiguous-variable-name]
    weight, std = bridge(s, t, l, eta)
    variance = weight**2 * (l**2 - s**2) + std**2
    assert variance == pytest.approx(t**2 - s**2, rel=1e-12)
    if eta == 1:
        assert weight * (l**2 - s**2) == pytest.approx(t**2 - s**2, rel=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_variance_preserving_form_is_the_same_bridge(eta: float) -> None:
    # Catches: a slip in the change of coordinates from the papers' x / sqrt(1 + sigma^2).
    s, t, l = 0.4, 1.1, 3.0  # ruff: ignore[ambiguous-variable-name]
    abar = {v: 1 / (1 + v**2) for v in (s, t, l)}
    r_lt, r_ts, r_ls = abar[l] / abar[t], abar[t] / abar[s], abar[l] / abar[s]
    v = eta**2 * (1 - r_lt) * (1 - r_ts) / (1 - r_ls)
    a = math.sqrt((1 - r_ts - v) / (1 - r_ls))
    b = math.sqrt(r_ts) - a * math.sqrt(r_ls)
    weight, std = bridge(s, t, l, eta)
    assert std == pytest.approx(math.sqrt(v / abar[t]))
    assert weight == pytest.approx(a * math.sqrt(abar[l] / abar[t]))
    assert 1 - weight == pytest.approx(b * math.sqrt(abar[s] / abar[t]))


def test_levels_may_differ_from_sample_to_sample() -> None:
    space, x_s, x_l = Space((2,), F64), torch.ones(3, 2, dtype=F64), torch.zeros(3, 2, dtype=F64)
    taus = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    together = bridge_step(space, x_s, x_l, (taus, 1.0, 2.0), Rng([4, 5, 6]))
    for i, seed in enumerate((4, 5, 6)):
        alone = bridge_step(space, x_s[:1], x_l[:1], (float(taus[i]), 1.0, 2.0), Rng([seed]))
        assert torch.allclose(alone[0], together[i], atol=1e-14)


def test_last_step_returns_the_estimate() -> None:
    x, x0 = torch.full((1, 2), 5.0), torch.ones(1, 2)
    assert torch.equal(reverse_step(x, x0, 2.0, 0.0, 1.0, Rng([0])), x0)
