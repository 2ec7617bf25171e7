"""Tilted laws that are known exactly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..analytic import Gaussian, GaussianMixture
from ..analytic.tilted import TiltedQuadrature, tilted_gaussian
from ..core.errors import ShapeError, expect, require
from ..diffusion.denoiser import Denoiser, Family, Label
from ..target import Tilted
from .toy import KnownLaw

F64 = torch.float64


@dataclass(frozen=True, eq=False)
class TiltedProblem:
    """A tilted law with its exact answer.

    Args:
        target: What a sampler is given; the condition is `Label(0)`.
        exact: Its law. A `TiltedQuadrature` is also its ideal denoiser.
    """

    target: Tilted
    exact: KnownLaw

    def wasserstein(self, x: Tensor) -> float:
        """The distance between samples and the law, in one dimension: see `wasserstein_1d`.

        Raises:
            CapabilityError: If the law is not by quadrature.
            InputError: If it is of two dimensions.
        """
        return wasserstein_1d(x, expect(self.exact, TiltedQuadrature, by="wasserstein"))


def wasserstein_1d(x: Tensor, law: TiltedQuadrature) -> float:
    """The Wasserstein-1 distance between samples, `[n]` or `[n, 1]`, and a law in one dimension, in data units.

    The area between the two distribution functions, to about 1e-6. Exact draws have about the law's
    standard deviation over `sqrt(n)`.

    Raises:
        ShapeError: If samples are not of one dimension.
        InputError: If the law is of two dimensions, or there is no sample.
    """
    points, below = law.cumulative()
    if x.ndim != 1 and tuple(x.shape[1:]) != (1,):
        raise ShapeError(f"Samples of one dimension are [n] or [n, 1], not {tuple(x.shape)}.")
    samples = x.double().flatten().sort().values
    require(len(samples) > 0, "A distance to a law needs at least 1 sample; there is none.")
    knots = torch.cat([points, samples]).sort().values
    place = torch.searchsorted(points, knots).clamp(1, len(points) - 1)
    share = (knots - points[place - 1]) / (points[place] - points[place - 1])
    exact = below[place - 1].lerp(below[place], share.clamp(0, 1))
    # From one knot to the next the samples' function is constant and the law's a straight line.
    middles = (knots[:-1] + knots[1:]) / 2
    ours = torch.searchsorted(samples, middles) / len(samples)
    left, right = exact[:-1] - ours, exact[1:] - ours
    spread = left.abs() + right.abs()
    crossed = (left**2 + right**2) / (2 * spread.clamp(min=1e-300))
    heights = torch.where(left * right < 0, crossed, spread / 2)
    return float((heights * knots.diff()).sum())


def _problem(
    conditional: Denoiser, free: Denoiser, weight: float, exact: KnownLaw
) -> TiltedProblem:
    return TiltedProblem(Tilted(Family(free, {0: conditional}), Label(0), weight), exact)


def _mixtures(
    conditional: GaussianMixture, free: GaussianMixture, weight: float, dtype: torch.dtype
) -> TiltedProblem:
    laws = [
        GaussianMixture(law.weights.to(dtype), law.means.to(dtype), law.covariances.to(dtype))
        for law in (conditional, free)
    ]
    return _problem(laws[0], laws[1], weight, TiltedQuadrature(laws[0], laws[1], weight))


def _mixture(
    weights: Sequence[float], means: Sequence[Sequence[float]], covariances: Sequence[object]
) -> GaussianMixture:
    parts = (torch.tensor(part, dtype=F64) for part in (weights, means, covariances))
    return GaussianMixture(*parts)


def cfgig_toy(weight: float = 3.0, dtype: torch.dtype = F64) -> TiltedProblem:
    """The toy of CFGiG's paper (arXiv:2505.21101), in one dimension.

    p = 0.5 N(-2, 1) + 0.5 N(2, 1) and p(. | c) = 0.5 N(1.5, 0.1) + 0.5 N(2.5, 0.1), by variances. With
    the power of the condition, `weight`, at 3 the tilted law has mean 2.002 and standard deviation
    0.550. Its modes overlap under little noise. `dtype` is that of the priors, as in all of these.
    """
    conditional = _mixture([0.5, 0.5], [[1.5], [2.5]], [[[0.1]], [[0.1]]])
    free = _mixture([0.5, 0.5], [[-2.0], [2.0]], [[[1.0]], [[1.0]]])
    return _mixtures(conditional, free, weight, dtype)


def rare_mode(weight: float = 2.0, dtype: torch.dtype = F64) -> TiltedProblem:
    """A class with a rare mode of its own and a common mode shared with the others, in one dimension.

    p(. | c) = 0.35 N(-3, 0.09) + 0.65 N(3, 0.36), by variances; a fifth of all is of that class and the
    rest is N(3, 1). With weight 2 the rare mode has 0.758 of the tilted law: the tilt moves 0.41 of
    the mass, over ten standard deviations of the wider mode.
    """
    shares, means, covariances = [0.35, 0.65], [[-3.0], [3.0]], [[[0.09]], [[0.36]]]
    conditional = _mixture(shares, means, covariances)
    free = _mixture(
        [*(0.2 * share for share in shares), 0.8], [*means, [3.0]], [*covariances, [[1.0]]]
    )
    return _mixtures(conditional, free, weight, dtype)


def narrow_mode(weight: float = 3.0, dtype: torch.dtype = F64) -> TiltedProblem:
    """A class with a narrow and a wide mode in equal shares, of which the wide one is common, on a line.

    p(. | c) = 0.5 N(-1.5, 0.1) + 0.5 N(1.5, 0.2) and p = 0.35 N(-1.5, 0.4) + 0.65 N(1.5, 0.35), by
    variances. With weight 3 the narrow mode has 0.872 of the tilted law: the tilt moves 0.37 of the mass.
    """
    means = [[-1.5], [1.5]]
    conditional = _mixture([0.5, 0.5], means, [[[0.1]], [[0.2]]])
    free = _mixture([0.35, 0.65], means, [[[0.4]], [[0.35]]])
    return _mixtures(conditional, free, weight, dtype)


def three_kinds(weight: float = 3.0, dtype: torch.dtype = F64) -> TiltedProblem:
    """A class of three modes in the plane, of which the rarest is its own.

    p(. | c) has the shares 0.55, 0.3 and 0.15 at the corners of a triangle of radius 3; a fifth of all is
    of that class, and the rest has 0.7 and 0.3 around the first two corners, more widely. With weight 3
    the shares are 0.306, 0.161 and 0.533: the tilt moves 0.38 of the mass between modes that are more
    than five of the largest standard deviations apart.
    """
    shares, means = [0.55, 0.3, 0.15], [[3.0, 0.0], [-1.5, 2.6], [-1.5, -2.6]]
    covariances: list[object] = [
        [[0.25, 0.1], [0.1, 0.15]],
        [[0.2, -0.1], [-0.1, 0.3]],
        [[0.1, 0.0], [0.0, 0.1]],
    ]
    conditional = _mixture(shares, means, covariances)
    round_one = [[1.0, 0.0], [0.0, 1.0]]
    free = _mixture(
        [*(0.2 * share for share in shares), 0.8 * 0.7, 0.8 * 0.3],
        [*means, *means[:2]],
        [*covariances, round_one, round_one],
    )
    return _mixtures(conditional, free, weight, dtype)


def gaussian_pair(
    weight: float = 3.0, d: int = 4, seed: int = 0, dtype: torch.dtype = F64
) -> TiltedProblem:
    """A Gaussian and its posterior after a measurement, whose tilted law is a Gaussian.

    The unconditional law has standard deviations from 2 down to 0.5 along Haar directions, drawn by
    `seed`, in `d` dimensions, at least 2; the measurement adds precisions from 0.25 up to 4 along the
    axes, and pulls towards 1.
    """
    require(d >= 2, f"A Gaussian pair has at least 2 dimensions; d={d}.")
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(d, d, dtype=F64, generator=generator)).Q
    covariance = (rotation * torch.logspace(1, -1, d, base=2, dtype=F64) ** 2) @ rotation.mT
    added = torch.logspace(-2, 2, d, base=2, dtype=F64)
    updated = torch.linalg.inv(torch.linalg.inv(covariance) + added.diag())
    means = [torch.zeros(d, dtype=F64), updated @ added]
    free, conditional = (
        Gaussian(mean.to(dtype), ((matrix + matrix.mT) / 2).to(dtype))
        for mean, matrix in zip(means, (covariance, updated), strict=True)
    )
    return _problem(conditional, free, weight, tilted_gaussian(conditional, free, weight))


TILTED_PROBLEMS: dict[str, Callable[..., TiltedProblem]] = {
    "cfgig-toy": cfgig_toy,
    "rare-mode": rare_mode,
    "narrow-mode": narrow_mode,
    "three-kinds": three_kinds,
    "gaussian-pair": gaussian_pair,
}
