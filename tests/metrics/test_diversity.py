"""Metrics of diversity and saturation against counts by hand, closed forms and independent code."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

import posteria as po
from helpers import F64, gaussian, normal, random_covariance
from posteria.metrics import diversity
from posteria.metrics.distribution import Moments, moments
from posteria.metrics.diversity import (
    RBF,
    Cosine,
    DensityCoverage,
    Kernel,
    PrecisionRecall,
    density_coverage,
    frechet_distance,
    frechet_of_moments,
    mean_pairwise_distance,
    precision_recall,
    saturation,
    vendi,
)


def line(*points: float) -> Tensor:
    return torch.tensor(points, dtype=F64)[:, None]


def rotation(d: int) -> Tensor:
    return torch.linalg.qr(normal(d, d, seed=99)).Q


# Precision, recall, density, coverage


def test_counts_by_hand() -> None:
    # Balls of the reference: 0 and 1 of radius 1, 3 of 2, 7 of 4 (k = 1); 3, 2, 3 and 6 (k = 2).
    # Balls of the samples: 1.5, 1.5, 2, 0.5 and 0.5 (k = 1).
    # Catches: precision and recall swapped, a point as its own first neighbour, radii of the wrong
    # set, density not divided by k.
    x, y = line(-1, 0.5, 2.5, 12, 12.5), line(0, 1, 3, 7)
    assert precision_recall(x, y, k=1) == (3 / 5, 3 / 4)
    assert density_coverage(x, y, k=1) == (3 / 5, 3 / 4)
    assert density_coverage(x, y, k=2) == (10 / 10, 1)


def by_definition(x: Tensor, y: Tensor, k: int) -> tuple[PrecisionRecall, DensityCoverage]:
    """One pair at a time."""
    points, reference = x.tolist(), y.tolist()

    def radius(i: int, among: list[list[float]]) -> float:
        others = (math.dist(among[i], p) for j, p in enumerate(among) if j != i)
        return sorted(others)[k - 1]

    ours = [radius(i, points) for i in range(len(points))]
    theirs = [radius(i, reference) for i in range(len(reference))]
    gap = [[math.dist(p, r) for r in reference] for p in points]
    pairs = [(i, j) for i in range(len(points)) for j in range(len(reference))]
    closed = {i for i, j in pairs if gap[i][j] <= theirs[j]}
    reached = {j for i, j in pairs if gap[i][j] <= ours[i]}
    opened = [(i, j) for i, j in pairs if gap[i][j] < theirs[j]]
    return (
        PrecisionRecall(len(closed) / len(points), len(reached) / len(reference)),
        DensityCoverage(
            len(opened) / (k * len(points)), len({j for _, j in opened}) / len(reference)
        ),
    )


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("entries", [1, 40, 2**24])
def test_balls_against_the_definition(k: int, entries: int, monkeypatch: Any) -> None:
    # On a grid, where many points lie on the edge of a ball and some coincide.
    # Catches: distances from products, a last block that is shorter, an edge that is a toss-up.
    monkeypatch.setattr(diversity, "ENTRIES", entries)
    points = torch.Generator().manual_seed(k)
    x = torch.randint(0, 6, (31, 2), generator=points).double()
    y = torch.randint(1, 7, (23, 2), generator=points).double()
    expected = by_definition(x, y, k)
    assert precision_recall(x, y, k) == pytest.approx(expected[0], abs=1e-12)
    assert density_coverage(x, y, k) == pytest.approx(expected[1], abs=1e-12)
    # A large offset and single precision leave a grid what it is.
    moved = (x + 1000).float(), (y + 1000).float()
    assert precision_recall(*moved, k) == pytest.approx(expected[0], abs=1e-12)


def test_a_set_against_itself_and_against_a_distant_one() -> None:
    x = normal(60, 3)
    for k in (1, 3, 5):
        assert precision_recall(x, x.flip(0), k) == (1, 1)
        assert density_coverage(x, x.flip(0), k) == (1, 1)
        assert precision_recall(x, x + 100, k) == (0, 0)
        assert density_coverage(x, x + 100, k) == (0, 0)


def test_collapsed_samples() -> None:
    # Catches: distances of equal rows that are not 0, so that balls of radius 0 do not hold their
    # own point.
    y = normal(50, 4) + 0.1
    x = y[:1].expand(50, 4)
    assert precision_recall(x, y) == (1, 1 / 50)
    # At the centre of the reference they are in many balls, and leave most of them empty.
    found = density_coverage(0 * y, y)
    assert found.density > 1.5
    assert found.coverage == found.density * 5 / 50


def test_samples_of_the_law_have_the_values_of_the_theory() -> None:
    # Naeem et al., lemma 2, and a mean density of 1: for any law with a density.
    # Catches: the sample counted among its own neighbours (density (k - 1) / k), n and m swapped.
    n, m, k, repetitions = 15, 24, 3, 400
    found = torch.tensor([
        density_coverage(normal(n, 2, seed=2 * i).exp(), normal(m, 2, seed=2 * i + 1).exp(), k)
        for i in range(repetitions)
    ])
    missed = math.prod((m - i) / (n + m - i) for i in range(1, k + 1))
    errors = found.std(0) / math.sqrt(repetitions)
    assert abs(float(found[:, 0].mean()) - 1) < 4 * errors[0]
    assert abs(float(found[:, 1].mean()) - (1 - missed)) < 4 * errors[1]


def clusters(n: int, *which: int, seed: int = 0) -> Tensor:
    """Samples of narrow clusters far apart, `n` of each."""
    centers = 50 * torch.eye(4, 5, dtype=F64)[list(which)]
    return torch.cat([c + normal(n, 5, seed=seed + i) for i, c in enumerate(centers)])


def test_dropped_modes_and_invented_ones() -> None:
    reference, whole = clusters(100, 0, 1, 2, 3), clusters(100, 0, 1, 2, 3, seed=10)
    half = clusters(200, 0, 1, seed=20)
    full, dropped = precision_recall(whole, reference), precision_recall(half, reference)
    assert full.precision > 0.88 < full.recall
    assert dropped.precision == pytest.approx(full.precision, abs=0.05)
    assert dropped.recall == pytest.approx(0.5, abs=0.05)
    assert density_coverage(whole, reference) == pytest.approx((1, 0.97), abs=0.15)
    assert density_coverage(half, reference) == pytest.approx((1, 0.5), abs=0.15)
    invented = torch.cat([whole, clusters(400, 0, seed=30) - 500])
    found = precision_recall(invented, reference)
    assert found.precision == pytest.approx(full.precision / 2, abs=0.02)
    assert found.recall == full.recall
    assert density_coverage(invented, reference).density == pytest.approx(0.5, abs=0.07)
    # The effective number of samples follows: 4 clusters, 2 clusters.
    wide = RBF(bandwidth=20.0)
    assert vendi(whole, wide) == pytest.approx(4, rel=0.1)
    assert vendi(half, wide) == pytest.approx(2, rel=0.1)


def test_an_outlier_of_the_reference() -> None:
    # What density was made for (Naeem et al., section 3.1): one wide ball holds all that is bad.
    reference = torch.cat([normal(100, 2), torch.full((1, 2), 80.0)])
    bad = normal(100, 2, seed=1) + 40
    assert precision_recall(bad, reference).precision == 1
    assert density_coverage(bad, reference).density == pytest.approx(1 / 5, abs=0.01)


def test_what_changes_nothing() -> None:
    x, y = normal(40, 3), 0.3 + normal(50, 3, seed=1)
    turn = rotation(3)
    maps: list[Callable[[Tensor], Tensor]] = [
        lambda z: 7 * z + 5,
        lambda z: z @ turn,
        lambda z: z.flip(0),
    ]
    for change in maps:
        assert precision_recall(change(x), change(y)) == precision_recall(x, y)
        assert density_coverage(change(x), change(y)) == density_coverage(x, y)
    distance = frechet_distance(x, y)
    assert frechet_distance(x @ turn + 100, y @ turn + 100) == pytest.approx(distance)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * distance)
    assert frechet_distance(y, x) == pytest.approx(distance)
    assert vendi(5 * (x @ turn).flip(0)) == pytest.approx(vendi(x))
    assert vendi(x @ turn + 1e4, RBF(1.0)) == pytest.approx(vendi(x, RBF(1.0)))
    assert vendi(6 * x, RBF(6.0)) == pytest.approx(vendi(x, RBF(1.0)))


# Vendi score and distances


def test_vendi_of_samples_that_are_alike_or_not() -> None:
    # Catches: the entropy in bits, eigenvalues that do not sum to 1, vectors that are not normalised.
    basis = torch.diag(torch.arange(1.0, 6.0))
    assert vendi(basis) == pytest.approx(5)
    assert vendi(basis.repeat(7, 1)) == pytest.approx(5)
    assert vendi(torch.ones(9, 4)) == pytest.approx(1)
    assert vendi(torch.ones(1, 4)) == pytest.approx(1)
    assert vendi(line(0, 100, 200, 300), RBF(1.0)) == pytest.approx(4)
    assert vendi(line(2, 2, 2), RBF(1.0)) == pytest.approx(1)
    # Two kinds, three to one.
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert vendi(basis[[0, 0, 0, 1]]) == pytest.approx(math.exp(entropy))
    # Two samples of similarity s have the eigenvalues (1 + s) / 2 and (1 - s) / 2.
    s = math.exp(-(1.5**2) / (2 * 2.0**2))
    entropy = -sum((1 + sign * s) / 2 * math.log((1 + sign * s) / 2) for sign in (1, -1))
    assert vendi(line(0, 1.5), RBF(2.0)) == pytest.approx(math.exp(entropy))
    s = math.cos(0.4)
    entropy = -sum((1 + sign * s) / 2 * math.log((1 + sign * s) / 2) for sign in (1, -1))
    pair = torch.tensor([[2.0, 0.0], [math.cos(0.4), math.sin(0.4)]], dtype=F64)
    assert vendi(pair) == pytest.approx(math.exp(entropy))


@pytest.mark.parametrize("shape", [(30, 4), (12, 12), (5, 40)])
@pytest.mark.parametrize("kernel", [Cosine(), RBF(2.0)])
def test_vendi_against_the_matrix_of_similarities(shape: tuple[int, int], kernel: Kernel) -> None:
    # Catches: the short way round by [d, d] matrices where there are more samples than features.
    x = normal(*shape).numpy() + 0.3
    if isinstance(kernel, Cosine):
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        similar = unit @ unit.T
    else:
        similar = np.exp(-((x[:, None] - x) ** 2).sum(-1) / (2 * 2.0**2))
    values = np.linalg.eigvalsh(similar / len(x))
    values = values[values > 1e-15]
    expected = np.exp(-(values * np.log(values)).sum())
    assert vendi(torch.from_numpy(x), kernel) == pytest.approx(expected)


def test_mean_pairwise_distance(monkeypatch: Any) -> None:
    assert mean_pairwise_distance(line(0, 1, 3)) == pytest.approx(2)
    x = 1e6 + normal(40, 7)
    expected = float(torch.pdist(x).mean())
    for entries in (1, 100, 2**24):
        monkeypatch.setattr(diversity, "ENTRIES", entries)
        assert mean_pairwise_distance(x) == pytest.approx(expected)


# Frechet distance


def test_frechet_by_hand() -> None:
    # Catches: covariances over n, a distance that is not squared, a factor 2 left out.
    assert frechet_distance(line(0, 2), line(0, 0)) == pytest.approx(1 + 2)
    assert frechet_distance(line(0, 2), line(5, 9)) == pytest.approx(36 + (2**0.5 - 8**0.5) ** 2)
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    expected = sum(2 / 3 * (a - b) ** 2 for a, b in ((1, 3), (3, 1)))
    assert frechet_distance(x, x.flip(1)) == pytest.approx(expected)


@pytest.mark.parametrize("sizes", [(50, 40), (7, 60), (5, 4)])
def test_frechet_against_the_root_of_a_matrix(sizes: tuple[int, int]) -> None:
    x, y = normal(sizes[0], 6) @ normal(6, 6, seed=3), 0.5 + normal(sizes[1], 6, seed=1)
    a, b = (np.cov(z.numpy(), rowvar=False) for z in (x, y))
    shift = ((x.mean(0) - y.mean(0)) ** 2).sum()
    # The root of a singular product has half the digits; with full rank it has all.
    full = min(sizes) > 6
    tiny = 0 if full else 1e-12
    root = sqrtm((a + tiny * np.eye(6)) @ (b + tiny * np.eye(6)))
    expected = float(shift) + np.trace(a) + np.trace(b) - 2 * np.trace(root).real
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9 if full else 1e-3)
    given = [Moments(z.mean(0), torch.from_numpy(c)) for z, c in ((x, a), (y, b))]
    assert frechet_of_moments(*given) == pytest.approx(frechet_distance(x, y), rel=1e-9)


def test_frechet_agrees_with_torchmetrics() -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")

    class Identity(nn.Module):
        num_features = 5

        def forward(self, x: Tensor) -> Tensor:
            return x

    x, y = normal(60, 5) @ normal(5, 5, seed=3), 0.5 + normal(40, 5, seed=1)
    other = fid.FrechetInceptionDistance(feature=Identity()).set_dtype(F64)
    other.update(x, real=False)
    other.update(y, real=True)
    assert frechet_distance(x, y) == pytest.approx(float(other.compute()), rel=1e-9)


def test_frechet_of_fewer_samples_than_features() -> None:
    # Catches: roots of singular matrices, which are complex, or off by the root of the precision.
    x = normal(20, 64)
    assert frechet_distance(x, x.flip(0)) < 1e-12
    assert frechet_distance(x + 3, x) == pytest.approx(64 * 9, rel=1e-12)
    # In subspaces at right angles the product of the covariances is 0, and spreads add up.
    left, right = x.clone(), normal(30, 64, seed=1)
    left[:, 32:], right[:, :32] = 0, 0
    spread = float(left.var(0).sum() + right.var(0).sum())
    shift = float((left.mean(0) - right.mean(0)).square().sum())
    assert frechet_distance(left, right) == pytest.approx(shift + spread, rel=1e-12)
    flat = [Moments(z.mean(0), z.mT.cov()) for z in (left, right)]
    assert frechet_of_moments(*flat) == pytest.approx(shift + spread, rel=1e-7)
    assert frechet_of_moments(flat[0], flat[0]) < 1e-12


def test_frechet_of_laws_and_of_their_samples() -> None:
    a, b = gaussian(4), gaussian(4, seed=5)
    root = sqrtm((a.covariance @ b.covariance).numpy())
    spread = float((a.covariance + b.covariance).trace()) - 2 * np.trace(root).real
    expected = float((a.mean - b.mean).square().sum()) + spread
    assert frechet_of_moments(moments(a), moments(b)) == pytest.approx(expected)
    draws = [law.sample(40_000, torch.Generator().manual_seed(i)) for i, law in enumerate((a, b))]
    assert frechet_distance(*draws) == pytest.approx(expected, rel=0.03)
    # Gaussians whose covariances commute: the squared differences of standard deviations.
    turn = rotation(3)
    first, second = torch.tensor([1.0, 4.0, 0.0]), torch.tensor([9.0, 0.0, 0.0])
    pair = [
        Moments(torch.zeros(3), turn @ torch.diag(v).double() @ turn.mT) for v in (first, second)
    ]
    assert frechet_of_moments(*pair) == pytest.approx(4 + 4)
    with pytest.raises(po.InputError, match="no eigenvalue below 0"):
        frechet_of_moments(pair[0], Moments(torch.zeros(3), -random_covariance(3)))


# What is refused, and NaN


def test_refusals() -> None:
    x = normal(10, 3)
    with pytest.raises(po.ShapeError, match=r"one d; got \(10, 3\) and \(10, 2\)"):
        precision_recall(x, x[:, :2])
    with pytest.raises(po.ShapeError, match=r"Flat\(\) makes features"):
        vendi(normal(10, 1, 2, 2))
    with pytest.raises(po.InputError, match="at least 4 samples; got 3"):
        precision_recall(x[:3], x)
    with pytest.raises(po.InputError, match="at least 6 samples; got 5"):
        density_coverage(x, x[:5])
    assert density_coverage(x[:1], x).density >= 0
    with pytest.raises(po.InputError, match="k=0"):
        density_coverage(x, x, k=0)
    with pytest.raises(po.InputError, match="all 0 have no angle"):
        vendi(0 * x)
    with pytest.raises(po.InputError, match="bandwidth=0"):
        RBF(0)
    with pytest.raises(po.InputError, match="at least 2"):
        frechet_distance(x, x[:1])
    # Catches: a covariance of which one triangle is read, complex features without their imaginary parts.
    skew = Moments(torch.zeros(2), torch.tensor([[1.0, 0.9], [0.0, 1.0]]))
    with pytest.raises(po.InputError, match="symmetric matrix"):
        frechet_of_moments(skew, skew)
    with pytest.raises(po.InputError, match=r"features holds torch\.complex128 values"):
        vendi(1j * x)


def test_samples_that_diverged() -> None:
    # Catches: comparisons with NaN, which are false, read as "not covered" or "in no ball".
    x, bad = normal(10, 3), normal(10, 3, seed=1)
    bad[3, 1] = math.nan
    for found in (*precision_recall(bad, x), *density_coverage(x, bad)):
        assert math.isnan(found)
    assert math.isnan(frechet_distance(bad, x))
    assert math.isnan(vendi(bad))
    assert math.isnan(vendi(bad, RBF(1.0)))
    assert math.isnan(mean_pairwise_distance(bad))
    assert math.isnan(frechet_of_moments(moments(gaussian(3)), Moments(bad[3], bad[:3])))
    assert all(math.isnan(v) for v in saturation(bad.reshape(1, 3, 2, 5)))
