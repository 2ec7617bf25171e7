"""How far samples are from another set of samples, or from a law that is known exactly.

Samples that hold NaN have the distance NaN.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..analytic import GaussianMixture
from ..analytic.gaussian import spectrum
from ..core.errors import InputError, ShapeError, expect, require
from ..core.space import real

Draw = Callable[[int, torch.Generator], Tensor]


def _two_sets(x: Tensor, y: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both sets flattened in float64, `[n, d]` and `[m, d]`."""
    x, y = real(x, "A set of samples"), real(y, "A set of samples")
    if x.ndim == 0 or x.shape[1:] != y.shape[1:] or y.ndim == 0:
        raise ShapeError(
            "Two sets of samples of equal shape are compared, [n, *event] and [m, *event]; "
            f"got {tuple(x.shape)} and {tuple(y.shape)}."
        )
    _at_least(least, x, y)
    return x.reshape(len(x), -1).double(), y.reshape(len(y), -1).double()


def _at_least(n: int, *sets: Tensor) -> None:
    fewest = min(len(x) if x.ndim else 0 for x in sets)
    require(fewest >= n, f"This metric needs at least {n} samples; got {fewest}.")


def sliced_wasserstein(x: Tensor, y: Tensor, directions: int = 100, seed: int = 0) -> float:
    """The mean over random directions of the 1-D Wasserstein-1 distance, in data units (arXiv:1011.0435).

    Args:
        x: Samples, `[n, *event]`.
        y: Samples, `[m, *event]`.
        directions: Unit directions, uniform on the sphere.
        seed: Seed of the directions.

    Raises:
        ShapeError: If the events of the two sets differ in shape.
    """
    x, y = _two_sets(x, y)
    require(directions >= 1, f"directions={directions} is below 1.")
    generator = torch.Generator().manual_seed(seed)
    units = torch.randn(x.shape[1], directions, dtype=torch.float64, generator=generator)
    return wasserstein_along(x, y, (units / units.norm(dim=0)).to(x.device))


def wasserstein_along(x: Tensor, y: Tensor, units: Tensor) -> float:
    """The mean over given directions of the 1-D Wasserstein-1 distance, in data units.

    `units` are directions of the flattened event, columns of length 1, `[d, directions]` in float64; the rest is as of
    `sliced_wasserstein`.
    """
    x, y = _two_sets(x, y)
    units = real(units, "An array of directions").double()
    if units.ndim != 2 or len(units) != x.shape[1]:
        raise ShapeError(
            f"Directions of {x.shape[1]} entries are columns ({x.shape[1]}, k), not {tuple(units.shape)}."
        )
    off = (units.norm(dim=0) - 1).abs()
    require(bool((off < 1e-6).all()), "Directions have length 1, or distances are in other units.")
    n, m = len(x), len(y)
    # Between two edges both quantile functions are constant; in units of 1 / (n m), edges are whole.
    ours, theirs = m * torch.arange(n + 1), n * torch.arange(m)
    edges = torch.cat([ours, theirs]).sort().values.to(x.device)
    left = edges[:-1]
    quantiles = (x @ units).sort(0).values[left // m], (y @ units).sort(0).values[left // n]
    gaps = (quantiles[0] - quantiles[1]).abs().mean(1)
    return float((gaps * edges.diff() / (n * m)).sum())


class Floor(NamedTuple):
    """What a distance is between two sets of exact draws: the mean over pairs of sets, and its standard error."""

    mean: float
    standard_error: float


def two_sample_floor(
    draw: Draw, n: int, *, repetitions: int = 20, directions: int = 100, seed: int = 0
) -> Floor:
    """The sliced Wasserstein distance to expect between two independent exact sets of `n` samples.

    Args:
        draw: Draws exactly: `draw(n, generator)` returns `[n, *event]`; the generator is on the CPU.
        n: Samples a set.
        repetitions: Independent pairs of sets, at least 2.
        directions: Unit directions of each distance.
        seed: Seed of the draws.
    """
    require(repetitions >= 2, f"A standard error needs 2 repetitions; repetitions={repetitions}.")
    generator = torch.Generator().manual_seed(seed)
    pairs = ((draw(n, generator), draw(n, generator)) for _ in range(repetitions))
    distances = [sliced_wasserstein(x, y, directions) for x, y in pairs]
    values = torch.tensor(distances, dtype=torch.float64)
    return Floor(float(values.mean()), float(values.std()) / math.sqrt(repetitions))


def mmd(x: Tensor, y: Tensor, bandwidth: float | None = None) -> float:
    """The squared maximum mean discrepancy, without bias (Gretton et al., 2012, equation 3).

    The kernel is `exp(-|a - b|^2 / (2 bandwidth^2))`. Two sets of one law have 0 in the mean, and so
    come out below 0 about every other time.

    Args:
        x: Samples, `[n, *event]`, at least 2.
        y: Samples, `[m, *event]`, at least 2.
        bandwidth: In data units; by default the median distance among the samples of both sets.

    Raises:
        ShapeError: If the events of the two sets differ in shape.
        InputError: If the bandwidth is not above 0.
    """
    x, y = _two_sets(x, y, least=2)
    n, both = len(x), torch.cat([x, y])
    # Distances come from products, in which a common offset would cancel badly.
    both = both - both.mean(0)
    distances = torch.cdist(both, both)
    if bandwidth is None:
        bandwidth = float(_median(distances))
    if bandwidth <= 0:
        raise InputError(f"The bandwidth of a kernel is above 0; here it is {bandwidth:.3g}.")
    kernel = torch.exp(-distances.square() / (2 * bandwidth**2)).fill_diagonal_(0)
    m = len(y)
    within = kernel[:n, :n].sum() / (n * (n - 1)) + kernel[n:, n:].sum() / (m * (m - 1))
    return float(within - 2 * kernel[:n, n:].mean())


def _median(distances: Tensor) -> Tensor:
    """The median of the distances `[n, n]` between different samples."""
    return distances[torch.ones_like(distances).triu(1).bool()].median()


def c2st(x: Tensor, y: Tensor, *, folds: int = 5, features: int = 256, seed: int = 0) -> float:
    """Classifier two-sample test (arXiv:1610.06545): accuracy 0.5 for indistinguishable sets, 1 for separable ones.

    The classifier is a ridge-penalised logistic regression on the entries, their squares, and random
    Fourier features of two scales; its accuracy is taken on samples that it was not fitted to. Two sets
    of one law have 0.5 in the mean with a standard deviation of about `0.5 / sqrt(2 n)`. A weak
    classifier's 0.5 proves less than a strong one's: this one sees a shift of half a standard deviation
    in 8 dimensions with 500 samples (0.58; the best possible is 0.60), and hardly sees 25 separate
    modes grow by a fifth in width.

    Args:
        x: Samples, `[n, *event]`.
        y: As many samples, `[n, *event]`.
        folds: Parts into which each set is split, at least 2.
        features: Random features.
        seed: Seed of the split and of the features.

    Raises:
        ShapeError: If the two sets differ in shape.
        InputError: If there are fewer samples than folds.
    """
    x, y = real(x, "A set of samples"), real(y, "A set of samples")
    if x.shape != y.shape:
        raise ShapeError(
            f"A classifier needs two sets of equal shape; got {tuple(x.shape)} and {tuple(y.shape)}."
        )
    require(folds >= 2, f"A test needs samples that were not fitted to: folds={folds} is below 2.")
    x, y = _two_sets(x, y, least=folds)
    n, generator = len(x), torch.Generator().manual_seed(seed)
    design = _features(torch.cat([x, y]), features, generator)
    if not design.isfinite().all():
        # A classifier without information has accuracy 0.5; samples that diverged are no match.
        return math.nan
    label = torch.cat([torch.zeros_like(x[:, 0]), torch.ones_like(y[:, 0])])
    part = torch.cat([torch.randperm(n, generator=generator) for _ in range(2)]).to(x.device)
    part, right = part % folds, 0.0
    for i in range(folds):
        seen, unseen = part != i, part == i
        weights = _logistic(design[seen], label[seen])
        vote = (design[unseen] @ weights) * (2 * label[unseen] - 1)
        # A vote within rounding counts half.
        right += float(torch.where(vote.abs() < 1e-9, 0.5, (vote > 0).double()).sum())
    return right / (2 * n)


def _features(z: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Features of samples `[n, d]`, of which no more are kept than there are samples."""
    d, std = z.shape[1], z.std(0)
    z = (z - z.mean(0)) / torch.where(std > 0, std, 1)
    parts = [torch.ones_like(z[:, :1]), z / math.sqrt(d), (z**2 - 1) / math.sqrt(d)]
    distance = _median(torch.cdist(z, z))
    distance = torch.where(distance > 0, distance, 1)
    for scale in (0.25, 1.0):
        k = math.ceil(count / 2)
        slopes = torch.randn(d, k, dtype=z.dtype, generator=generator).to(z.device)
        phases = torch.rand(k, dtype=z.dtype, generator=generator).to(z.device) * 2 * math.pi
        parts.append(math.sqrt(2 / k) * torch.cos(z @ slopes / (scale * distance) + phases))
    features = torch.cat(parts, 1)
    if features.shape[1] <= len(z) or not features.isfinite().all():
        return features
    # A ridge solution is a combination of the samples: in their span the fit is the same.
    values, vectors = torch.linalg.eigh(features @ features.mT)
    floor = values.max() * len(z) * torch.finfo(z.dtype).eps
    reduced: Tensor = vectors * torch.where(values > floor, values, 0).sqrt()
    return reduced


def _logistic(design: Tensor, label: Tensor, ridge: float = 1.0, iterations: int = 20) -> Tensor:
    """Weights of the logistic regression with the penalty `ridge |weights|^2 / 2`, by Newton's method."""
    weights = torch.zeros_like(design[0])
    penalty = ridge * torch.eye(len(weights), dtype=design.dtype, device=design.device)
    for _ in range(iterations):
        p = torch.sigmoid(design @ weights)
        curvature = design.mT @ (design * (p * (1 - p))[:, None]) + penalty
        slope = design.mT @ (p - label) + ridge * weights
        step = torch.linalg.solve(curvature, slope)
        weights = weights - step
        if step.abs().max() < 1e-6:
            break
    return weights


@runtime_checkable
class Law(Protocol):
    """A law whose moments are known: `mean` `[*event]` and `covariance` of the flattened event `[d, d]`."""

    mean: Tensor
    covariance: Tensor


class Moments(NamedTuple):
    """The first two moments of a law: mean `[*event]` and covariance of the flattened event `[d, d]`."""

    mean: Tensor
    covariance: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviations of the entries, `[*event]`."""
        return self.covariance.diagonal().sqrt().reshape(self.mean.shape)


def moments(law: object) -> Moments:
    """Mean and covariance of a law that has them as attributes, exactly.

    Raises:
        CapabilityError: If the law has none.
    """
    known = expect(law, Law, by="moments")
    return Moments(known.mean, known.covariance)


def mean_error(x: Tensor, mean: Tensor, std: Tensor) -> float:
    """How far the mean of samples `[n, *event]` is off, in standard deviations `[*event]` of the exact law.

    The root mean square over entries. Exact samples have about `1 / sqrt(n)`.
    """
    x, mean = _fits(x, mean, "mean")
    x, std = _fits(x, std, "std")
    z = (x.double().mean(0) - mean.double()) / std.double()
    return float(z.square().mean().sqrt())


def variance_ratio(x: Tensor, std: Tensor) -> float:
    """The variance of at least 2 samples over the exact one, `std^2`, its mean over entries; 1 is right.

    Below 1 samples are underdispersed, above 1 overdispersed. Exact samples have 1 in the mean.
    """
    x, std = _fits(x, std, "std")
    _at_least(2, x)
    return float((x.double().var(0) / std.double() ** 2).mean())


def covariance_error(x: Tensor, covariance: Tensor) -> float:
    """How far the covariance of the samples is off, relative to the exact one.

    In coordinates in which the exact covariance is the identity, the Frobenius norm of the difference
    over `sqrt(d)`: samples that are all equal have 1. Exact samples of a Gaussian law have about
    `sqrt((d + 1) / (n - 1))`.

    Args:
        x: Samples, `[n, *event]`, at least 2.
        covariance: Of the flattened event, `[d, d]`.

    Raises:
        InputError: If the covariance is not positive definite.
    """
    x, covariance = real(x, "A set of samples"), real(covariance, "A covariance")
    _at_least(2, x)
    flat = x.reshape(len(x), -1).double()
    n, d = flat.shape
    if tuple(covariance.shape) != (d, d):
        raise ShapeError(
            f"Samples of {d} entries need a covariance ({d}, {d}), not {tuple(covariance.shape)}."
        )
    values, vectors = spectrum(covariance.double())
    white = (flat - flat.mean(0)) @ vectors / values.sqrt()
    eye = torch.eye(d, dtype=flat.dtype, device=flat.device)
    return float((white.mT @ white / (n - 1) - eye).norm() / math.sqrt(d))


def _fits(x: Tensor, moment: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Both as tensors, if the moment is one of samples' entries; a standard deviation is above 0."""
    x, moment = real(x, "A set of samples"), real(moment, name)
    if x.ndim == 0 or x.shape[1:] != moment.shape:
        raise ShapeError(
            f"{name} has shape {tuple(moment.shape)}; samples {tuple(x.shape)} need one of "
            f"{tuple(x.shape[1:])}."
        )
    _at_least(1, x)
    require(name != "std" or bool((moment > 0).all()), "A standard deviation is above 0.")
    return x, moment


def mode_weights(x: Tensor, mixture: GaussianMixture) -> Tensor:
    """The share of samples `[n, *event]` in each component of a mixture, `[K]`.

    A sample counts for each component by the probability that it came from it, so that exact samples have
    the weights of the mixture in the mean even where components overlap.
    """
    x = real(x, "A set of samples")
    if x.shape[1:] != mixture.space.shape:
        raise ShapeError(f"Samples are [n, *{mixture.space.shape}], not {tuple(x.shape)}.")
    _at_least(1, x)
    flat = mixture.space.flatten(x).double()
    values, vectors = spectrum(mixture.covariances.double())
    centers = mixture.means.reshape(len(mixture.means), -1).double()
    z = torch.einsum("nkd,kde->nke", flat[:, None] - centers, vectors)
    log_joint = mixture.weights.double().log() - (z**2 / values + values.log()).sum(-1) / 2
    return log_joint.softmax(-1).mean(0)


def mode_weight_error(x: Tensor, mixture: GaussianMixture) -> float:
    """Total variation between the samples' `mode_weights` and the mixture's, from 0 to 1.

    It measures how samples are spread over modes, and not their law within a mode.
    """
    return float((mode_weights(x, mixture) - mixture.weights.double()).abs().sum() / 2)
