"""A density in one or two dimensions convolved with Gaussian noise, by quadrature."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.linalg import rows_times

F64 = torch.float64
Density = Callable[[Tensor], Tensor]
# By dimension: densities below exp(-DEPTH) of the highest are ignored, 31 and 14 standard
# deviations of a Gaussian; and nodes a side of a coarse search.
DEPTH, LOOK = {1: 500.0, 2: 100.0}, {1: 4000, 2: 300}
# Spacing of the grid around a point, in standard deviations of the noise; it is 12 of them wide to each side.
STEP = 0.75
# Numbers held at a time.
BLOCK = 2**21


class Box(NamedTuple):
    """Where a law is, by two corners `[d]`."""

    low: Tensor
    high: Tensor

    def touches(self, other: "Box") -> bool:
        """Whether a face of the two is the same."""
        return bool(((self.low == other.low) | (self.high == other.high)).any())


class Noised:
    """A density `[n, d]` to `[n]` in a box under noise, by quadrature with so many cells along each side.

    At levels of two cells and more the integrals are sums over the cells; below that they are sums over a
    grid of the width of the noise around a guess at the mean.
    """

    def __init__(self, log_density: Density, box: Box, cells: int) -> None:
        self._log_density, d = log_density, len(box.low)
        width = (box.high - box.low) / cells
        self._switch = 2 * float(width.max())
        self._nodes = box.low + width * (torch.arange(cells, dtype=F64)[:, None] + 0.5)
        log_values = log_density(points(self._nodes)) + width.log().sum()
        self._top = log_values.max()
        self._values = (log_values - self._top).exp().reshape((cells,) * d)
        self._stencil = points(STEP * torch.arange(-16, 17, dtype=F64)[:, None].expand(-1, d))

    def __call__(self, x: Tensor, sigma: Tensor, about: Tensor) -> tuple[Tensor, Tensor]:
        """The evidence and the posterior mean of the clean signal given noisy ones `[n, d]` at levels `[n]`.

        `about` is a guess at the mean that is right to a few levels at low noise. The evidence is the log of the
        integral of the density times `exp(-|x - x_0|^2 / (2 sigma^2))`, `[n]`.
        """
        mass, mean = torch.zeros_like(x[:, 0]), torch.zeros_like(x)
        near = sigma < self._switch
        for low, cost in ((True, len(self._stencil)), (False, self._nodes.numel())):
            rows = (near == low).nonzero().flatten()
            for part in torch.split(rows, max(1, BLOCK // cost)):
                some, level = x[part], sigma[part][:, None]
                sums = self._around(some, level, about[part]) if low else self._all(some, level)
                mass, mean = mass.index_put((part,), sums[0]), mean.index_put((part,), sums[1])
        return mass, mean

    def _around(self, x: Tensor, sigma: Tensor, about: Tensor) -> tuple[Tensor, Tensor]:
        # A level of 0 divides by itself.
        sigma = sigma.clamp(min=1e-12)
        places = about[:, None] + sigma[..., None] * self._stencil
        distance = ((about - x) / sigma)[:, None] + self._stencil
        log_joint = self._log_density(places.flatten(0, 1)).reshape(places.shape[:2])
        log_joint = log_joint - (distance**2).sum(-1) / 2
        mean = about + sigma * rows_times(log_joint.softmax(-1), self._stencil)
        return log_joint.logsumexp(-1) + (STEP * sigma).log()[:, 0] * x.shape[-1], mean

    def _all(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        exponent = -((x[:, None] - self._nodes) ** 2) / (2 * sigma[..., None] ** 2)
        highest = exponent.amax(1, keepdim=True)
        kernel = (exponent - highest).exp()
        first, last, along = kernel[..., 0], kernel[..., -1], self._values
        if along.ndim == 2:
            along = rows_times(last, self._values.mT)
        joint = first * along
        total = joint.sum(-1)
        sums = [(joint * self._nodes[:, 0]).sum(-1)]
        if self._values.ndim == 2:
            along = rows_times(last * self._nodes[:, 1], self._values.mT)
            sums.append((first * along).sum(-1))
        log_mass = total.log() + highest.sum((1, 2)) + self._top
        return log_mass, torch.stack(sums, -1) / total[:, None]


def enclose(log_density: Density, middle: Tensor, half: float) -> Box:
    """A box around the bulk of a density with Gaussian tails, found from one with `middle` and `half` width."""
    box = Box(middle - half, middle + half)
    # It may be far away, and wide.
    while _shrunk(log_density, box).touches(box):
        box = Box(2 * box.low - middle, 2 * box.high - middle)
    for _ in range(3):
        box = _shrunk(log_density, box)
    return box


def _shrunk(log_density: Density, box: Box) -> Box:
    """The box around the nodes of a grid in `box` where a density counts, and one node more."""
    d = len(box.low)
    nodes = box.low + (box.high - box.low) * torch.linspace(0, 1, LOOK[d], dtype=F64)[:, None]
    values = log_density(points(nodes)).reshape((LOOK[d],) * d)
    counts = values > values.max() - DEPTH[d]
    rows = [counts.movedim(i, 0).reshape(LOOK[d], -1).any(1).nonzero() for i in range(d)]
    first = [nodes[max(int(row.min()) - 1, 0), i] for i, row in enumerate(rows)]
    last = [nodes[min(int(row.max()) + 1, LOOK[d] - 1), i] for i, row in enumerate(rows)]
    return Box(torch.stack(first), torch.stack(last))


def points(nodes: Tensor) -> Tensor:
    """The points of a grid with nodes `[nodes, d]` along its axes, `[nodes^d, d]`."""
    return torch.cartesian_prod(*nodes.unbind(-1)).reshape(-1, nodes.shape[-1])
