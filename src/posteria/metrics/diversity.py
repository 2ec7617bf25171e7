"""Diversity, coverage of a reference, and saturation of samples.

Features `[n, d]` come from `posteria.metrics.features`. All is computed in float64 on their device;
tables of distances are made a block of rows at a time. Features that hold NaN or infinity have NaN.
"""

import abc
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import ShapeError, require, whole
from ..core.space import real
from ..guidance.classifiers.classifier import Classifier
from .distribution import Moments
from .image import floats

# Distances that are held at a time: 128 MiB of them.
ENTRIES = 2**24


def _features(*sets: Tensor, least: int = 1) -> list[Tensor]:
    """The sets in float64, if they are features of one width and `least` samples each."""
    tensors = [real(x, "An array of features") for x in sets]
    if any(x.ndim != 2 for x in tensors) or len({x.shape[1] for x in tensors}) > 1:
        shapes = " and ".join(str(tuple(x.shape)) for x in tensors)
        raise ShapeError(
            f"Features are [n, d], with one d; got {shapes}. Flat() makes features of any samples."
        )
    fewest = min(len(x) for x in tensors)
    require(fewest >= least, f"This metric needs at least {least} samples; got {fewest}.")
    return [x.double() for x in tensors]


def _finite(*sets: Tensor) -> bool:
    return all(bool(x.isfinite().all()) for x in sets)


def _blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of `x` and their distances to all rows of `y`, block by block.

    From differences and not from products: equal rows have distance 0 whatever their size, and a
    distance is the same in either order, which decides what lies on the edge of a ball.
    """
    size = max(1, ENTRIES // len(y))
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        yield rows, torch.cdist(x[rows], y, compute_mode="donot_use_mm_for_euclid_dist")


def _radii(x: Tensor, k: int) -> Tensor:
    """The distance of every row to its k-th nearest other row, `[n]`."""
    # The nearest of all rows is the row itself, or one that is equal to it.
    return torch.cat([block.kthvalue(k + 1, dim=1).values for _, block in _blocks(x, x)])


class PrecisionRecall(NamedTuple):
    """The share of the samples on the manifold of the reference, and of the reference on that of the samples."""

    precision: float
    recall: float


def precision_recall(x: Tensor, y: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al., 2019, arXiv:1904.06991, equations 1 to 3).

    The manifold of a set is the union of closed balls around its members, each as wide as the distance
    to the member's k-th nearest neighbour. Both depend on the numbers of samples, which should be
    equal, and the same wherever values are compared. Cost: `n^2 + m^2 + n m` distances.

    Args:
        x: Features of samples, `[n, d]`, more than k.
        y: Features of the reference, `[m, d]`, more than k.
        k: Neighbours; 3 in the paper.
    """
    require(k >= 1, f"k={k} is not a number of neighbours; it is at least 1.")
    x, y = _features(x, y, least=k + 1)
    if not _finite(x, y):
        return PrecisionRecall(math.nan, math.nan)
    ours, theirs = _radii(x, k), _radii(y, k)
    inside = []
    reached = torch.zeros_like(theirs, dtype=torch.bool)
    for rows, block in _blocks(x, y):
        inside.append((block <= theirs).any(1))
        reached |= (block <= ours[rows, None]).any(0)
    return PrecisionRecall(_share(torch.cat(inside)), _share(reached))


class DensityCoverage(NamedTuple):
    """How samples are spread over the balls of the reference.

    Attributes:
        density: Mean number of balls that a sample is in, over k; 1 in the mean for the reference's law.
        coverage: Share of the balls with a sample in them.
    """

    density: float
    coverage: float


def density_coverage(x: Tensor, y: Tensor, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al., 2020, arXiv:2002.09797, equations 3 and 4).

    Balls around the reference reach to the k-th nearest neighbour there and are open, as in the authors'
    code. Independent samples of the reference's law have density 1 in the mean, and coverage
    `1 - (m-1)...(m-k) / ((n+m-1)...(n+m-k))`: 0.97 for k = 5 and n = m. Members of the reference with k
    copies or more have no ball. Cost: `m^2 + n m` distances.

    Args:
        x: Features of samples, `[n, d]`.
        y: Features of the reference, `[m, d]`, more than k.
        k: Neighbours; 5 in the paper.
    """
    require(k >= 1, f"k={k} is not a number of neighbours; it is at least 1.")
    x, y = _features(x, y)
    _features(y, least=k + 1)
    if not _finite(x, y):
        return DensityCoverage(math.nan, math.nan)
    radii, total = _radii(y, k), 0
    covered = torch.zeros_like(radii, dtype=torch.bool)
    for _, block in _blocks(x, y):
        inside = block < radii
        total += int(inside.sum())
        covered |= inside.any(0)
    return DensityCoverage(total / (k * len(x)), _share(covered))


def _share(which: Tensor) -> float:
    return float(which.double().mean())


class Kernel(abc.ABC):
    """How alike two samples are, from features; 1 for a sample and itself."""

    @abc.abstractmethod
    def eigenvalues(self, x: Tensor) -> Tensor:
        """Those of the matrix of similarities of features `[n, d]`, over n; zeros may be left out."""


@dataclass(frozen=True)
class Cosine(Kernel):
    """The cosine of the angle between features.

    Costs `n d min(n, d)`: the similarities of n samples have the eigenvalues of a `[d, d]` matrix.
    """

    @override
    def eigenvalues(self, x: Tensor) -> Tensor:
        length = x.norm(dim=1, keepdim=True)
        require(bool((length > 0).all()), "Features that are all 0 have no angle; use RBF.")
        unit = x / length
        products = unit @ unit.mT if len(x) <= x.shape[1] else unit.mT @ unit
        values: Tensor = torch.linalg.eigvalsh(products / len(x))
        return values


@dataclass(frozen=True)
class RBF(Kernel):
    """The kernel `exp(-|a - b|^2 / (2 bandwidth^2))`. Holds an `[n, n]` matrix and costs `n^3`.

    Args:
        bandwidth: In the units of the features, above 0; such as the `mean_pairwise_distance` of the
            reference, and the same for all sets that are compared.
    """

    bandwidth: float

    def __post_init__(self) -> None:
        require(
            0 < self.bandwidth < math.inf,
            f"The bandwidth of a kernel is above 0; bandwidth={self.bandwidth}.",
        )

    @override
    def eigenvalues(self, x: Tensor) -> Tensor:
        distances = torch.cat([block for _, block in _blocks(x, x)])
        kernel = torch.exp(-distances.square() / (2 * self.bandwidth**2))
        values: Tensor = torch.linalg.eigvalsh(kernel / len(x))
        return values


COSINE = Cosine()


def vendi(x: Tensor, kernel: Kernel = COSINE) -> float:
    """The Vendi score (Friedman and Dieng, 2022, arXiv:2210.02410): an effective number of samples.

    The exponential of the entropy of the eigenvalues of the similarities over n: from 1, all samples
    alike, to n. It uses no reference: noise scores highest.

    Args:
        x: Features, `[n, d]`.
        kernel: How alike two samples are.

    Raises:
        InputError: If features are all 0 and have no cosine.
    """
    (x,) = _features(x)
    if not _finite(x):
        return math.nan
    values = kernel.eigenvalues(x).clamp(min=0)
    return float(torch.special.entr(values / values.sum()).sum().exp())


def mean_pairwise_distance(x: Tensor) -> float:
    """The mean Euclidean distance between two different samples, of features `[n, d]`, at least 2."""
    (x,) = _features(x, least=2)
    if not _finite(x):
        return math.nan
    total = sum(float(block.sum()) for _, block in _blocks(x, x))
    return total / (len(x) * (len(x) - 1))


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """The squared Frechet distance between Gaussians fitted to two sets (arXiv:1706.08500).

    With Inception's features it is FID, with DINOv2's FD-DINOv2. Two sets of one law are above 0, by more
    the fewer samples and the wider the features, so compare equal numbers of samples only. From
    factors of the covariances, which holds for fewer samples than features too. Cost:
    `(n + m) d min(n, d)` and `min(n, d)^3`.

    Args:
        x: Features, `[n, d]`, at least 2.
        y: Features, `[m, d]`, at least 2.
    """
    x, y = _features(x, y, least=2)
    if not _finite(x, y):
        return math.nan
    return _frechet(x.mean(0) - y.mean(0), _factor(x), _factor(y))


def frechet_of_moments(ours: Moments, theirs: Moments) -> float:
    """The squared Frechet distance between Gaussians of known moments, such as stored statistics.

    Raises:
        ShapeError: If the laws differ in shape.
        InputError: If a covariance is not symmetric, or has an eigenvalue clearly below 0.
    """
    ours, theirs = (Moments(*(real(v, "A moment") for v in law)) for law in (ours, theirs))
    d = ours.mean.numel()
    covariances = ours.covariance.shape, theirs.covariance.shape
    if ours.mean.shape != theirs.mean.shape or covariances != ((d, d), (d, d)):
        raise ShapeError(
            "Two laws of one shape are compared, mean [*event] and covariance [d, d]; got "
            f"{[tuple(v.shape) for v in (*ours, *theirs)]}."
        )
    shift = ours.mean.double() - theirs.mean.double()
    if not _finite(shift, ours.covariance, theirs.covariance):
        return math.nan
    return _frechet(shift, _root(ours.covariance.double()), _root(theirs.covariance.double()))


def _frechet(shift: Tensor, ours: Tensor, theirs: Tensor) -> float:
    """The distance from the difference of the means and factors `R` with `R^T R` the covariances."""
    common = torch.linalg.svdvals(ours @ theirs.mT).sum()
    spread = ours.square().sum() + theirs.square().sum() - 2 * common
    return float((shift.square().sum() + spread).clamp(min=0))


def _factor(x: Tensor) -> Tensor:
    """`R` `[min(n, d), d]` with `R^T R` the unbiased covariance of features `[n, d]`."""
    factor: Tensor = torch.linalg.qr((x - x.mean(0)) / math.sqrt(len(x) - 1), mode="r").R
    return factor


def _root(covariance: Tensor) -> Tensor:
    """`R` `[d, d]` with `R^T R` a covariance, which may be singular."""
    skew = (covariance - covariance.mT).abs().max()
    require(
        bool(skew <= 1e-5 * covariance.abs().max()),
        "A covariance is a symmetric matrix; this one is not.",
    )
    values, vectors = torch.linalg.eigh(covariance)
    # Rounding leaves eigenvalues that are 0 this far off it, and a root would make much of them.
    noise = len(values) * torch.finfo(values.dtype).eps * values.abs().max()
    require(
        bool((values >= -1e-6 * values.abs().max()).all()),
        f"A covariance has no eigenvalue below 0; this one has {float(values.min()):.3g}.",
    )
    root: Tensor = torch.where(values > noise, values, 0).sqrt()[:, None] * vectors.mT
    return root


def classifier_agreement(
    classifier: Classifier, x: Tensor, label: int | Tensor, batch: int = 500
) -> float:
    """The share of the samples that a classifier assigns to the label, one for all or one each.

    Samples for which its logits are not finite do not agree. Samples that were guided by a classifier
    should be scored by another one.
    """
    x = real(x, "An array of samples")
    require(len(x) >= 1, "This metric needs at least 1 sample; got 0.")
    whole(batch, "batch")
    labels = torch.as_tensor(label, device=x.device)
    if labels.ndim and labels.shape != x.shape[:1]:
        raise ShapeError(
            f"{len(x)} samples have one label or {len(x)}, not {tuple(labels.shape)}."
        )
    require(not labels.is_floating_point(), "Labels are integers; these are not.")
    known = bool(((labels >= 0) & (labels < classifier.labels)).all())
    require(known, f"Labels are numbers from 0 to {classifier.labels - 1}; here one is not.")
    with torch.no_grad():
        logits = torch.cat([classifier(part) for part in torch.split(x, batch)])
    return _share((logits.argmax(-1) == labels) & logits.isfinite().all(-1))


class Saturation(NamedTuple):
    """How far pictures are pushed to the ends of their range.

    Attributes:
        clipped: Share of the values, one for each pixel and channel, that are at -1 or 1 or beyond.
            Data have a share too (a black background): compare with theirs.
        colour: Mean over all pixels of HSV saturation: `(highest - lowest) / highest` of the channels
            of a pixel, clipped to [-1, 1] and mapped to [0, 1]; 0 for black. Grey pictures have 0.
    """

    clipped: float
    colour: float


def saturation(x: Tensor) -> Saturation:
    """How saturated pictures in [-1, 1], `[n, channels, height, width]`, are; if clipped, `clipped` counts that too."""
    x = real(x, "An array of pictures")
    if x.ndim != 4:
        raise ShapeError(f"Pictures are [n, channels, height, width], not {tuple(x.shape)}.")
    require(x.numel() > 0, "This metric needs at least 1 sample; got 0.")
    x = floats(x).double()
    ends = torch.where(x.isnan(), x, (x.abs() >= 1).double())
    pixels = (x.clamp(-1, 1) + 1) / 2
    high, low = pixels.amax(1), pixels.amin(1)
    colour = torch.where(high == 0, 0, (high - low) / torch.where(high == 0, 1, high))
    return Saturation(float(ends.mean()), float(colour.mean()))
