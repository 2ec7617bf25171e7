"""Metrics of samples against a known truth, and where metrics are found."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import posteria as po
from posteria.metrics.image import psnr, ssim
from posteria.metrics.signal import mae, rmse


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


@pytest.mark.parametrize("shape", [(3, 32, 40), (1, 6, 9)])
def test_ssim_is_that_of_torchmetrics(shape: tuple[int, ...]) -> None:
    # Catches: another window, edge, range or constant, on smooth pictures, noise and flat ones.
    from torchmetrics.functional.image import structural_similarity_index_measure

    truth = torch.randn(shape, generator=torch.Generator().manual_seed(0)).cumsum(-1).tanh()
    noise = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))
    x = truth + noise * torch.tensor([0.0, 0.02, 0.3, 3.0])[:, None, None, None]
    x = torch.cat([x, torch.full_like(x[:1], 0.7), -truth[None]])
    want = structural_similarity_index_measure(
        x, truth.expand_as(x), data_range=(-1.0, 1.0), sigma=1.5, kernel_size=11, reduction="none"
    )
    assert ssim(x, truth).tolist() == pytest.approx(torch.as_tensor(want).tolist(), abs=2e-6)
    # Catches: a truth of another dtype that ends inside torch, variances of half precision.
    assert ssim(x, truth.double()).tolist() == pytest.approx(ssim(x, truth).tolist(), abs=2e-6)
    rounded = x.bfloat16()
    assert torch.equal(ssim(rounded, truth), ssim(rounded.float(), truth))


def test_pictures_are_paired_with_truths() -> None:
    # Catches: every picture against all truths (9.4 dB for 26.4), a truth that is broadcast.
    g = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 1, 28, 28, generator=g) * 2 - 1
    x = truth + 0.1 * torch.randn(truth.shape, generator=g)
    for metric in (psnr, ssim):
        alone = [metric(a[None], b).item() for a, b in zip(x, truth, strict=True)]
        assert metric(x, truth).tolist() == pytest.approx(alone, abs=1e-5)
        assert metric(2 * x, 2 * truth).tolist() == pytest.approx(
            metric((2 * x).clamp(-1, 1), (2 * truth).clamp(-1, 1)).tolist(), abs=1e-5
        )
        wrong = ((x, truth[:1]), (x, truth[0, 0]), (x[0], truth[0]), (x, truth[0, :, :9]))
        for a, b in (*wrong, (x.expand(-1, 3, -1, -1), truth[0]), (x, truth[:, None])):
            with pytest.raises(po.ShapeError, match="go with a truth"):
                metric(a, b)
        with pytest.raises(po.InputError, match="at least 1 sample; got 0"):
            metric(x[:0], truth[0])
        with pytest.raises(po.InputError, match=r"span \[-1, 1\]; the truth reaches 2.."):
            metric(x, 255 * truth)
        # Catches: bytes of which all but 0 are white, a sample that diverged and is taken for a white one.
        for a, b in (((127 * x).byte(), truth), (x, truth.sign().long()), (x > 0, truth > 0)):
            with pytest.raises(
                po.InputError, match=r"are of floats, not of torch\.(uint8|int64|bool)"
            ):
                metric(a, b)
        far = x.clone()
        far[1, 0, 3, 3] = torch.inf
        assert metric(far, truth).isnan().tolist() == [False, True, False]
    # Catches: squares of differences that are 0 in half precision.
    near = psnr((truth + 1e-3).half(), truth.half())
    assert torch.equal(near, psnr((truth + 1e-3).half().float(), truth.half().float()))
    assert psnr(x[..., :5, :5], truth[..., :5, :5]).isfinite().all()
    with pytest.raises(po.ShapeError, match="at least 6 pixels a side"):
        ssim(x[..., :5, :5], truth[..., :5, :5])


def test_signals_are_paired_with_truths() -> None:
    # Catches: a truth that is broadcast over leads or signals; the mean of all signals for that of each.
    g = torch.Generator().manual_seed(0)
    truth, x = torch.randn(3, 2, 50, generator=g), torch.randn(3, 2, 50, generator=g)
    for metric, order in ((mae, 1), (rmse, 2)):
        exact = (x - truth).abs().pow(order).mean((1, 2)).pow(1 / order)
        assert torch.allclose(metric(x, truth).float(), exact)
        assert torch.allclose(metric(x[:1], truth[0]).float(), exact[:1])
        for wrong in (truth[:1], truth[:, :1], truth[0, :1], truth[..., :9], torch.tensor(0.0)):
            with pytest.raises(po.ShapeError, match="go with a truth"):
                metric(x, wrong)
        with pytest.raises(po.InputError, match="at least 1 sample"):
            metric(x[:0], truth[0])
        with pytest.raises(po.InputError, match=r"samples holds torch\.complex64 values"):
            metric(x + 0j, truth)
        # Catches: bytes that go round below 0.
        low, high = torch.tensor([[[1, 2]], [[2, 2]]], dtype=torch.uint8)
        assert float(metric(low, high)) == pytest.approx(0.5 ** (1 / order))


def test_arrays_of_numpy_are_taken_by_every_metric() -> None:
    # Catches: an array that ends inside a method of tensors, in one metric and not in another.
    m, rng = po.metrics, torch.Generator
    pictures = (0.3 * np.random.default_rng(0).standard_normal((12, 3, 8, 8))).astype(np.float32)
    x, y = pictures.reshape(12, -1)[:, :4], pictures.reshape(12, -1)[:, 4:8]
    std, covariance = np.full(4, 0.3), np.eye(4)
    ranks = np.arange(12) % 5
    cases: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        *((metric, (pictures, pictures[0])) for metric in (psnr, ssim, mae, rmse)),
        *((metric, (x, y[0])) for metric in (m.crps, m.energy_score, m.interval_coverage)),
        (lambda a, b: m.sbc_ranks(a, b, rng()), (x, y[0])),
        (
            lambda a, b, c: m.expected_coverage(a, b, rng(), c).coverage,
            (pictures[:, :, 0], x[:3, [0] * 8], y[:3, [0] * 8]),
        ),
        (lambda a: m.uniformity(a, 4), (ranks,)),
        (lambda a: m.rank_tests(a, 4, rng()).p_values, (ranks,)),
        (m.holm, (np.array([0.01, 0.2]),)),
        *(
            (metric, (pictures[:, 0], pictures[0, 0]))
            for metric in (m.si_sdr, m.si_sdr_improvement)
        ),
        *(
            (metric, (x, y))
            for metric in (m.sliced_wasserstein, m.c2st, m.mmd, m.frechet_distance)
        ),
        (m.wasserstein_along, (x, y, np.eye(4))),
        (m.mean_error, (x, y[0], std)),
        (m.variance_ratio, (x, std)),
        (m.covariance_error, (x, covariance)),
        (
            lambda a, b: m.frechet_of_moments(m.Moments(a, b), m.Moments(2 * a, 3 * b)),
            (std, covariance),
        ),
        (m.precision_recall, (x, y)),
        (lambda a, b: m.density_coverage(a, b, 3), (x, y)),
        *((metric, (x,)) for metric in (m.vendi, m.mean_pairwise_distance, m.Flat())),
        (m.diversity.saturation, (pictures,)),
        (m.coverage_of, (x, y)),
    ]
    for metric, given in cases:
        want = metric(*(torch.from_numpy(each.copy()) for each in given))
        assert np.array_equal(np.asarray(metric(*given)), np.asarray(want)), metric


def test_the_room_has_every_metric() -> None:
    # Catches: a metric that cannot be found from `po.metrics`.
    assert po.metrics.calibration.crps is po.metrics.crps
    for name in ("sliced_wasserstein", "precision_recall", "Flat", "psnr", "sbc_ranks"):
        assert callable(getattr(po.metrics, name))
    assert po.metrics.METRICS["psnr"].function is psnr
