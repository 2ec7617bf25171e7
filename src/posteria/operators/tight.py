"""What comes after an operator whose A A^T is a multiple of the identity, such as the sum of some channels."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import override

from .base import LinearComposed, LinearOperator, SVDOperator


class AfterTight(LinearComposed):
    """A `Composed` whose inner operator B has B B^T = `gain` I, so that its solves are those of the outer one.

    Args:
        outer: The operator that comes last.
        inner: The operator that comes first.
        gain: Of the inner one, above 0.
    """

    def __init__(self, outer: LinearOperator, inner: LinearOperator, gain: float) -> None:
        super().__init__(outer, inner)
        self.gain = gain
        self.exact, self.tolerance = outer.exact, outer.tolerance

    @property
    @override
    def solves(self) -> str:
        return self.outer.solves

    def _counted_outside(self, solve: Callable[..., Tensor], *given: float | Tensor) -> Tensor:
        before = self.outer.calls
        solved = solve(*given)
        self.calls += self.outer.calls - before
        return solved

    @override
    def innovation_solve(self, r: Tensor, noise: float | Tensor, signal: float | Tensor) -> Tensor:
        solve = self.outer.innovation_solve
        return self._counted_outside(solve, r, noise, self.gain * signal)

    @override
    def normal_solve(self, b: Tensor, shift: float | Tensor) -> Tensor:
        inner, gain = self.inner, self.gain
        mixed = inner.apply(b) / gain
        solved = self._counted_outside(self.outer.normal_solve, mixed, shift / gain) / gain
        # What the inner operator does not see meets the shift alone.
        return (b - inner.apply_adjoint(mixed)) / shift + inner.apply_adjoint(solved)

    @override
    def pinv(self, y: Tensor) -> Tensor:
        return self.inner.apply_adjoint(self._counted_outside(self.outer.pinv, y)) / self.gain


class SVDAfterTight(AfterTight, SVDOperator):
    """The same of two operators with a decomposition."""

    outer: SVDOperator
    inner: SVDOperator
    preconditioner = SVDOperator.preconditioner

    @property
    @override
    def summed(self) -> int:
        return max(self.outer.summed, self.inner.summed)

    @property
    @override
    def singular_values(self) -> Tensor:  # type: ignore[override]
        return self.outer.singular_values * math.sqrt(self.gain)

    @override
    def v(self, coefficients: Tensor) -> Tensor:
        n = self.outer.domain.size
        seen = self.inner.ut(self.outer.v(coefficients[..., :n]))
        return self.inner.v(torch.cat([seen, coefficients[..., n:]], -1))

    @override
    def vt(self, x: Tensor) -> Tensor:
        n, coefficients = self.outer.domain.size, self.inner.vt(x)
        seen = self.outer.vt(self.inner.u(coefficients[..., :n]))
        return torch.cat([seen, coefficients[..., n:]], -1)

    @override
    def u(self, coefficients: Tensor) -> Tensor:
        return self.outer.u(coefficients)

    @override
    def ut(self, y: Tensor) -> Tensor:
        return self.outer.ut(y)


def after_tight(outer: LinearOperator, inner: SVDOperator, gain: float) -> AfterTight:
    """`outer @ inner`, of the class that can do the most."""
    kind = SVDAfterTight if isinstance(outer, SVDOperator) else AfterTight
    return kind(outer, inner, gain)
