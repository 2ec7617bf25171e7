"""A law in few dimensions with an unnormalised density, by quadrature."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..core.errors import InputError, ShapeError, require, whole
from ..core.space import Space

# Bound on the density within a cell, relative to that at its middle.
RISE = 4.0


class Quadrature:
    """The law with a given density on a box, by the midpoint rule on equal cells.

    For a smooth density that vanishes towards the faces of the box the error is rounding once a cell is
    half as wide as the narrowest feature's standard deviation. Draws are as exact.

    Args:
        log_density: Takes points `[n, d]` in float64 to `[n]`; it need not be normalised.
        low: Lower corner of the box, d numbers.
        high: Upper corner.
        cells: Cells along each side.
        dtype: Of the draws.

    Attributes:
        log_evidence: Log of the integral of the density.
        mean: `[d]` in float64.
        covariance: `[d, d]` in float64.

    Raises:
        ShapeError: If the corners do not fit each other, or the density does not give one number a point.
        InputError: If the density is 0, reaches beyond the box, or is too rough for the cells.
    """

    def __init__(
        self,
        log_density: Callable[[Tensor], Tensor],
        low: Sequence[float],
        high: Sequence[float],
        cells: int = 600,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        d = len(low)
        if len(high) != d or d == 0:
            raise ShapeError(f"A box has two corners of d numbers; got {d} and {len(high)}.")
        self.space, self.cells = Space((d,), dtype), whole(cells, "cells", 2)
        self._log_density = log_density
        self._low = torch.tensor(low, dtype=torch.float64)
        self._width = (torch.tensor(high, dtype=torch.float64) - self._low) / cells
        require(bool((self._width > 0).all()), "The lower corner of a box is below the upper one.")
        middles = self._middles(torch.arange(cells**d))
        self._log_values = log_density(middles)
        if self._log_values.shape != middles.shape[:1] or self._log_values.dtype != torch.float64:
            raise ShapeError(
                f"A log-density takes points {tuple(middles.shape)} in float64 to one number each; this one gives "
                f"{tuple(self._log_values.shape)} in {self._log_values.dtype}."
            )
        log_sum = self._log_values.logsumexp(0)
        if not log_sum.isfinite():
            raise InputError("The density of a quadrature is above 0 somewhere, and finite.")
        weights = (self._log_values - log_sum).exp()
        self._check(weights)
        self._edges = weights.cumsum(0)
        self.log_evidence = float(log_sum + self._width.log().sum())
        self.mean = weights @ middles
        offsets = middles - self.mean
        self.covariance = offsets.mT @ (weights[:, None] * offsets)

    def _middles(self, which: Tensor) -> Tensor:
        """Middles of cells `[n]`, `[n, d]`."""
        place = torch.unravel_index(which, (self.cells,) * self.space.size)
        return self._low + self._width * (torch.stack(place, -1) + 0.5)

    def _check(self, weights: Tensor) -> None:
        side = (self.cells,) * self.space.size
        weights, log_values = weights.reshape(side), self._log_values.reshape(side)
        rise, edge = torch.zeros_like(weights), torch.zeros_like(weights)
        for axis in range(self.space.size):
            step = log_values.diff(dim=axis).abs() / 2
            first, last = (edge.narrow(axis, at, 1) for at in (0, self.cells - 1))
            first.fill_(1), last.fill_(1)
            ahead, behind = torch.zeros_like(rise), torch.zeros_like(rise)
            ahead.narrow(axis, 0, self.cells - 1).copy_(step)
            behind.narrow(axis, 1, self.cells - 1).copy_(step)
            rise += torch.maximum(ahead, behind)
        outside = float((weights * edge).sum())
        require(
            outside < 1e-6, f"The density reaches beyond the box: {outside:.1e} is at its faces."
        )
        rough = float(weights[rise > math.log(RISE)].sum())
        require(
            rough < 1e-4,
            f"The density is too rough for cells={self.cells}: it changes {RISE:g}-fold within half "
            f"a cell where {rough:.1e} of it is. Use more cells.",
        )

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` independent draws, `[n, d]`."""
        kept = self.space.zeros(0).double()
        while (missing := n - len(kept)) > 0:
            # As many proposals as are needed in the mean, and a few.
            u = torch.rand(
                int(RISE * missing) + 16,
                self.space.size + 2,
                dtype=torch.float64,
                generator=generator,
            )
            which = torch.searchsorted(self._edges, u[:, 0] * self._edges[-1], right=True)
            x = self._middles(which) + self._width * (u[:, 2:] - 0.5)
            gain = self._log_density(x) - self._log_values[which]
            keep = u[:, 1].log() + math.log(RISE) < gain
            kept = torch.cat([kept, x[keep][:missing]])
        return kept.to(self.space.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density, `[*batch, d]` to `[*batch]`."""
        flat = self.space.check(x, "x").reshape(-1, self.space.size).double()
        value = self._log_density(flat) - self.log_evidence
        return value.reshape(self.space.batch(x)).to(x.dtype)

    def __repr__(self) -> str:
        return f"Quadrature({self.cells} cells a side, event {self.space.shape})"
