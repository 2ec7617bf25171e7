"""Any function as an operator."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from typing_extensions import override

from ..core.errors import InputError, ShapeError
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
        InputError: If the function gives no tensor of floats.
        ShapeError: If it does not keep the batch axis.
    """

    def __init__(self, function: Map, domain: Space | tuple[int, ...]) -> None:
        space = domain if isinstance(domain, Space) else Space(domain)
        self._function = function
        super().__init__(space, _codomain(function, space))

    @property
    @override
    def label(self) -> str:
        return f"{type(self).__name__}({getattr(self._function, '__name__', 'function')})"

    @override
    def apply(self, x: Tensor) -> Tensor:
        return _on_rows(self._function, x, self.domain, self.codomain)


class LinearFunction(Function, LinearOperator):
    """Any linear function as an operator; the adjoint comes from autograd and solves from conjugate gradients.

    Args:
        function: As for `Function`, and linear.
        domain: As for `Function`.
        adjoint: The adjoint, where a faster one than autograd's is known, or the function has no
            derivative.
    """

    def __init__(
        self, function: Map, domain: Space | tuple[int, ...], adjoint: Map | None = None
    ) -> None:
        self._adjoint = adjoint
        super().__init__(function, domain)

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        if self._adjoint is None:
            return super().apply_adjoint(y)
        return _on_rows(self._adjoint, y, self.codomain, self.domain)


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


def _on_rows(f: Map, x: Tensor, domain: Space, codomain: Space) -> Tensor:
    """Apply a function of `[n, *event]` to `[*batch, *event]`."""
    return f(x.reshape(-1, *domain.shape)).reshape(*domain.batch(x), *codomain.shape)
