"""Operators that act on each axis by a matrix of its own; their decomposition is that of the small matrices."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import ShapeError
from ..core.space import Space, shape_of
from .base import LinearComposed, LinearOperator, SVDOperator

Part = Literal["a", "at", "u", "ut", "v", "vt"]


class Factor:
    """A matrix of one axis, kept in float64, and what is made of it, once for each dtype and device.

    Args:
        matrix: `[m, n]`.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix.double()
        self._copies: dict[object, Tensor] = {}

    @cached_property
    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """`U` and `V`, both square, and the singular values."""
        u, s, vt = torch.linalg.svd(self.matrix)
        return u, vt.mT, s

    def along(self, part: Part, x: Tensor, axis: int, axes: int) -> Tensor:
        """Multiply an axis of `x`, counted from the end of events of so many axes, by a part of the matrix."""
        key = (part, x.dtype, x.device)
        if key not in self._copies:
            name = part.removesuffix("t")
            matrix = self.matrix if name == "a" else self.svd["uv".index(name)]
            self._copies[key] = (matrix if name == part else matrix.mT).to(x)
        matrix = self._copies[key]
        # By products of one size for every sample, so that its last bits do not depend on the batch.
        if axis == -1:
            rows = x.reshape(-1, x.shape[-2] if axes > 1 else 1, x.shape[-1])
            product = torch.bmm(rows, matrix.mT.expand(len(rows), *matrix.mT.shape))
        else:
            rows = x.reshape(-1, x.shape[axis], math.prod(x.shape[x.ndim + axis + 1 :]))
            product = torch.bmm(matrix.expand(len(rows), *matrix.shape), rows)
        return product.reshape(*x.shape[:axis], len(matrix), *x.shape[x.ndim + axis + 1 :])


class Separable(SVDOperator):
    """A matrix along each of some axes of the signal; the other axes stay as they are.

    The decomposition is that of the matrices, found in float64 at its first use; solves are exact.

    Args:
        matrices: `[m, n]` for an axis of `n` entries, by the number of the axis in the event shape (or from its end).
        domain: Space of the signal, or its event shape.

    Raises:
        ShapeError: If a matrix does not fit its axis.
    """

    def __init__(self, matrices: Mapping[int, Tensor], domain: Space | Sequence[int]) -> None:
        space = domain if isinstance(domain, Space) else Space(shape_of(domain))
        shape, factors = list(space.shape), {}
        for place, matrix in matrices.items():
            axis = place + len(shape) if place < 0 else place
            if not 0 <= axis < len(shape) or matrix.ndim != 2 or matrix.shape[1] != shape[axis]:
                raise ShapeError(
                    f"A matrix of shape {tuple(matrix.shape)} does not act on axis {place} of shape {space.shape}."
                )
            factors[axis] = Factor(matrix)
            shape[axis] = len(matrix)
        # The state of LinearOperator alone: a subclass may have bases with settings of their own.
        LinearOperator.__init__(self, space, Space(tuple(shape), space.dtype, space.device))
        self._factors = factors

    @property
    def matrices(self) -> dict[int, Tensor]:
        """The matrix of each axis that has one, in float64."""
        return {axis: factor.matrix for axis, factor in self._factors.items()}

    @cached_property
    def _values(self) -> Tensor:
        values = torch.ones((), dtype=torch.float64)
        for axis, side in enumerate(self.domain.shape):
            known = axis in self._factors
            line = self._factors[axis].svd[2].cpu() if known else torch.ones(side).double()
            values = values[..., None] * line
        return values.flatten().to(self.domain.device)

    @cached_property
    def _order_v(self) -> Tensor | None:
        return _matched_first(self.domain, self.codomain)

    @cached_property
    def _order_u(self) -> Tensor | None:
        return _matched_first(self.codomain, self.domain)

    @property
    @override
    def summed(self) -> int:
        return max((1, *self.domain.shape, *self.codomain.shape))

    @property
    @override
    def singular_values(self) -> Tensor:  # type: ignore[override]
        return self._values

    def _each(self, part: Part, x: Tensor) -> Tensor:
        axes = len(self.domain.shape)
        for axis, factor in self._factors.items():
            x = factor.along(part, x, axis - axes, axes)
        return x

    @override
    def v(self, coefficients: Tensor) -> Tensor:
        return self._each("v", self.domain.unflatten(_restored(coefficients, self._order_v)))

    @override
    def vt(self, x: Tensor) -> Tensor:
        return _ordered(self.domain.flatten(self._each("vt", x)), self._order_v)

    @override
    def u(self, coefficients: Tensor) -> Tensor:
        return self._each("u", self.codomain.unflatten(_restored(coefficients, self._order_u)))

    @override
    def ut(self, y: Tensor) -> Tensor:
        return _ordered(self.codomain.flatten(self._each("ut", y)), self._order_u)

    @override
    def apply(self, x: Tensor) -> Tensor:
        return self._each("a", x)

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        return self._each("at", y)

    @override
    def followed_by(self, outer: LinearOperator) -> LinearOperator:
        if isinstance(outer, Separable):
            return SeparableComposed(outer, self)
        return super().followed_by(outer)


class SeparableComposed(Separable, LinearComposed):
    """A `Composed` of two separable operators, which is one: super-resolution of a blurred picture, a blur in grey."""

    def __init__(self, outer: Separable, inner: Separable) -> None:
        LinearComposed.__init__(self, outer, inner)
        first, last = inner.matrices, outer.matrices
        both = {
            axis: last[axis] @ first[axis] if axis in first and axis in last else matrix
            for axis, matrix in (first | last).items()
        }
        Separable.__init__(self, both, inner.domain)


def _matched_first(space: Space, other: Space) -> Tensor | None:
    """The order of coefficients in which those with a singular value come first; None if they do so as they are."""
    matched = torch.ones((), dtype=torch.bool)
    for side, shorter in zip(space.shape, other.shape, strict=True):
        matched = matched[..., None] & (torch.arange(side) < shorter)
    order = torch.cat([(matched.flatten() == seen).nonzero().flatten() for seen in (True, False)])
    return None if torch.equal(order, torch.arange(space.size)) else order.to(space.device)


def _ordered(x: Tensor, order: Tensor | None) -> Tensor:
    return x if order is None else x.index_select(-1, order)


def _restored(x: Tensor, order: Tensor | None) -> Tensor:
    return x if order is None else torch.empty_like(x).index_copy_(-1, order, x)
