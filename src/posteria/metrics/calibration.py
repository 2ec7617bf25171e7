"""Calibration: whether the spread of samples is that of their error, measured against known truths.

The axis of the samples comes first: samples `[n, *shape]` go with a truth `[*shape]`, where `*shape`
may begin with an axis of independent simulations. A simulation draws a truth from the prior, measures
it, and samples its posterior; then truth and exact samples have one law.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, ShapeError, require
from ..core.space import real


def _check(x: Tensor, truth: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both as tensors, if they fit."""
    x, truth = real(x, "A set of samples"), real(truth, "A truth")
    if x.ndim == 0 or x.shape[1:] != truth.shape:
        raise ShapeError(
            f"Samples [n, *shape] go with a truth [*shape]; got {tuple(x.shape)} and {tuple(truth.shape)}."
        )
    require(len(x) >= least, f"This metric needs at least {least} samples; got {len(x)}.")
    return x, truth


def _below(x: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """How many samples are below the truth, and how many equal to it, `[*shape]`."""
    x, truth = _check(x, truth)
    if x.isnan().any() or truth.isnan().any():
        raise InputError("NaN has no rank; remove the samples or truths that hold it.")
    return (x < truth).sum(0), (x == truth).sum(0)


def sbc_ranks(x: Tensor, truth: Tensor, generator: torch.Generator) -> Tensor:
    """Ranks for simulation-based calibration (Talts et al., 2018, arXiv:1804.06788), integers from 0 to n, `[*shape]`.

    Exact posteriors have ranks uniform on 0..n, whatever the statistic. A peak in the middle means that
    samples are overdispersed, peaks at both ends that they are underdispersed, a slope that they are
    biased. Samples that ignore the measurement pass.

    Args:
        x: Statistics of the samples, `[n, *shape]`; the entries themselves, or their norm, or the
            log-likelihood, which also sees samples that ignore the measurement.
        truth: The same of the truths, `[*shape]`.
        generator: Breaks ties, on the device of the truth.

    Raises:
        InputError: If there is NaN.
    """
    below, equal = _below(x, truth)
    u = torch.rand(below.shape, dtype=torch.float64, device=below.device, generator=generator)
    return below + (u * (equal + 1)).long()


def uniformity(ranks: Tensor, n: int, bins: int | None = None) -> Tensor:
    """The p-value of Pearson's chi-square test that ranks are uniform on 0..n.

    Args:
        ranks: Of independent simulations, `[m, *shape]`.
        n: The highest rank, which is the number of samples a truth was ranked among.
        bins: Bins of neighbouring ranks, at most n + 1; by default at most 10, with 5 simulations or
            more in each.

    Returns:
        `[*shape]` in float64.

    Raises:
        InputError: If there are too few simulations, or a rank is out of range or no integer.
    """
    ranks = real(ranks, "An array of ranks")
    require(ranks.ndim > 0 and n >= 1, f"Ranks [m, *shape] are among n >= 1 samples; n={n}.")
    m = len(ranks)
    if bins is None:
        require(m >= 10, f"A chi-square test needs at least 10 simulations; got {m}.")
        bins = min(10, m // 5, n + 1)
    require(2 <= bins <= n + 1, f"bins={bins} is not from 2 to n + 1 = {n + 1}.")
    # NaN is in no range either.
    if m == 0 or not ((ranks >= 0) & (ranks <= n) & (ranks == ranks.floor())).all():
        raise InputError(f"Ranks among {n} samples are integers from 0 to {n}; here they are not.")
    which = torch.arange(bins, device=ranks.device)
    sizes = torch.bincount(torch.arange(n + 1) * bins // (n + 1), minlength=bins).to(ranks.device)
    binned = ranks.long() * bins // (n + 1)
    counts = (binned[..., None] == which).sum(0).double()
    expected = sizes.double() * m / (n + 1)
    statistic = ((counts - expected) ** 2 / expected).sum(-1)
    half: Tensor = torch.full_like(statistic, (bins - 1) / 2)
    p_value: Tensor = torch.special.gammaincc(half, statistic / 2)
    return p_value


class Coverage(NamedTuple):
    """Share of simulations whose credible region holds the truth, by level from 0 to 1: `[n + 2]` each."""

    levels: Tensor
    coverage: Tensor


def tarp_ranks(
    x: Tensor, truth: Tensor, generator: torch.Generator, references: Tensor | None = None
) -> tuple[Tensor, int]:
    """Ranks of the truths by their distance to reference points (Lemos et al., 2023, arXiv:2302.03026).

    Entries are divided by their standard deviation over the truths first.

    Args:
        x: Samples of m >= 2 simulations, `[n, m, *event]`.
        truth: `[m, *event]`.
        generator: Breaks ties, on the device of the truth.
        references: Points that were not chosen by looking at the truth of their simulation, `[m, *event]`;
            by default the last sample of each simulation, which is then left out. Points that depend on
            the measurement also see samples that ignore it.

    Returns:
        Ranks `[m]` and the number of samples that the truths were ranked among.
    """
    x, truth = _check(x, truth)
    simulations = len(truth) if truth.ndim else 0
    require(simulations >= 2, "Coverage needs the truths of at least 2 simulations.")
    if references is None:
        require(len(x) >= 2, "One sample serves as reference; coverage needs at least 2.")
        x, references = x[:-1], x[-1]
    references = real(references, "An array of references")
    if references.shape != truth.shape:
        raise ShapeError(
            f"Each truth has a reference: {tuple(truth.shape)}, not {tuple(references.shape)}."
        )
    std = truth.double().std(0)
    std = torch.where(std > 0, std, 1)

    def distance(z: Tensor) -> Tensor:
        offset = (z.double() - references.double()) / std
        length: Tensor = offset.reshape(*z.shape[: z.ndim - truth.ndim + 1], -1).norm(dim=-1)
        return length

    return sbc_ranks(distance(x), distance(truth), generator), len(x)


def expected_coverage(
    x: Tensor, truth: Tensor, generator: torch.Generator, references: Tensor | None = None
) -> Coverage:
    """The coverage of credible balls around reference points (TARP; Lemos et al., 2023, arXiv:2302.03026).

    A curve below the diagonal means that samples are underdispersed or biased, one above that they are
    overdispersed. Levels count the truth among the samples, so that exact samples lie on the diagonal
    in the mean even if they are few. Arguments as of `tarp_ranks`, whose ranks `uniformity` tests.
    """
    ranks, n = tarp_ranks(x, truth, generator, references)
    k = torch.arange(n + 2, device=ranks.device)
    # Truths of rank k - 1 or less are inside the ball that holds the share k / (n + 1).
    inside: Tensor = torch.bincount(ranks, minlength=n + 1).cumsum(0).double() / len(ranks)
    return Coverage(k.double() / (n + 1), torch.cat([inside.new_zeros(1), inside]))


def interval_coverage(x: Tensor, truth: Tensor, level: float = 0.9) -> float:
    """The share of the entries of the truth that are inside the central interval of their samples.

    Right for any number of samples: among n exact samples the truth stands for a slice `1 / (n + 1)` of
    [0, 1], and the part of its slice that is inside the central `level` counts. The price is that few
    samples cannot show all of a failure: the share is never below `1 - (n + 1) (1 - level) / 2`, above
    0 for less than 19 samples at level 0.9.

    Args:
        x: Samples, `[n, *shape]`.
        truth: `[*shape]`.
        level: Probability of the interval, between 0 and 1.
    """
    require(0 < level < 1, f"level={level} is not between 0 and 1.")
    below, equal = (count.double() for count in _below(x, truth))
    ranks = len(x) + 1
    tail = ranks * (1 - level) / 2
    # Tied with some samples, the truth stands for their slices too.
    first, last = below.clamp(min=tail), (below + equal + 1).clamp(max=ranks - tail)
    return float(((last - first).clamp(min=0) / (equal + 1)).mean())


def crps(x: Tensor, truth: Tensor) -> Tensor:
    """The continuous ranked probability score of each entry, `[*shape]` in float64, in data units; smaller is better.

    The fair estimate (Ferro, 2014, doi:10.1002/qj.2270): its mean does not depend on the number of
    samples, and over truths and measurements it is smallest for exact samples.

    Args:
        x: Samples, `[n, *shape]`, at least 2.
        truth: `[*shape]`.
    """
    x, truth = _check(x, truth, least=2)
    n, x = len(x), x.double()
    # The sum of |x_i - x_j| over pairs is one of sorted samples, each by how many are below and above.
    rank = 2 * torch.arange(n, dtype=x.dtype, device=x.device) - n + 1
    spread = (x.sort(0).values * rank.reshape(-1, *[1] * truth.ndim)).sum(0)
    return (x - truth.double()).abs().mean(0) - spread / (n * (n - 1))


def energy_score(x: Tensor, truth: Tensor) -> float:
    """The energy score, CRPS for whole events (Gneiting and Raftery, 2007): the fair estimate.

    Of at least 2 samples `[n, *event]` of one posterior and a truth `[*event]`.
    """
    x, truth = _check(x, truth, least=2)
    flat, point = x.reshape(len(x), -1).double(), truth.reshape(1, -1).double()
    return float((flat - point).norm(dim=1).mean() - torch.pdist(flat).mean() / 2)


class RankTests(NamedTuple):
    """Whether ranks are uniform, in three ways.

    Attributes:
        shift: Mean of the normal scores, `[*shape]`: by how many standard deviations of the samples truths lie
            above them.
        width: Standard deviation of the normal scores, `[*shape]`: above 1 the samples are too near to each other.
        p_values: Of shift, width and shape, `[3, *shape]`.
    """

    shift: Tensor
    width: Tensor
    p_values: Tensor


def rank_tests(ranks: Tensor, n: int, generator: torch.Generator) -> RankTests:
    """Tests of ranks that tell a shift from a wrong width, exact for any number of simulations and samples.

    A rank r among n becomes a normal score, the quantile of N(0, 1) at `(r + u) / (n + 1)` with u uniform
    on [0, 1). Scores of uniform ranks are exactly independent draws of N(0, 1): their mean over its
    standard error follows Student's t whatever the width, and their variance a chi-square law whatever
    the shift. What is left of the shape is for Pearson's test of the ranks (`uniformity`), an
    asymptotic one.

    Args:
        ranks: Of independent simulations, `[m, *shape]`, at least 10 of them.
        n: The highest rank.
        generator: Draws u.
    """
    ranks = real(ranks, "An array of ranks")
    m, shape = len(ranks), uniformity(ranks, n)
    u = torch.rand(ranks.shape, dtype=torch.float64, device=ranks.device, generator=generator)
    z = torch.special.ndtri(((ranks + u) / (n + 1)).clamp(1e-15, 1 - 1e-15))
    mean, variance = z.mean(0), z.var(0)
    half, square = torch.full_like(variance, (m - 1) / 2), (m - 1) * variance / 2
    low, high = torch.special.gammainc(half, square), torch.special.gammaincc(half, square)
    p_shift = _student(mean.abs() * m**0.5 / variance.sqrt(), m - 1)
    p_width = (2 * torch.minimum(low, high)).clamp(max=1)
    return RankTests(mean, variance.sqrt(), torch.stack([p_shift, p_width, shape]))


def _student(t: Tensor, freedom: int) -> Tensor:
    """The probability that |T| > t for Student's law, by Gauss-Legendre quadrature in the angle whose tangent is T."""
    nodes, weights = (torch.as_tensor(a).to(t) for a in np.polynomial.legendre.leggauss(64))
    start = torch.atan(t / freedom**0.5)
    half = (math.pi / 2 - start) / 2
    angles = start[..., None] + half[..., None] * (1 + nodes)
    mass = half * (weights * angles.cos() ** (freedom - 1)).sum(-1)
    whole = math.log(math.pi) / 2 + math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)
    probability: Tensor = 2 * mass / math.exp(whole)
    return probability.clamp(max=1)


def holm(p_values: Tensor) -> Tensor:
    """P-values adjusted for their number (Holm, 1979): those below a level reject at that level over all.

    It holds whatever the dependence between the tests.

    Raises:
        InputError: If one is no probability.
    """
    p_values = real(p_values, "An array of p-values")
    require(not bool(((p_values < 0) | (p_values > 1)).any()), "P-values are from 0 to 1.")
    flat, m = p_values.flatten(), p_values.numel()
    order = flat.argsort()
    steps = flat[order] * torch.arange(m, 0, -1, dtype=flat.dtype, device=flat.device)
    adjusted = torch.empty_like(flat)
    adjusted[order] = steps.cummax(0).values.clamp(max=1)
    return adjusted.reshape(p_values.shape)
