"""Metrics against independent answers."""

import math

import numpy as np
import pytest
import torch
from helpers import normal
from scipy.stats import wasserstein_distance

import posteria as po
from posteria.metrics.distribution import sliced_wasserstein
from posteria.metrics.image import psnr, ssim


def test_sliced_wasserstein_in_one_dimension_is_wasserstein() -> None:
    x, y = normal(300, 1), 2 * normal(300, 1, seed=1) + 1
    assert sliced_wasserstein(x, y) == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]))


def test_sliced_wasserstein_of_a_shift() -> None:
    # A shift by v moves the projection on a unit u by |u . v|, whose mean over the sphere in 3 dimensions is |v| / 2.
    x, v = normal(50, 3), torch.tensor([3.0, 0.0, 4.0])
    assert sliced_wasserstein(x, x + v, directions=20_000) == pytest.approx(2.5, rel=0.02)
    assert sliced_wasserstein(x, x) == 0
    with pytest.raises(po.ShapeError, match="Two sets of equal shape"):
        sliced_wasserstein(x, x[:10])


def test_psnr_and_ssim() -> None:
    # Catches: a peak of 1 on data that spans 2, a mean over the batch before the logarithm.
    truth = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = 0.1 * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    x = (truth + noise * torch.tensor([1.0, 0.1])[:, None, None, None]).clamp(-1, 1)
    expected = [-10 * math.log10(float(((row - truth) / 2).square().mean())) for row in x]
    assert psnr(x, truth).tolist() == pytest.approx(expected, rel=1e-4)
    values = ssim(x, truth)
    assert 0.85 < values[0] < values[1] < 1
    assert ssim(truth[None], truth).item() == pytest.approx(1)
    assert np.allclose(ssim(x[:1], truth), values[:1], atol=1e-6)
