"""Calibration: exact posteriors pass, others fail in the way that they should."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, energy_distance, kstest, norm
from torch import Tensor

import posteria as po
from helpers import F64, normal
from posteria.metrics.calibration import (
    crps,
    energy_score,
    expected_coverage,
    holm,
    interval_coverage,
    sbc_ranks,
    tarp_ranks,
    uniformity,
)

NOISE = 0.5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def simulate(
    n: int, m: int, d: int, width: float = 1.0, shift: float = 0.0, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Samples `[n, m, d]` of the posteriors of N(0, I) after a noisy look; truths and measurements `[m, d]`."""
    g = generator(seed)
    truth = torch.randn(m, d, dtype=F64, generator=g)
    y = truth + NOISE * torch.randn(m, d, dtype=F64, generator=g)
    variance = NOISE**2 / (1 + NOISE**2)
    noise = torch.randn(n, m, d, dtype=F64, generator=g)
    return y / (1 + NOISE**2) + math.sqrt(variance) * (shift + width * noise), truth, y


def test_ranks_of_exact_posteriors_are_uniform() -> None:
    x, truth, _ = simulate(19, 2000, 3)
    ranks = sbc_ranks(x, truth, generator())
    assert ranks.shape == (2000, 3) and ranks.min() == 0 and ranks.max() == 19
    assert (uniformity(ranks, 19) > 1e-3).all()
    norms = sbc_ranks(x.norm(dim=-1), truth.norm(dim=-1), generator())
    assert uniformity(norms, 19) > 1e-3


@pytest.mark.parametrize(("width", "shift"), [(1.5, 0.0), (0.67, 0.0), (1.0, 0.3)])
def test_ranks_of_wrong_posteriors_are_not(width: float, shift: float) -> None:
    x, truth, _ = simulate(19, 2000, 1, width, shift)
    ranks = sbc_ranks(x, truth, generator())
    assert uniformity(ranks, 19) < 1e-6
    middle = float(((ranks > 4) & (ranks < 15)).double().mean())
    # Catches: ranks the wrong way round, which the test of uniformity does not see.
    if shift:
        assert ranks.double().mean() < 9
    else:
        assert middle > 0.55 if width > 1 else middle < 0.45


def test_tied_ranks_are_broken_evenly() -> None:
    # Catches: ties that always lose, which makes exact posteriors of discrete statistics fail.
    ranks = sbc_ranks(torch.zeros(9, 5000), torch.zeros(5000), generator())
    assert uniformity(ranks, 9, bins=10) > 1e-3
    g = generator(1)
    counts = torch.poisson(torch.full((10, 5000), 1.5, dtype=F64), generator=g)
    assert uniformity(sbc_ranks(counts[1:], counts[0], g), 9, bins=10) > 1e-3
    x = torch.tensor([1.0, 2.0, 2.0, 3.0])[:, None].expand(4, 300)
    assert set(sbc_ranks(x, torch.full((300,), 2.0), g).tolist()) == {1, 2, 3}
    assert set(sbc_ranks(x, torch.full((300,), 2.5), g).tolist()) == {3}


def test_uniformity_is_the_chi_square_test() -> None:
    g = generator()
    ranks = torch.randint(0, 20, (400, 2), generator=g)
    ranks[:40, 1] = 0
    for bins in (4, 10, 20):
        counts = [np.bincount(ranks[:, j].numpy() * bins // 20, minlength=bins) for j in range(2)]
        expected = [chisquare(c).pvalue for c in counts]
        assert np.allclose(uniformity(ranks, 19, bins=bins), expected)
    # 11 ranks do not fill 4 bins evenly.
    some = torch.randint(0, 11, (300,), generator=g)
    sizes = np.bincount(np.arange(11) * 4 // 11)
    counts = np.bincount(some.numpy() * 4 // 11)
    expected = chisquare(counts, sizes * 300 / 11).pvalue
    assert float(uniformity(some, 10, bins=4)) == pytest.approx(expected)


def test_p_values_are_uniform() -> None:
    ranks = torch.randint(0, 31, (200, 400), generator=generator())
    assert kstest(uniformity(ranks, 30), "uniform").pvalue > 1e-3


def test_coverage_of_exact_posteriors_is_the_diagonal() -> None:
    x, truth, y = simulate(30, 2000, 4)
    for references in (None, y, torch.zeros_like(y)):
        curve = expected_coverage(x, truth, generator(), references)
        n = len(x) - (references is None)
        assert torch.allclose(curve.levels, torch.arange(n + 2, dtype=F64) / (n + 1))
        assert curve.coverage[0] == 0 and curve.coverage[-1] == 1
        assert (curve.coverage - curve.levels).abs().max() < 1.95 / math.sqrt(2000)
        ranks, count = tarp_ranks(x, truth, generator(), references)
        assert count == n and uniformity(ranks, n) > 1e-3


def test_coverage_of_few_samples_is_the_diagonal() -> None:
    # Catches: levels k / n, which two samples show to be wrong by up to a third.
    x, truth, _ = simulate(3, 20_000, 2)
    curve = expected_coverage(x, truth, generator())
    assert curve.levels.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert curve.coverage.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=0.015)


def test_coverage_of_wrong_posteriors() -> None:
    inner = slice(3, -3)
    for width, shift, sign in ((0.5, 0.0, -1), (2.0, 0.0, 1), (1.0, 1.5, -1)):
        x, truth, _ = simulate(30, 2000, 4, width, shift)
        curve = expected_coverage(x, truth, generator())
        assert (sign * (curve.coverage - curve.levels)[inner] > 0.02).all()


def test_coverage_with_references_sees_samples_that_ignore_the_measurement() -> None:
    _, truth, y = simulate(1, 2000, 4)
    x = normal(30, 2000, 4, seed=5)
    ranks, n = tarp_ranks(x, truth, generator())
    assert uniformity(ranks, n) > 1e-3
    ranks, n = tarp_ranks(x, truth, generator(), y)
    assert uniformity(ranks, n) < 1e-6


def test_coverage_knows_no_units() -> None:
    x, truth, _ = simulate(10, 50, 3)
    units = torch.tensor([1.0, 1e3, 1e-3])
    a, b = (expected_coverage(u * x, u * truth, generator()).coverage for u in (1, units))
    assert torch.allclose(a, b)
    pictures = expected_coverage(x[..., None], truth[..., None], generator()).coverage
    assert torch.equal(a, pictures)
    scalars = expected_coverage(x[..., 0], truth[..., 0], generator()).coverage
    assert torch.equal(
        scalars, expected_coverage(x[..., :1], truth[..., :1], generator()).coverage
    )


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("n", [1, 4, 9, 19, 100])
def test_intervals_of_any_number_of_samples_cover_as_they_say(n: int, level: float) -> None:
    # A truth among n exact samples has each of n + 1 ranks with equal probability; the mean over
    # them is the level without any noise.
    # Catches: interpolated quantiles, between which 4 samples hold about half of the truths at level 0.9.
    x = torch.arange(1.0, n + 1, dtype=F64)[:, None].expand(n, n + 1)
    truth = torch.arange(n + 1, dtype=F64) + 0.5
    assert interval_coverage(x, truth, level) == pytest.approx(level, abs=1e-12)
    # A tie of the truth with any of the samples stands for all the ranks that it might have.
    for equal in range(1, n + 1):
        below = torch.arange(n - equal + 1)
        tied = (torch.arange(n)[:, None] >= below).double()
        tied[torch.arange(n)[:, None] >= below + equal] = 2
        one = torch.ones(len(below), dtype=F64)
        values = [interval_coverage(tied[:, i], one[i], level) for i in range(len(below))]
        spread = [
            np.mean([interval_coverage(x[:, 0], truth[b + j], level) for j in range(equal + 1)])
            for b in below.tolist()
        ]
        assert values == pytest.approx(spread, abs=1e-12)
        if n == 100:
            break


@pytest.mark.parametrize("n", [4, 9, 19])
def test_intervals_of_exact_samples_cover_nine_tenths(n: int) -> None:
    x, truth, _ = simulate(n, 20_000, 1)
    assert interval_coverage(x, truth) == pytest.approx(0.9, abs=0.006)
    counts = torch.poisson(torch.full((n + 1, 20_000), 0.7, dtype=F64), generator=generator())
    assert interval_coverage(counts[1:], counts[0]) == pytest.approx(0.9, abs=0.006)
    # Samples that have nothing to do with the truth.
    worst = max(0.0, 1 - (n + 1) * 0.05)
    assert interval_coverage(x, truth + 100) == pytest.approx(worst, abs=1e-12)


def test_intervals_of_many_samples_are_between_quantiles() -> None:
    x, truth, _ = simulate(999, 300, 4, width=0.6)
    low, high = np.quantile(x, [0.05, 0.95], axis=0)
    inside = ((truth.numpy() > low) & (truth.numpy() < high)).mean()
    assert interval_coverage(x, truth) == pytest.approx(inside, abs=0.005)
    assert inside < 0.75
    assert interval_coverage(x[:, 0], truth[0]) in {0.0, 0.25, 0.5, 0.75, 1.0}


def test_crps_of_a_gaussian_in_closed_form() -> None:
    # Catches: the score of the ensemble's own distribution, which favours many samples.
    y = torch.tensor([-1.0, 0.0, 0.4, 3.0], dtype=F64)
    z = y.numpy()
    exact = z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / math.sqrt(math.pi)
    for n in (2, 5, 50):
        x = normal(n, 40_000 // n, 4)
        scores = crps(x, y.expand(40_000 // n, 4))
        error = scores.std(0) / math.sqrt(40_000 // n)
        assert ((scores.mean(0) - torch.from_numpy(exact)).abs() < 4 * error).all()


def test_crps_against_scipy() -> None:
    # Half the squared energy distance to the truth is the score that is not fair; it has the factor
    # (n - 1) / n before the mean distance between members.
    x, y = normal(7, 3, 2), normal(3, 2, seed=1)
    between = (x[:, None] - x).abs().sum((0, 1)) / (7 * 6)
    scores = crps(x, y)
    for i in range(3):
        for j in range(2):
            unfair = energy_distance(x[:, i, j], y[i, j, None]) ** 2 / 2
            assert float(scores[i, j]) == pytest.approx(unfair - float(between[i, j]) / 14)


def test_energy_score() -> None:
    x, y = normal(6, 2, 3), normal(2, 3, seed=1)
    pairs = [(x[i] - x[j]).norm() for i in range(6) for j in range(6) if i != j]
    expected = torch.stack([(row - y).norm() for row in x]).mean() - torch.stack(pairs).mean() / 2
    assert energy_score(x, y) == pytest.approx(float(expected))
    assert energy_score(x[:, :1, 0], y[:1, 0]) == pytest.approx(float(crps(x[:, 0, 0], y[0, 0])))


def test_scores_are_best_for_exact_samples() -> None:
    def score(width: float, shift: float) -> tuple[float, float]:
        x, truth, _ = simulate(10, 4000, 3, width, shift)
        whole = [energy_score(x[:, i], truth[i]) for i in range(1000)]
        return float(crps(x, truth).mean()), sum(whole) / 1000

    best = score(1, 0)
    for other in (score(0.5, 0), score(1.7, 0), score(1, 0.7)):
        assert other[0] > best[0] + 0.005 and other[1] > best[1] + 0.005


def test_what_is_refused() -> None:
    x, truth, _ = simulate(5, 20, 2)
    for metric in (crps, energy_score, interval_coverage):
        with pytest.raises(po.ShapeError, match="Samples \\[n, \\*shape\\]"):
            metric(x, truth[0])
    for score in (crps, energy_score):
        with pytest.raises(po.InputError, match="at least 2 samples"):
            score(x[:1], truth)
    with pytest.raises(po.InputError, match="NaN has no rank"):
        interval_coverage(x * math.nan, truth)
    with pytest.raises(po.InputError, match="NaN has no rank"):
        sbc_ranks(x, truth * math.nan, generator())
    with pytest.raises(po.InputError, match="level=90"):
        interval_coverage(x, truth, level=90)
    with pytest.raises(po.InputError, match="at least 10 simulations"):
        uniformity(torch.zeros(9), 5)
    with pytest.raises(po.InputError, match="bins=7"):
        uniformity(torch.zeros(20), 5, bins=7)
    with pytest.raises(po.InputError, match="integers from 0 to 5"):
        uniformity(torch.full((20,), 6), 5)
    # Catches: NaN, which is in no bin of a table and in one of another; ranks that are rounded down; bytes of samples
    # whose differences go round below 0; p-values of others that are none.
    for ranks in (torch.full((20,), math.nan), torch.full((20,), 0.5)):
        with pytest.raises(po.InputError, match="integers from 0 to 5"):
            uniformity(ranks, 5)
    low, high = torch.tensor([[[0], [250]], [[3], [7]], [[9], [1]]]), torch.tensor([[200], [4]])
    of_bytes = tarp_ranks(low.byte(), high.byte(), generator())[0]
    assert torch.equal(of_bytes, tarp_ranks(low.double(), high.double(), generator())[0])
    with pytest.raises(po.InputError, match="P-values are from 0 to 1"):
        holm(torch.tensor([0.01, 2.0]))
    with pytest.raises(po.InputError, match="at least 2 simulations"):
        expected_coverage(x[:, :1], truth[:1], generator())
    with pytest.raises(po.InputError, match="One sample serves as reference"):
        expected_coverage(x[:1], truth, generator())
    with pytest.raises(po.ShapeError, match="Each truth has a reference"):
        expected_coverage(x, truth, generator(), references=truth[0])
