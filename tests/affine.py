"""Laws that stay Gaussian, as affine functions of independent standard normals.

An independent account of MGPS and MGDM for a Gaussian prior and a linear measurement, in matrices,
with the optimum of the mean-field fit in place of the optimiser.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

import posteria as po
from helpers import F64


@dataclass
class Affine:
    """`offset + factors @ noise`, with ever more entries of noise."""

    offset: Tensor
    factors: Tensor

    def __add__(self, other: "Affine") -> "Affine":
        k = max(self.factors.shape[1], other.factors.shape[1])
        a, b = (
            torch.nn.functional.pad(f, (0, k - f.shape[1])) for f in (self.factors, other.factors)
        )
        return Affine(self.offset + other.offset, a + b)

    def __rmul__(self, factor: float) -> "Affine":
        return Affine(factor * self.offset, factor * self.factors)

    def __rmatmul__(self, matrix: Tensor) -> "Affine":
        return Affine(matrix @ self.offset, matrix @ self.factors)

    def shift(self, offset: Tensor) -> "Affine":
        return Affine(self.offset + offset, self.factors)

    @property
    def covariance(self) -> Tensor:
        return self.factors @ self.factors.mT


class Noise:
    """Fresh standard normals."""

    def __init__(self) -> None:
        self.used = 0

    def __call__(self, root: Tensor) -> Affine:
        """`root @ noise`."""
        d, k = root.shape
        self.used += k
        return Affine(
            torch.zeros(d, dtype=F64),
            torch.cat([torch.zeros(d, self.used - k, dtype=F64), root], 1),
        )


def collapse(noise: Noise, *parts: Affine) -> list[Affine]:
    """The same joint law with as few entries of noise as it needs."""
    width = max(part.factors.shape[1] for part in parts)
    stacked = torch.cat([
        torch.nn.functional.pad(p.factors, (0, width - p.factors.shape[1])) for p in parts
    ])
    covariance = stacked @ stacked.mT
    root, singular = torch.linalg.cholesky_ex(covariance)
    if singular:
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp(min=0).sqrt()
    noise.used = len(root)
    sizes = [len(part.offset) for part in parts]
    return [Affine(p.offset, r) for p, r in zip(parts, root.split(sizes), strict=True)]


@dataclass
class Problem:
    """Prior N(mean, covariance), `y = a x + std * noise`."""

    mean: Tensor
    covariance: Tensor
    a: Tensor
    y: Tensor
    std: float

    @cached_property
    def eye(self) -> Tensor:
        return torch.eye(len(self.mean), dtype=F64)

    @cached_property
    def inverse(self) -> Tensor:
        return self.covariance.inverse()

    def spread(self, sigma: float) -> Tensor:
        """Cov(x_0 | x) at a level."""
        return (self.inverse + self.eye / sigma**2).inverse()

    def denoise(self, x: Affine, sigma: float) -> Affine:
        c = self.spread(sigma)
        return (c / sigma**2 @ x).shift(c @ (self.inverse @ self.mean))

    def guide(self, sigma: float, exact: bool = False) -> tuple[Tensor, Tensor]:
        """Precision and precision-weighted mean of the likelihood of x at a level, by its denoised value."""
        c = self.spread(sigma)
        h = self.a @ c / sigma**2
        noise = self.std**2 * torch.eye(len(self.y), dtype=F64)
        if exact:
            noise = noise + self.a @ c @ self.a.mT
        residual = self.y - self.a @ (c @ (self.inverse @ self.mean))
        white = h.mT @ noise.inverse()
        return white @ h, white @ residual

    def target(self) -> po.Posterior:
        likelihood = po.GaussianLikelihood(po.operators.Matrix(self.a), std=self.std)
        return po.Posterior(po.Gaussian(self.mean, self.covariance), likelihood, self.y)

    def posterior(self) -> po.Gaussian:
        target = self.target()
        return po.Gaussian(self.mean, self.covariance).posterior(target.likelihood, self.y)


def wasserstein(a: Tensor, cov_a: Tensor, b: Tensor, cov_b: Tensor) -> float:
    """W2 between two Gaussians."""

    def root(m: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(m)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT

    inner = root(root(cov_a) @ cov_b @ root(cov_a))
    square = (a - b).square().sum() + (cov_a + cov_b - 2 * inner).trace()
    return square.clamp(min=0).sqrt().item()


Product = Callable[[Affine, Tensor, Tensor, Noise], Affine]


def full(mean: Affine, precision: Tensor, weighted: Tensor, noise: Noise, extra: Tensor) -> Affine:
    """Draw from N(mean, precision^-1) times a likelihood of precision `extra`: the exact Gaussian product."""
    total = (precision + extra).inverse()
    return ((total @ precision) @ mean).shift(total @ weighted) + noise(
        torch.linalg.cholesky(total)
    )


def mean_field(
    mean: Affine, precision: Tensor, weighted: Tensor, noise: Noise, extra: Tensor
) -> Affine:
    """The same with the best Gaussian of independent entries: the exact mean, variances 1 / diag(precision)."""
    total = precision + extra
    exact = ((total.inverse() @ precision) @ mean).shift(total.inverse() @ weighted)
    return exact + noise(torch.diag(total.diagonal() ** -0.5))


def bridge(x_s: Affine, x_l: Affine, s: float, t: float, l: float, noise: Noise) -> Affine:  # ruff: ignore[ambiguous-variable-name]
    """The forward process pinned at both ends."""
    span = l**2 - s**2
    weight = (t**2 - s**2) / span
    eye = torch.eye(len(x_s.offset), dtype=F64)
    out = (1 - weight) * x_s + weight * x_l
    variance = (t**2 - s**2) * (l**2 - t**2) / span
    return out + noise(variance**0.5 * eye) if variance > 0 else out


def mgps(
    p: Problem,
    schedule: po.schedules.Schedule,
    alpha: float,
    *,
    product: Callable[..., Affine] = mean_field,
    exact_backward: bool = False,
    exact_likelihood: bool = False,
) -> Affine:
    """The law of MGPS' output, without warm levels."""
    noise, levels = Noise(), schedule.levels()
    x = noise(levels[0] * p.eye)
    for sigma, sigma_next in pairwise(levels[:-1]):
        m = schedule.fraction(sigma_next, alpha)
        if exact_backward:
            inverse = (p.covariance + m**2 * p.eye).inverse()
            precision = inverse + p.eye / (sigma**2 - m**2)
            mean = (precision.inverse() / (sigma**2 - m**2) @ x).shift(
                precision.inverse() @ inverse @ p.mean
            )
        else:
            weight = m**2 / sigma**2
            mean = (1 - weight) * p.denoise(x, sigma) + weight * x
            precision = p.eye / (m**2 * (sigma**2 - m**2) / sigma**2)
        extra, weighted = p.guide(m, exact_likelihood)
        x_m = product(mean, precision, weighted, noise, extra)
        (x,) = collapse(noise, bridge(x_m, x, m, sigma_next, sigma, noise))
    return p.denoise(x, levels[-2])


def mgdm(
    p: Problem, schedule: po.schedules.Schedule, points: int, gibbs: int, alpha: float
) -> Affine:
    """The law of MGDM's output, where the earlier time is a fixed fraction of that of the level after the next."""
    noise, levels = Noise(), schedule.levels()
    x = noise(levels[0] * p.eye)
    x0 = p.denoise(x, levels[0])
    for k in range(len(levels) - 3):
        last, sigma, after = levels[k], levels[k + 1], levels[k + 2]
        time = alpha * schedule.time(after)
        tau, x_last = schedule.at(time), x
        x = bridge(x0, x_last, 0.0, sigma, last, noise)
        for _ in range(gibbs):
            weight = tau**2 / sigma**2
            mean = (1 - weight) * x0 + weight * x
            precision = p.eye / (tau**2 * (sigma**2 - tau**2) / sigma**2)
            extra, weighted = p.guide(tau)
            x_tau = mean_field(mean, precision, weighted, noise, extra)
            ladder = [schedule.at(time * j / (points - 1)) for j in range(points - 1, 0, -1)]
            ladder = sorted({v for v in ladder if v > 0}, reverse=True)
            z = x_tau
            for a, b in zip(ladder, [*ladder[1:], 0.0], strict=True):
                x0 = p.denoise(z, a)
                z = bridge(x0, z, 0.0, b, a, noise)
            x = bridge(x_tau, x_last, tau, sigma, last, noise)
        x, x0 = collapse(noise, x, x0)
    return x0
