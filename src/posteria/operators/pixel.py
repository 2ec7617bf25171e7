"""Operators that look at entries: identity, dense matrix, inpainting, block averages, colour mixing."""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import InputError, ShapeError, whole
from ..core.level import several
from ..core.linalg import rows_times
from ..core.space import Space, constant, mask_of, shape_of
from .base import LinearOperator, SVDOperator
from .separable import Separable
from .shapes import picture_shape, shape_last
from .tight import after_tight


class Identity(Separable):
    """The signal itself: denoising.

    Args:
        shape: Event shape.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__({}, shape)

    @override
    def innovation_solve(self, r: Tensor, noise: float | Tensor, signal: float | Tensor) -> Tensor:
        if several(noise, signal):
            return super().innovation_solve(r, noise, signal)
        # The same bits as by singular values, which take as much memory as eight such pictures.
        return r / (noise + signal * torch.ones((), dtype=r.dtype, device=r.device))


class Matrix(SVDOperator):
    """A dense matrix on flattened signals. Its decomposition is computed at its first use.

    Args:
        matrix: `[m, n]`.
        shape: Event shape of the signal, with `n` entries; `(n,)` by default.
    """

    def __init__(self, matrix: Tensor, shape: Sequence[int] | None = None) -> None:
        matrix = constant(matrix, "A matrix")
        if matrix.ndim != 2:
            raise ShapeError(f"A matrix has shape (m, n); this one has {tuple(matrix.shape)}.")
        m, n = matrix.shape
        domain = Space((n,) if shape is None else shape_of(shape), matrix.dtype, matrix.device)
        if domain.size != n:
            raise ShapeError(
                f"A matrix with {n} columns takes {n} entries, not shape {domain.shape}."
            )
        super().__init__(domain, Space((m,), matrix.dtype, matrix.device))
        self._matrix = matrix
        self._svd: tuple[Tensor, Tensor, Tensor] | None = None

    def _decomposition(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self._svd is None or self._svd[0].dtype != self._matrix.dtype:
            self._svd = torch.linalg.svd(self._matrix)
        u, s, vt = (t.to(like) for t in self._svd)
        return u, s, vt

    @property
    @override
    def singular_values(self) -> Tensor:  # type: ignore[override]
        return self._decomposition(self._matrix)[1]

    @override
    def v(self, coefficients: Tensor) -> Tensor:
        return self.v_seen(coefficients)

    @override
    def vt(self, x: Tensor) -> Tensor:
        return rows_times(self.domain.flatten(x), self._decomposition(x)[2].mT)

    @override
    def v_seen(self, coefficients: Tensor) -> Tensor:
        rows = self._decomposition(coefficients)[2][: coefficients.shape[-1]]
        return self.domain.unflatten(rows_times(coefficients, rows))

    @override
    def vt_seen(self, x: Tensor) -> Tensor:
        _, s, vt = self._decomposition(x)
        return rows_times(self.domain.flatten(x), vt[: len(s)].mT)

    @override
    def u(self, coefficients: Tensor) -> Tensor:
        return rows_times(coefficients, self._decomposition(coefficients)[0].mT)

    @override
    def ut(self, y: Tensor) -> Tensor:
        return rows_times(y, self._decomposition(y)[0])

    @override
    def apply(self, x: Tensor) -> Tensor:
        return rows_times(self.domain.flatten(x), self._matrix.to(x).mT)

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        return self.domain.unflatten(rows_times(y, self._matrix.to(y)))


class Inpainting(SVDOperator):
    """The entries where a mask is true; the measurement is the list of them, `[*batch, kept]`.

    Args:
        mask: True (or 1) where the signal is seen. Its shape is the event shape, or ends it, and its first axis may
            have length one.
        shape: Event shape, if the mask is to be repeated over axes such as colours.

    Raises:
        InputError: If nothing is seen, or the mask holds other values than 0 and 1.
        ShapeError: If the mask does not end the event shape.
    """

    selects = True

    def __init__(self, mask: Tensor, shape: Sequence[int] | None = None) -> None:
        mask = mask_of(mask, "A mask")
        shape = shape_of(mask.shape if shape is None else shape)
        end = shape[len(shape) - mask.ndim :]
        alike = mask.ndim > 1 and len(mask) == 1 and mask.shape[1:] == end[1:]
        if not (alike or mask.shape == end):
            raise ShapeError(
                f"The mask has shape {tuple(mask.shape)}; the signal has shape {shape}."
            )
        seen = mask.expand(shape).reshape(-1)
        if not seen.any():
            raise InputError("The mask is empty: no entry is seen. Set the seen entries to 1.")
        kept = seen.nonzero().flatten()
        self._kept = kept
        self._order = torch.cat([kept, (~seen).nonzero().flatten()])
        self._inverse = self._order.argsort()
        domain = Space(shape, device=mask.device)
        super().__init__(domain, Space((len(kept),), device=mask.device))
        self.singular_values = torch.ones(len(kept), dtype=torch.float64, device=mask.device)

    @property
    def mask(self) -> Tensor:
        """True where the signal is seen, in the event shape."""
        seen = torch.zeros(self.domain.size, dtype=torch.bool, device=self._kept.device)
        seen[self._kept] = True
        return self.domain.unflatten(seen)

    @override
    def v(self, coefficients: Tensor) -> Tensor:
        return self.domain.unflatten(
            coefficients.index_select(-1, self._inverse.to(coefficients.device))
        )

    @override
    def vt(self, x: Tensor) -> Tensor:
        return self.domain.flatten(x).index_select(-1, self._order.to(x.device))

    @override
    def u(self, coefficients: Tensor) -> Tensor:
        return coefficients

    @override
    def ut(self, y: Tensor) -> Tensor:
        return y

    @override
    def apply(self, x: Tensor) -> Tensor:
        batch = x.shape[: x.ndim - len(self.domain.shape)]
        return x.reshape(*batch, len(self._order)).index_select(-1, self._kept.to(x.device))

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        batch = y.shape[:-1]
        out = torch.zeros(*batch, len(self._order), dtype=y.dtype, device=y.device)
        return out.index_copy_(-1, self._kept.to(y.device), y).reshape(*batch, *self.domain.shape)


def _tiled(shape: Sequence[int], factor: int, operator: str) -> tuple[int, ...]:
    """The shape of a picture, if blocks of `factor` pixels a side tile it."""
    shape, factor = picture_shape(shape, operator), whole(factor, "A factor")
    if shape[-2] % factor or shape[-1] % factor:
        raise ShapeError(f"Blocks of {factor} x {factor} do not tile a signal of shape {shape}.")
    return shape


class SuperResolution(Separable):
    """Averages of disjoint square blocks of the last two axes.

    Args:
        factor: Side of a block; divides height and width.
        shape: Event shape, `(..., channels, height, width)`.

    Raises:
        ShapeError: If it does not, or the shape is no picture's.
    """

    shown = ("factor",)

    @shape_last
    def __init__(self, factor: int, shape: Sequence[int]) -> None:
        shape = _tiled(shape, factor, "SuperResolution")
        lines = [torch.eye(side // factor, dtype=torch.float64) / factor for side in shape[-2:]]
        height, width = (line.repeat_interleave(factor, 1) for line in lines)
        super().__init__({-2: height, -1: width}, shape)
        self.factor = factor
        self._values = torch.full((self.codomain.size,), 1 / factor, dtype=torch.float64)

    def _blocks(self, x: Tensor) -> Tensor:
        f, (h, w) = self.factor, self.codomain.shape[-2:]
        x = x.reshape(*x.shape[:-2], h, f, w, f).transpose(-3, -2)
        return x.reshape(*self.codomain.batch(x[..., 0, 0]), self.codomain.size, f**2)

    def _reflected(self, first: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks of `f^2` entries under the reflection that takes the first axis to the direction of the mean.

        It completes that direction to a basis of the block, and is its own inverse.
        """
        f = self.factor
        image = (first + others.sum(-1)) / f
        turn = (first - image) / max(f - 1, 1)
        return image, others + turn[..., None]

    @override
    def v(self, coefficients: Tensor) -> Tensor:
        f, n = self.factor, self.codomain.size
        details = coefficients[..., n:].reshape(*coefficients.shape[:-1], n, f**2 - 1)
        first, others = self._reflected(coefficients[..., :n], details)
        blocks = torch.cat([first[..., None], others], dim=-1)
        x = blocks.reshape(*blocks.shape[:-2], *self.codomain.shape, f, f).transpose(-3, -2)
        return x.reshape(*blocks.shape[:-2], *self.domain.shape)

    @override
    def vt(self, x: Tensor) -> Tensor:
        blocks = self._blocks(x)
        mean, details = self._reflected(blocks[..., 0], blocks[..., 1:])
        return torch.cat([mean, details.flatten(-2)], dim=-1)

    @override
    def u(self, coefficients: Tensor) -> Tensor:
        return self.codomain.unflatten(coefficients)

    @override
    def ut(self, y: Tensor) -> Tensor:
        return self.codomain.flatten(y)

    @override
    def apply(self, x: Tensor) -> Tensor:
        # Whole rows first: sums over adjacent entries are slow.
        f, (h, w) = self.factor, self.codomain.shape[-2:]
        rows = x.reshape(*x.shape[:-2], h, f, w * f).sum(-2)
        return rows.reshape(*rows.shape[:-1], w, f).sum(-1).div_(f**2)

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        f = self.factor
        return (y / f**2).repeat_interleave(f, -2).repeat_interleave(f, -1)


class Bicubic(Separable):
    """A smaller picture by bicubic interpolation without aliasing (Keys, 1981, with -1/2), as picture software does it.

    Args:
        factor: By which height and width shrink; divides both.
        shape: Event shape, `(..., channels, height, width)`.

    Raises:
        ShapeError: If it does not, or the shape is no picture's.
    """

    shown = ("factor",)

    def __init__(self, factor: int, shape: Sequence[int]) -> None:
        shape = _tiled(shape, factor, "Bicubic")
        super().__init__({axis: _bicubic(shape[axis], factor) for axis in (-2, -1)}, shape)
        self.factor = factor


def _bicubic(side: int, factor: int) -> Tensor:
    """The matrix that shrinks a line, `[side / factor, side]`."""
    eye = torch.eye(side, dtype=torch.float64)[None, None]
    size = (side // factor, side)
    shrunk = torch.nn.functional.interpolate(eye, size, mode="bicubic", antialias=True)
    return shrunk[0, 0]


class ColorMixing(Separable):
    """Each pixel's channels mixed by one matrix: grey from colour, stereo to mono, the sum of stems.

    Args:
        matrix: `[channels_out, channels_in]`.
        shape: Event shape, `(channels_in, ...)`.
    """

    def __init__(self, matrix: Tensor, shape: Sequence[int]) -> None:
        matrix, shape = constant(matrix, "A matrix"), shape_of(shape)
        if matrix.ndim != 2 or not shape or matrix.shape[1] != shape[0]:
            raise ShapeError(
                f"A matrix of shape {tuple(matrix.shape)} does not mix the channels of shape {shape}."
            )
        super().__init__({0: matrix}, Space(shape, matrix.dtype, matrix.device))

    @override
    def followed_by(self, outer: LinearOperator) -> LinearOperator:
        matrix = self.matrices[0]
        gram, gain = matrix @ matrix.mT, float(matrix[0].square().sum())
        # In units of the gain, however small that is.
        uneven = float((gram - gain * torch.eye(len(gram)).to(gram)).abs().max())
        if isinstance(outer, Separable) or not uneven < 1e-5 * gain:
            return super().followed_by(outer)
        return after_tight(outer, self, gain)


class ChannelSum(ColorMixing):
    """The sum of all channels as one: the mixture of the stems of a song.

    Args:
        shape: Event shape, `(channels, ...)`.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(torch.ones(1, *shape_of(shape)[:1]), shape)
