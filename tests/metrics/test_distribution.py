"""Metrics against independent answers."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import binom, multivariate_normal, norm, wasserstein_distance

import posteria as po
from helpers import F64, gaussian, mixture, normal, random_covariance
from posteria.metrics.distribution import (
    c2st,
    covariance_error,
    mean_error,
    mmd,
    mode_weight_error,
    mode_weights,
    moments,
    sliced_wasserstein,
    two_sample_floor,
    variance_ratio,
    wasserstein_along,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("m", [300, 200, 301, 1])
def test_sliced_wasserstein_in_one_dimension_is_wasserstein(m: int) -> None:
    # Catches: quantiles of sets of different sizes that are matched by interpolation.
    x, y = normal(300, 1), 2 * normal(m, 1, seed=1) + 1
    expected = wasserstein_distance(x[:, 0], y[:, 0])
    assert sliced_wasserstein(x, y) == pytest.approx(expected)
    assert sliced_wasserstein(y, x) == pytest.approx(expected)


def test_sliced_wasserstein_of_a_shift() -> None:
    # A shift by v moves the projection on a unit u by |u . v|, whose mean over the sphere in 3 dimensions is |v| / 2.
    x, v = normal(50, 3), torch.tensor([3.0, 0.0, 4.0])
    assert sliced_wasserstein(x, x + v, directions=20_000) == pytest.approx(2.5, rel=0.02)
    assert sliced_wasserstein(x, x) == 0
    assert sliced_wasserstein(x, x.repeat(3, 1)) == pytest.approx(0, abs=1e-12)
    with pytest.raises(po.ShapeError, match="Two sets of samples of equal shape"):
        sliced_wasserstein(x, x[:, :2])
    with pytest.raises(po.InputError, match="at least 1"):
        sliced_wasserstein(x, x[:0])


def test_floor_in_one_dimension() -> None:
    # The distance is the integral over t of |i - j| / n, where i and j samples are below t: both
    # binomial.
    # Catches: a set compared with itself, a standard error that is a standard deviation.
    n = 50
    counts = np.arange(n + 1)
    gap = np.abs(counts[:, None] - counts) / n

    def mean_gap(t: float) -> float:
        share = binom.pmf(counts, n, norm.cdf(t))
        return float(share @ gap @ share)

    expected, _ = quad(mean_gap, -6, 6)
    floor = two_sample_floor(
        lambda k, g: torch.randn(k, 1, dtype=F64, generator=g), n, repetitions=400
    )
    assert abs(floor.mean - expected) < 4 * floor.standard_error
    assert 0 < floor.standard_error < 0.03 * floor.mean
    with pytest.raises(po.InputError, match="repetitions=1"):
        two_sample_floor(gaussian().sample, 10, repetitions=1)


def test_mmd_of_two_gaussians_in_closed_form() -> None:
    # E exp(-|a - b|^2 / 2 h^2) for a - b ~ N(mu, s^2 I) is (1 + s^2/h^2)^(-d/2) exp(-|mu|^2 / 2 (h^2 + s^2)).
    # Catches: the diagonal kept (a bias of 2 / n), a bandwidth that is a variance.
    d, h, shift = 3, 1.5, 0.8

    def kernel(variance: float, mu: float) -> float:
        return (1 + variance / h**2) ** (-d / 2) * math.exp(-d * mu**2 / (2 * (h**2 + variance)))

    exact = kernel(2.0, 0) + kernel(8.0, 0) - 2 * kernel(5.0, shift)
    pairs = [
        (normal(60, d, seed=2 * i), shift + 2 * normal(40, d, seed=2 * i + 1)) for i in range(60)
    ]
    values = torch.tensor([mmd(x, y, bandwidth=h) for x, y in pairs])
    assert abs(float(values.mean()) - exact) < 4 * float(values.std()) / math.sqrt(60)
    same = torch.tensor([mmd(x, normal(40, d, seed=1000 + i)) for i, (x, _) in enumerate(pairs)])
    assert abs(float(same.mean())) < 4 * float(same.std()) / math.sqrt(60)
    assert same.min() < 0


def test_mmd_takes_the_scale_of_the_data() -> None:
    x, y = normal(30, 2, 2), 0.5 + normal(20, 2, 2, seed=1)
    # Catches: distances that lose their digits to an offset.
    assert mmd(1e6 + 100 * x, 1e6 + 100 * y) == pytest.approx(mmd(x, y), rel=1e-6)
    assert mmd(x, y) == pytest.approx(mmd(y, x))
    with pytest.raises(po.InputError, match="bandwidth"):
        mmd(x, y, bandwidth=0)
    with pytest.raises(po.InputError, match="bandwidth"):
        mmd(torch.ones(5, 2), torch.ones(5, 2))
    with pytest.raises(po.InputError, match="at least 2"):
        mmd(x, y[:1])
    assert math.isnan(mmd(x * math.nan, y))


def test_classifier_cannot_tell_a_law_from_itself() -> None:
    # Catches: accuracy on the samples that were fitted to, an unequal split.
    law, n = mixture(), 80
    values = [
        c2st(law.sample(n, generator(2 * i)), law.sample(n, generator(2 * i + 1)), seed=i)
        for i in range(16)
    ]
    error = 0.5 / math.sqrt(2 * n)
    assert abs(sum(values) / 16 - 0.5) < 3 * error / math.sqrt(16)
    assert max(values) < 0.5 + 4 * error


@pytest.mark.parametrize(
    ("shift", "width", "lowest"), [(1.0, 1.0, 0.63), (0.0, 2.0, 0.85), (0.0, 0.5, 0.85)]
)
def test_classifier_comes_near_the_best_one(shift: float, width: float, lowest: float) -> None:
    # The best accuracy is Phi(1 / 2) = 0.69 for a shift by one standard deviation, and 0.91 for twice
    # the width in 8 dimensions.
    best = norm.cdf(shift / 2) if shift else 0.91
    x, y = normal(500, 8), shift / 8**0.5 + width * normal(500, 8, seed=1)
    accuracy = c2st(x, y)
    assert lowest < accuracy < best + 0.04
    assert c2st(x, y) == accuracy != c2st(x, y, seed=1)
    assert c2st(1000 * x + 1e4, 1000 * y + 1e4) == pytest.approx(accuracy, abs=0.005)


def test_classifier_sees_dependence_and_modes() -> None:
    x, y = normal(500, 2), normal(500, 2, seed=1)
    y = torch.stack([y[:, 0], 0.9 * y[:, 0] + math.sqrt(1 - 0.81) * y[:, 1]], 1)
    assert c2st(x, y) > 0.66
    # A mode of weight 0.4 is lost: the total variation is 0.4 and the best accuracy 0.7.
    means, covariances = 6 * torch.eye(8, dtype=F64)[:4], torch.eye(8, dtype=F64).expand(4, 8, 8)
    weights = torch.tensor([0.2, 0.2, 0.2, 0.4], dtype=F64)
    law = po.GaussianMixture(weights, means, covariances)
    lost = po.GaussianMixture(weights[:3], means[:3], covariances[:3])
    found = c2st(law.sample(500, generator()), lost.sample(500, generator(1)))
    assert 0.65 < found < 0.74


def test_classifier_of_extreme_sets() -> None:
    # Catches: Newton's method that runs off on separable sets, more entries than samples, an entry
    # that is constant, samples that diverged and "cannot be told" from exact ones.
    x = normal(40, 3, 200)
    assert c2st(x, x + 10) == 1
    assert c2st(x, 0.3 * normal(40, 3, 200, seed=1)) > 0.95
    assert abs(c2st(x, normal(40, 3, 200, seed=2)) - 0.5) < 0.25
    flat = torch.cat([normal(50, 2), torch.ones(50, 1)], 1)
    assert c2st(flat, flat + torch.tensor([20.0, 0.0, 0.0])) == 1
    assert c2st(torch.zeros(20, 2), torch.zeros(20, 2)) == pytest.approx(0.5)
    assert math.isnan(c2st(flat, flat * math.nan))
    with pytest.raises(po.ShapeError, match="two sets of equal shape"):
        c2st(x, x[:10])
    with pytest.raises(po.InputError, match="at least 5"):
        c2st(x[:4], x[:4])
    with pytest.raises(po.InputError, match="folds=1"):
        c2st(x, x, folds=1)


def test_moments_of_laws() -> None:
    # Catches: the spread between components left out.
    law = mixture()
    draws = law.sample(100_000, generator())
    found = moments(law)
    assert torch.allclose(found.mean, draws.mean(0), atol=0.03)
    assert torch.allclose(found.covariance, draws.mT.cov(), atol=0.08)
    assert torch.allclose(found.std**2, found.covariance.diagonal())
    assert torch.equal(moments(gaussian()).covariance, gaussian().covariance)
    events = po.GaussianMixture(
        torch.ones(2), normal(2, 2, 3), torch.stack([random_covariance(6, i) for i in range(2)])
    )
    assert moments(events).mean.shape == moments(events).std.shape == (2, 3)
    with pytest.raises(po.CapabilityError, match="moments needs a Law"):
        moments("normal")


def test_mean_error_is_in_standard_deviations() -> None:
    mean, std = normal(2, 3), torch.tensor([1.0, 2.0, 10.0]).expand(2, 3)
    x = mean + std * normal(400, 2, 3, seed=1)
    assert mean_error(x, mean, std) == pytest.approx(1 / 20, abs=0.03)
    off = x - x.mean(0) + mean + 0.5 * std
    assert mean_error(off, mean, std) == pytest.approx(0.5)
    with pytest.raises(po.ShapeError, match="mean has shape"):
        mean_error(x, mean[0], std)
    with pytest.raises(po.ShapeError, match="std has shape"):
        mean_error(x, mean, std[0])


def test_variance_and_covariance_errors() -> None:
    # Catches: errors that depend on the units, a square root left out.
    d, n = 4, 4000
    z, factor = normal(n, d), torch.linalg.cholesky(random_covariance(d))
    x, covariance = z @ factor.mT, factor @ factor.mT
    std = covariance.diagonal().sqrt()
    assert variance_ratio(x, std) == pytest.approx(1, abs=0.1)
    assert variance_ratio(2 * x, std) == pytest.approx(4 * variance_ratio(x, std))
    assert covariance_error(x, covariance) == pytest.approx(
        covariance_error(z, torch.eye(d, dtype=F64))
    )
    assert covariance_error(2 * x, covariance) == pytest.approx(3, abs=0.15)
    assert covariance_error(0 * x + 5, covariance) == pytest.approx(1)
    errors = [covariance_error(normal(50, d, seed=i), torch.eye(d)) ** 2 for i in range(200)]
    assert sum(errors) / 200 == pytest.approx((d + 1) / 49, rel=0.1)
    with pytest.raises(po.ShapeError, match="need a covariance"):
        covariance_error(x, covariance[:2, :2])
    with pytest.raises(po.InputError, match="positive definite"):
        covariance_error(x, covariance - 10 * torch.eye(d))
    with pytest.raises(po.InputError, match="at least 2"):
        variance_ratio(x[:1], std)


def test_weights_of_modes_that_overlap() -> None:
    # Catches: each sample counted for its nearest or likeliest mode only, which gives the large
    # mode more than it has.
    means = torch.tensor([[0.0], [1.5]], dtype=F64)
    law = po.GaussianMixture(torch.tensor([0.8, 0.2]), means, torch.ones(2, 1, 1))
    x = law.sample(20_000, generator())
    assert mode_weights(x, law)[1] == pytest.approx(0.2, abs=0.01)
    nearest = 0.2 * norm.pdf(x.numpy(), 1.5) > 0.8 * norm.pdf(x.numpy(), 0)
    assert nearest.mean() < 0.15
    assert mode_weight_error(x, law) < 0.01


def test_weights_of_modes_against_scipy() -> None:
    law, x = mixture(), 2 * normal(9, 4)
    components = zip(law.weights.tolist(), law.means.numpy(), law.covariances.numpy(), strict=True)
    parts = [w * multivariate_normal.pdf(x.numpy(), m, c) for w, m, c in components]
    expected = (np.stack(parts) / sum(parts)).mean(1)
    assert np.allclose(mode_weights(x, law), expected)
    apart = po.GaussianMixture(law.weights, 100 * law.means, law.covariances)
    only = apart.means[:1].expand(5, 4)
    assert mode_weight_error(only, apart) == pytest.approx(1 - float(law.weights[0]))
    assert mode_weight_error(apart.sample(4000, generator()), apart) < 0.03
    with pytest.raises(po.ShapeError, match=r"Samples are \[n, "):
        mode_weights(x[:, :3], law)
    with pytest.raises(po.ShapeError, match=r"Samples are \[n, "):
        mode_weights(x[None], law)


def test_shapes_that_do_not_fit_are_refused() -> None:
    # Catches: a shape that is broadcast to another without a word.
    law, x = mixture(3, 4), torch.zeros(10, 4, dtype=F64)
    row = torch.ones(1, 4, dtype=F64)
    for call in (
        lambda: sliced_wasserstein(x, x[:, :1]),
        lambda: mmd(x, x[..., None]),
        lambda: c2st(x, x[:5]),
        lambda: mean_error(x, row, row),
        lambda: mean_error(x, row[0], row[0, 0]),
        lambda: variance_ratio(x, row),
        lambda: covariance_error(x, torch.eye(1, dtype=F64)),
        lambda: mode_weights(x[:, None], law),
        lambda: po.metrics.crps(x, row),
        lambda: po.metrics.energy_score(x, row),
        lambda: po.metrics.interval_coverage(x, row),
        lambda: po.metrics.expected_coverage(x[:, :3], row, generator()),
        lambda: po.metrics.precision_recall(x, x[:, :2]),
        lambda: po.metrics.saturation(x),
        lambda: po.metrics.frechet_of_moments(
            po.metrics.Moments(row[0], torch.eye(4, dtype=F64)),
            po.metrics.Moments(row[0, :1], torch.eye(4, dtype=F64)),
        ),
        lambda: po.metrics.frechet_of_moments(
            po.metrics.Moments(row[0], torch.eye(4, dtype=F64)),
            po.metrics.Moments(row[0], torch.ones(1, 4, dtype=F64)),
        ),
    ):
        with pytest.raises(po.ShapeError):
            call()
    # Catches: directions of another length, along which distances are in other units.
    eye = torch.eye(4, dtype=F64)
    assert wasserstein_along(x, x + 1, eye) == pytest.approx(1)
    with pytest.raises(po.InputError, match="Directions have length 1"):
        wasserstein_along(x, x + 1, 2 * eye)
    with pytest.raises(po.ShapeError, match=r"columns \(4, k\), not \(3, 4\)"):
        wasserstein_along(x, x, eye[:3])
    # Catches: imaginary parts that are dropped, a standard deviation of 0 or below that is squared.
    with pytest.raises(po.InputError, match=r"set of samples holds torch\.complex128 values"):
        sliced_wasserstein(1j * x, x)
    for std in (0 * row[0], -row[0]):
        with pytest.raises(po.InputError, match="standard deviation is above 0"):
            variance_ratio(x, std)
