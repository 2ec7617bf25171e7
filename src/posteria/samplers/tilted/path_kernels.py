"""The reverse kernels of a tilted law: a pair of Gaussians, and their geometric mixture."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...core.rng import Rng
from ...diffusion.denoiser import Denoiser
from ...diffusion.kernel import bridge
from ...target import Tilted
from ..particles.population import take

# Least variance of an entry of x_0 given x, in units of sigma^2; a measured trace may be 0 or less.
LEAST = 1e-3
# Least precision of the tilted kernel in any direction, in units of the conditional one's.
FLAT = 0.2
# A ratio of precisions is above 0, whatever rounding says.
TINY = 1e-12


class Mixed(NamedTuple):
    """The geometric mixture of two kernels, direction by direction in the coordinates of their `Pair`.

    Attributes:
        precision: `[*batch, k]`.
        mean: `[*batch, k, m]`.
        flat: Directions in which the mixture is no density or nearly none, `[*batch, k]`; the conditional
            kernel is in its place.
    """

    precision: Tensor
    mean: Tensor
    flat: Tensor


class Pair(NamedTuple):
    """The reverse kernels with and without the condition, both Gaussian.

    In coordinates `x = mean + root z` the conditional kernel is N(0, I), and the other has the mean `gap`,
    `[*batch, k, m]`, and the precisions `ratio`, `[*batch, k]`. A signal is k rows of m entries;
    covariances `[*batch, k, k]` are between rows, so that k = 1 is a round kernel and m = 1 a full one.
    `clean` has the two estimates of x_0, the conditional one first.
    """

    clean: tuple[Tensor, Tensor]
    mean: Tensor
    root: Tensor
    inverse: Tensor
    gap: Tensor
    ratio: Tensor

    def of(self, ancestors: Tensor) -> "Pair":
        """Those of the ancestors."""
        first, second = (take(x, ancestors) for x in self.clean)
        return Pair((first, second), *(take(part, ancestors) for part in self[1:]))

    def x0(self, weight: float) -> Tensor:
        """The guided estimate of x_0."""
        return self.clean[1].lerp(self.clean[0], weight)

    def place(self, x: Tensor) -> Tensor:
        """`z` of a signal."""
        return self.inverse @ (x.reshape(self.mean.shape) - self.mean)

    def geometric(self, weight: float) -> Mixed:
        """The normalised `given^weight free^(1 - weight)`."""
        precision = weight + (1 - weight) * self.ratio
        flat = precision < FLAT
        share = torch.where(
            flat, 0.0, (1 - weight) * self.ratio / torch.where(flat, 1.0, precision)
        )
        return Mixed(torch.where(flat, 1.0, precision), share[..., None] * self.gap, flat)

    def draw(self, tilted: Mixed, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A draw of the mixture from standard normal noise `[*batch, k, m]`: its signal and its `z`."""
        z = tilted.mean + noise / tilted.precision.sqrt()[..., None]
        return (self.mean + self.root @ z).reshape(self.clean[0].shape), z

    def log_mass(self, tilted: Mixed, weight: float) -> Tensor:
        """Log of the integral of `given^weight free^(1 - weight)` over the directions that are not flat, `[*batch]`."""
        logs = (1 - weight) * self.ratio.log() - tilted.precision.log()
        squares = (1 - weight) * self.ratio[..., None] * self.gap.square()
        squares = squares - tilted.precision[..., None] * tilted.mean.square()
        return _total(logs, -squares, ~tilted.flat)

    def log_weight(self, tilted: Mixed, weight: float, z: Tensor) -> Tensor:
        """Log of `given^weight free^(1 - weight)` over the mixture's density at `z`, `[*batch]`."""
        logs = (1 - weight) * self.ratio.log() - tilted.precision.log()
        squares = weight * z.square() + (1 - weight) * self._distances(z)
        squares = squares - tilted.precision[..., None] * (z - tilted.mean).square()
        return _total(logs, -squares)

    def log_ratio(self, z: Tensor) -> Tensor:
        """Log of the conditional kernel's density over the other's, `[*batch]`."""
        return _total(-self.ratio.log(), self._distances(z) - z.square())

    def _distances(self, z: Tensor) -> Tensor:
        return self.ratio[..., None] * (z - self.gap).square()


def _total(logs: Tensor, squares: Tensor, which: Tensor | None = None) -> Tensor:
    """Half of the sum over directions of logs `[*batch, k]`, one for each of the m entries, and of squares."""
    each = logs.double() * squares.shape[-1] + squares.double().sum(-1)
    return (each if which is None else torch.where(which, each, 0.0)).sum(-1) / 2


def kernels(
    target: Tilted, x: Tensor, move: tuple[float, float], curvature: tuple[int, int], rng: Rng
) -> Pair:
    """The reverse kernels at `x`, `[populations, particles, *event]`, with the covariance that x_0 adds there.

    `curvature` is up to how many entries a Jacobian is taken whole, and how many probes estimate its
    trace beyond.
    """
    space, (dense, probes) = target.space, curvature
    whole = space.size <= dense
    if whole:
        unit = torch.eye(space.size, dtype=x.dtype, device=x.device)
        signs = [space.unflatten(row).expand_as(x) for row in unit]
    else:
        signs = [rng.normal_like(x).sign() for _ in range(probes)]
    rows = space.size if whole else 1
    given, free = (
        _kernel(member, x, move, signs, rows)
        for member in (target.conditional, target.unconditional)
    )
    root = given.vectors * given.values.sqrt()[..., None, :]
    inverse = given.vectors.mT / given.values.sqrt()[..., None]
    bridged = free.vectors.mT @ root
    ratio, turn = _eigh(bridged.mT @ (bridged / free.values[..., None]))
    root, inverse = root @ turn, turn.mT @ inverse
    gap = inverse @ (free.mean - given.mean)
    return Pair((given.x0, free.x0), given.mean, root, inverse, gap, ratio.clamp(min=TINY))


class PathKernel(NamedTuple):
    """A reverse kernel: x_0, mean `[*batch, k, m]`, eigenvalues `[*batch, k]` and vectors of its covariance."""

    x0: Tensor
    mean: Tensor
    values: Tensor
    vectors: Tensor


def _kernel(
    denoiser: Denoiser, x: Tensor, move: tuple[float, float], signs: Sequence[Tensor], rows: int
) -> PathKernel:
    """A reverse kernel whose covariance has `rows` rows, from products of the Jacobian with `signs`."""
    (sigma, sigma_next), space = move, denoiser.space
    x0, pullback = denoiser.vjp(x, sigma)
    if rows == space.size:
        jacobian = torch.stack([space.flatten(pullback(sign)) for sign in signs], -2)
    else:
        traces = [space.flatten(sign * pullback(sign)).double().mean(-1) for sign in signs]
        jacobian = torch.stack(traces).mean(0).to(x.dtype)[..., None, None]
    values, vectors = _eigh((jacobian + jacobian.mT) / 2)
    weight, std = bridge(0.0, sigma_next, sigma)
    values = std**2 + (1 - weight) ** 2 * sigma**2 * values.clamp(min=LEAST)
    mean = (x0 + weight * (x - x0)).reshape(*space.batch(x), rows, -1)
    return PathKernel(x0, mean, values, vectors)


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors of symmetric matrices; of single numbers without LAPACK."""
    if matrix.shape[-1] == 1:
        return matrix[..., 0], torch.ones_like(matrix)
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors
