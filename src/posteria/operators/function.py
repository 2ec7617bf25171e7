"""Any function as an operator."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import InputError, ShapeError, require
from ..core.space import Space
from .base import LinearOperator, Operator

Map = Callable[[Tensor], Tensor]


class Function(Operator):
    """Any differentiable function as an operator.

    Args:
        function: Takes `[n, *event]` to `[n, *measurement]`, each sample by itself; differentiable
            by autograd, or else only samplers that need no derivative of the operator can use it.
        domain: Space of the signal, or its event shape (then in float32).

    Raises:
        InputError: If the function gives no tensor of floats; when it is called, if it fails for signals of another
            dtype than that of the domain, as a layer of a network does.
        ShapeError: If it does not keep the batch axis.
    """

    def __init__(self, function: Map, domain: Space | tuple[int, ...]) -> None:
        space = domain if isinstance(domain, Space) else Space(domain)
        self._function = function
        self._made = space.dtype
        super().__init__(space, _codomain(function, space))

    @property
    @override
    def label(self) -> str:
        return f"{type(self).__name__}({getattr(self._function, '__name__', 'function')})"

    @override
    def apply(self, x: Tensor) -> Tensor:
        return self._on_rows(self._function, x, self.domain, self.codomain)

    def _on_rows(self, f: Map, x: Tensor, domain: Space, codomain: Space) -> Tensor:
        """Apply a function of `[n, *event]` to `[*batch, *event]`."""
        try:
            y = f(x.reshape(-1, *domain.shape))
        except RuntimeError as error:
            if x.dtype == self._made or "type" not in str(error):
                raise
            raise InputError(
                f"{self.label} was made for signals of {self._made}, and fails for {x.dtype}: {error}. Take a prior of "
                "that dtype, or convert what goes in and out of the function."
            ) from error
        return y.reshape((*domain.batch(x), *codomain.shape))


class LinearFunction(Function, LinearOperator):
    """Any linear function as an operator; the adjoint comes from autograd and solves from conjugate gradients.

    Args:
        function: As for `Function`, and linear.
        domain: As for `Function`.
        adjoint: The adjoint, where a faster one than autograd's is known, or the function has no
            derivative.

    Raises:
        InputError: If the function is not linear, or the adjoint not its adjoint, by more than 1 % on random signals.
        ShapeError: As for `Function`, and if the adjoint gives another shape than that of signals.
    """

    def __init__(
        self, function: Map, domain: Space | tuple[int, ...], adjoint: Map | None = None
    ) -> None:
        self._adjoint = adjoint
        super().__init__(function, domain)
        self._try_out()

    @torch.no_grad()
    def _try_out(self) -> None:
        """Two signals and a sum of them: solves and derivatives would be silently wrong of a map that is not linear."""
        space, generator = self.domain, torch.Generator().manual_seed(0)
        x = torch.randn(2, *space.shape, generator=generator).to(space.device, space.dtype)
        y = self.apply(torch.cat([x, x[:1] - 2 * x[1:]]))
        off = (y[2] - y[0] + 2 * y[1]).norm()
        require(
            bool(off <= 1e-2 * y.norm()),
            f"{self.label} is not linear: its value at x - 2 z is not that at x minus twice that at z. Take Function, "
            "or subtract from y what it adds.",
        )
        if self._adjoint is None:
            return
        # Not of a random measurement, of which a wrong adjoint may be as near to 0 as the right one.
        back = self._adjoint(y[:2])
        if back.shape != x.shape:
            raise ShapeError(
                f"The adjoint of {self.label} took {tuple(y[:2].shape)} to {tuple(back.shape)}, not {tuple(x.shape)}."
            )
        squares = self.codomain.dot(y[:2], y[:2]).flatten()
        products = space.dot(x, back).flatten()
        require(
            bool((products - squares).norm() <= 1e-2 * squares.norm()),
            f"The adjoint of {self.label} is not its adjoint: <A x, A x> is {squares[0]:.4g} and <x, A^T A x> is "
            f"{products[0]:.4g} for a random x. An adjoint is no inverse, and has the scale of the function.",
        )

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        if self._adjoint is None:
            return super().apply_adjoint(y)
        return self._on_rows(self._adjoint, y, self.codomain, self.domain)


def _codomain(f: Map, domain: Space) -> Space:
    """The space of `f(x)`, seen by measuring two signals of zeros."""
    y: Any = f(domain.zeros(2))
    if not isinstance(y, Tensor):
        raise InputError(
            f"The function of an operator gives a tensor; this one gives {type(y).__name__}."
        )
    if y.ndim < 1 or y.shape[0] != 2:
        raise ShapeError(
            "An operator takes (batch, *event) to (batch, *measurement); "
            f"this one took {(2, *domain.shape)} to {tuple(y.shape)}."
        )
    return Space(tuple(y.shape[1:]), y.dtype, y.device)
