"""What a rounded or clipped measurement says: each entry of a linear map of the signal lies in a cell."""

import math
from copy import copy
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from ..core.space import Space
from .base import LinearOperator, Operator

if TYPE_CHECKING:
    from .nonlinear import JPEG


class Cells(NamedTuple):
    """`operator(x)` lies within `width / 2` of `centre`, up to Gaussian noise.

    Attributes:
        operator: A linear map.
        centre: The middles of the cells, of the measurement.
        width: Their widths; 0 where nothing was rounded.
        noise: Standard deviation of the noise of each entry.
    """

    operator: LinearOperator
    centre: Tensor
    width: Tensor
    noise: Tensor

    @property
    def std(self) -> Tensor:
        """Of the Gaussian with the variance of a uniform law over the cell, and of the noise."""
        return (self.width**2 / 12 + self.noise**2).sqrt()

    def nearest(self, z: Tensor, variance: float) -> Tensor:
        """The most probable of what is `N(z, variance)` before it is known in which cell it lies, entry by entry."""
        inside = z.clamp(self.centre - self.width / 2, self.centre + self.width / 2)
        return z + variance / (variance + self.noise**2) * (inside - z)

    def matched(self, mean: Tensor, variance: Tensor) -> "Cells":
        """Gaussian measurements that give what is `N(mean, variance)` before them the mean and variance that cells do.

        Each entry by itself; one that is far from the sides of its cell is hardly measured.
        """
        mean, variance = mean.double(), variance.double()
        noisy = variance + self.noise.double() ** 2
        low, high = (
            (self.centre + side * self.width / 2 - mean) / noisy.sqrt() for side in (-1, 1)
        )
        centre, lost = truncated(low, high)
        gain = variance / noisy
        left = variance - gain * variance * lost
        std2 = left * variance / (variance - left).clamp(min=1e-12 * variance)
        moved = gain * noisy.sqrt() * centre * (1 + std2 / variance)
        kept = [each.to(self.centre) for each in (mean + moved, 0 * std2, std2.sqrt())]
        return Cells(self.operator, *kept)


def truncated(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of a standard normal number between two others, and by how much less than 1 its variance is."""
    turned = low + high < 0
    low, high = torch.where(turned, -high, low), torch.where(turned, -low, high)
    # Both in the upper tail, or around 0: no difference of numbers near 1.
    above, beyond = torch.special.log_ndtr(-low), torch.special.log_ndtr(-high)
    mass = above + torch.log1p(-(beyond - above).exp().clamp(max=1 - 1e-15))
    first, last = (
        (-(side**2) / 2 - math.log(2 * math.pi) / 2 - mass).exp() for side in (low, high)
    )
    mean = first - last
    lost = mean**2 - low * first + high * last
    # As good as uniform.
    width, middle = high - low, (high + low) / 2
    narrow = width * (1 + middle.abs()) < 1e-3
    mean = torch.where(narrow, middle * (1 - width**2 / 12), mean)
    lost = torch.where(narrow, 1 - width**2 / 12, lost).clamp(0, 1)
    return torch.where(turned, -mean, mean), lost


class StandIn(Operator):
    """An operator that stands for another one and counts its calls as that one's, so that a run knows its cost."""

    measured: Operator

    @property
    def calls(self) -> int:
        """Calls of `measured`, its own among them."""
        return self.measured.calls

    @calls.setter
    def calls(self, value: int) -> None:
        # A new one has not been called; what it stands for may have been.
        self.measured.calls = max(value, self.measured.calls)


class InNoise(StandIn, LinearOperator):
    """The linear map of cells in units of their standard deviations, so that their measurement has noise of 1.

    Args:
        cells: What was measured.
        measured: The operator that rounds or clips.
    """

    def __init__(self, cells: Cells, measured: Operator) -> None:
        self.measured = measured
        super().__init__(cells.operator.domain, cells.operator.codomain)
        self.operator = cells.operator
        self.std = cells.std

    @override
    def apply(self, x: Tensor) -> Tensor:
        return self.operator.apply(x) / self.std.to(x)

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        return self.operator.apply_adjoint(y / self.std.to(y))


class Coefficients(LinearOperator):
    """The cosine transforms that a JPEG file rounds, one below the other: of luminance and of both colour differences.

    Args:
        jpeg: With its tables, and with how colours are sampled.
    """

    def __init__(self, jpeg: "JPEG") -> None:
        self.jpeg = jpeg
        (height, width), (rows, columns) = jpeg.filled, jpeg.blocks
        colours = jpeg.domain.shape[0] - 1
        self.planes = [(height, width)] + [(height // rows, width // columns)] * colours
        size = sum(h * w for h, w in self.planes)
        super().__init__(jpeg.domain, Space((size,), jpeg.domain.dtype, jpeg.domain.device))

    @override
    def apply(self, x: Tensor) -> Tensor:
        batch, planes = self.domain.batch(x), self.jpeg.planes(x * 127.5)
        blocks = [self.jpeg.transformed(plane).reshape(*batch, -1) for plane in planes]
        return torch.cat(blocks, -1)

    def spread(self, std: Tensor) -> Tensor:
        """Standard deviations of the coefficients of noise, which in each pixel has that of `std` `[*event]`."""
        # A linear map of variances is that of the squares.
        square, (rows, columns) = copy(self.jpeg), self.jpeg.blocks
        square._mix, square._dct = square._mix**2, square._dct**2
        luminance, *colours = square.planes(std.double() ** 2)
        planes = [luminance, *(colour / (rows * columns) for colour in colours)]
        return torch.cat([square.transformed(plane).flatten() for plane in planes]).sqrt()

    def steps(self) -> Tensor:
        """The number that divides each coefficient before rounding; twice that where the border cuts a block."""
        found = []
        height, width = self.domain.shape[-2:]
        for number, (h, w) in enumerate(self.planes):
            table = self.jpeg.tables[min(number, 1)].repeat(h // 8, w // 8)
            rows, columns = self.jpeg.blocks if number else (1, 1)
            table[height // rows // 8 * 8 :] *= 2
            table[:, width // columns // 8 * 8 :] *= 2
            found.append(table.reshape(h // 8, 8, w // 8, 8).transpose(1, 2).flatten())
        return torch.cat(found)
