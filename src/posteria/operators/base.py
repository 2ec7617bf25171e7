"""What a measurement operator is, and what more it can do when it is linear or has a singular value decomposition."""

import abc
import copy
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor
from typing_extensions import override

from ..core import linalg
from ..core.errors import InputError, ShapeError
from ..core.level import several, typical
from ..core.linalg import LinearMap
from ..core.space import Space

if TYPE_CHECKING:
    from .cells import Cells


class Operator(abc.ABC):
    """A map from signals to measurements that acts on every sample of a batch by itself.

    A subclass writes `apply`, which must be differentiable by autograd, and calls `__init__`. It keeps its
    tensors as exact as it can (float64) and takes them to the dtype and device of what it is given.

    Args:
        domain: Space of the signal.
        codomain: Space of the measurement.

    Attributes:
        calls: Applications of the operator and of its derivatives so far, each on a whole batch, of which
            costs are differences (`core.meter`): a copy goes on from the number of its original.
        shown: Names of the attributes that its `repr` shows.
        rounds: Whether what `rounded` says holds of signals of any range, so of the measurements of another operator.
    """

    shown: ClassVar[tuple[str, ...]] = ()
    rounds: bool = False

    def __init__(self, domain: Space, codomain: Space) -> None:
        self.domain = domain
        self.codomain = codomain
        self.calls = 0

    @abc.abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """The map on `[*batch, *domain.shape]`; call the operator itself, which checks and counts."""

    def __call__(self, x: Tensor) -> Tensor:
        """Measure `x`, `[*batch, *domain.shape]` to `[*batch, *codomain.shape]`.

        Raises:
            InputError: If `x` is no tensor of floats.
            ShapeError: If `x` has another event shape.
        """
        self.calls += 1
        return self.apply(self.domain.check(_floats(x, "x"), "x"))

    def vjp(self, x: Tensor) -> tuple[Tensor, LinearMap]:
        """The measurement of `x` and the map `v -> J^T v`."""
        y, pullback = linalg.vjp(self.__call__, x, self)
        return y, self._counted(pullback)

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The directional derivative `J v` at `x`."""
        self.calls += 1
        return linalg.jvp(self.apply, x, v, self)

    def rounded(self, y: Tensor, std: float | Tensor) -> "Cells | None":
        """The cells in which a linear map of the signal lies, where it rounds or clips it; None if it does neither.

        Args:
            y: The measurement, `[*batch, *codomain.shape]`.
            std: Standard deviation of its noise.
        """
        return None

    def _counted(self, pullback: LinearMap) -> LinearMap:
        def counted(v: Tensor) -> Tensor:
            self.calls += 1
            return pullback(v)

        return counted

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Self:
        """The same operator in another dtype and on another device; this one where it is there already."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device, _kind(value, dtype)))
            elif isinstance(value, Operator):
                setattr(moved, name, value.to(dtype, device))
            elif isinstance(value, Space):
                setattr(moved, name, Space(value.shape, dtype, device))
        there = all(
            value is vars(moved)[name] or (isinstance(value, Space) and value == vars(moved)[name])
            for name, value in vars(self).items()
        )
        return self if there else moved

    def __matmul__(self, inner: "Operator") -> "Operator":
        """`outer @ inner` measures what `inner` gives; linear if both are.

        Raises:
            ShapeError: If it does not take what `inner` gives.
        """
        if not isinstance(inner, Operator):
            return NotImplemented
        if isinstance(self, LinearOperator) and isinstance(inner, LinearOperator):
            return inner.followed_by(self)
        return Composed(self, inner)

    @property
    def label(self) -> str:
        """The operator and its settings in a few words."""
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.shown)
        return f"{type(self).__name__}({settings})"

    def __repr__(self) -> str:
        return f"{self.label}: {self.domain.shape} -> {self.codomain.shape}"


def _floats(x: Tensor, name: str) -> Tensor:
    """Return `x` if it is a tensor of floats: in the dtype of integers matrices and gains would be rounded to 0."""
    if isinstance(x, Tensor) and x.is_floating_point():
        return x
    held = f"holds {x.dtype} values" if isinstance(x, Tensor) else f"is of {type(x).__name__}"
    raise InputError(f"{name} {held}; an operator takes tensors of floats in units of the data.")


def _kind(value: Tensor, dtype: torch.dtype) -> torch.dtype:
    if value.is_complex():
        return dtype.to_complex()
    return dtype if value.is_floating_point() else value.dtype


class LinearOperator(Operator):
    """A linear map. A subclass needs neither an adjoint nor a decomposition: autograd and CG serve.

    Attributes:
        iterations: Most conjugate gradient iterations of a solve.
        tolerance: Relative residual at which a sample's solve ends.
        exact: Whether `innovation_solve` is exact up to rounding, and asks for no iterations.
        selects: Whether the operator only selects entries, so that A A^T is the identity.
    """

    iterations = 500
    tolerance = 1e-8
    exact: bool = False
    selects: ClassVar[bool] = False

    @property
    def solves(self) -> str:
        """How `innovation_solve` finds its answer, and how exactly."""
        if self.exact:
            return "exactly, by a decomposition"
        return (
            f"by conjugate gradients to a relative residual of {self.tolerance:g}, "
            f"in at most {self.iterations} iterations"
        )

    def followed_by(self, outer: "LinearOperator") -> "LinearOperator":
        """`outer @ self`, of the class that can do the most."""
        return LinearComposed(outer, self)

    def apply_adjoint(self, y: Tensor) -> Tensor:
        """The adjoint on `[*batch, *codomain.shape]`; by autograd unless a subclass knows better."""
        batch = self.codomain.batch(y)
        zeros = torch.zeros((*batch, *self.domain.shape), dtype=y.dtype, device=y.device)
        return linalg.vjp(self.apply, zeros, self)[1](y)

    def adjoint(self, y: Tensor) -> Tensor:
        """`A^T y`, `[*batch, *codomain.shape]` to `[*batch, *domain.shape]`.

        Raises:
            InputError: If `y` is no tensor of floats.
            ShapeError: If `y` has another event shape.
        """
        self.calls += 1
        return self.apply_adjoint(self.codomain.check(_floats(y, "y"), "y"))

    @override
    def vjp(self, x: Tensor) -> tuple[Tensor, LinearMap]:
        # The derivative of a linear map is the map itself; what comes back has the shape of what went out.
        return self(x), self._counted(self.apply_adjoint)

    @override
    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        return self(v)

    def innovation_solve(self, r: Tensor, noise: float | Tensor, signal: float | Tensor) -> Tensor:
        """`(noise + signal A A^T)^-1 r`, each sample by itself, as `solves` says.

        Args:
            r: `[*batch, *codomain.shape]`.
            noise: Variance of the noise, above 0: one number, or one for each entry of the measurement
                (then by conjugate gradients).
            signal: Variance of the signal, at least 0.
        """
        near = self.preconditioner(noise, signal)
        return self._cg(
            lambda z: noise * z + signal * self(self.adjoint(z)), r, self.codomain, near
        )

    def preconditioner(
        self, noise: float | Tensor, signal: float | Tensor, *, normal: bool = False
    ) -> LinearMap | None:
        """A cheap symmetric positive map near the inverse of `noise + signal A A^T`; None if there is none.

        Args:
            noise: Above 0; of several numbers the mean.
            signal: At least 0; above 0 if `normal`.
            normal: Of `noise + signal A^T A` instead.
        """
        return None

    def normal_solve(self, b: Tensor, shift: float | Tensor) -> Tensor:
        """`(A^T A + shift I)^-1 b` for a `shift` above 0, each sample by itself.

        Exact with a decomposition, and by conjugate gradients to `tolerance` without.
        """
        near = self.preconditioner(shift, 1.0, normal=True)
        return self._cg(lambda z: self.adjoint(self(z)) + shift * z, b, self.domain, near)

    def pinv(self, y: Tensor) -> Tensor:
        """The least-norm least-squares solution, by conjugate gradients on the normal equations."""
        # Started at 0, iterates stay in the row space, with the solution of least norm, until they follow rounding.
        b, least = self.adjoint(y), 100 * torch.finfo(y.dtype).eps
        return self._cg(lambda z: self.adjoint(self(z)), b, self.domain, None, least)

    def _cg(
        self, f: LinearMap, b: Tensor, space: Space, near: LinearMap | None, least: float = 0.0
    ) -> Tensor:
        count, least = self.iterations, max(self.tolerance, least)
        return linalg.conjugate_gradient(
            f, b, space, iterations=count, tolerance=least, precondition=near
        )

    def matrix(self) -> Tensor:
        """The dense matrix, `[codomain.size, domain.size]`; for small problems."""
        eye = torch.eye(self.domain.size, dtype=self.domain.dtype, device=self.domain.device)
        return self.codomain.flatten(self.apply(self.domain.unflatten(eye))).mT.contiguous()


class SVDOperator(LinearOperator):
    """A linear map with a known singular value decomposition, `A = U diag(s) V^T`.

    Coefficients are `[*batch, domain.size]` on the side of the signal and `[*batch,
    codomain.size]` on the side of the measurement; the first `len(singular_values)` of both belong
    together and the others span the null spaces.

    Attributes:
        singular_values: `[rank]`, at least 0, in any order.
    """

    singular_values: Tensor
    exact = True

    @property
    def summed(self) -> int:
        """Terms of the longest sum in a product with U or V, with which rounding grows."""
        return max(self.domain.size, self.codomain.size)

    def rounding(self, dtype: torch.dtype) -> float:
        """The error of coefficients, over the largest singular value: below it one says nothing in this dtype."""
        return self.summed * torch.finfo(dtype).eps

    @abc.abstractmethod
    def v(self, coefficients: Tensor) -> Tensor:
        """`V`: coefficients to signals."""

    @abc.abstractmethod
    def vt(self, x: Tensor) -> Tensor:
        """`V^T`: signals to coefficients."""

    def v_seen(self, coefficients: Tensor) -> Tensor:
        """`V` of the first coefficients, `[*batch, rank]`, where the others are 0."""
        return self.v(_resize(coefficients, self.domain.size))

    def vt_seen(self, x: Tensor) -> Tensor:
        """The first coefficients of signals, `[*batch, rank]`."""
        return self.vt(x)[..., : len(self.singular_values)]

    @abc.abstractmethod
    def u(self, coefficients: Tensor) -> Tensor:
        """`U`: coefficients to measurements."""

    @abc.abstractmethod
    def ut(self, y: Tensor) -> Tensor:
        """`U^T`: measurements to coefficients."""

    @override
    def apply(self, x: Tensor) -> Tensor:
        s = self.singular_values.to(x)
        return self.u(_resize(s * self.vt_seen(x), self.codomain.size))

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        s = self.singular_values.to(y)
        return self.v_seen(s * self.ut(y)[..., : len(s)])

    @override
    def pinv(self, y: Tensor) -> Tensor:
        # Wider than `rounding`, as it is of vectors of noise, too, which the inverse makes much of.
        s = self.singular_values.to(y)
        floor = s.max() * max(self.domain.size, self.codomain.size) * torch.finfo(s.dtype).eps
        inverse = torch.where(s > floor, 1 / s.clamp(min=floor), 0)
        return self.v(_resize(inverse * self.ut(y)[..., : len(s)], self.domain.size))

    @override
    def innovation_solve(self, r: Tensor, noise: float | Tensor, signal: float | Tensor) -> Tensor:
        if several(noise):
            return super().innovation_solve(r, noise, signal)
        values = self.singular_values.to(r)[: self.codomain.size]
        spread = noise + signal * _resize(values, self.codomain.size) ** 2
        return self.u(self.ut(r) / spread)

    @override
    def preconditioner(
        self, noise: float | Tensor, signal: float | Tensor, *, normal: bool = False
    ) -> LinearMap:
        level, gain = typical(noise), typical(signal)
        if normal:
            return lambda r: self.normal_solve(r / gain, level / gain)
        return lambda r: self.innovation_solve(r, level, gain)

    @override
    def normal_solve(self, b: Tensor, shift: float | Tensor) -> Tensor:
        s = _resize(self.singular_values.to(b), self.domain.size)
        return self.v(self.vt(b) / (s**2 + shift))


def _resize(coefficients: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(coefficients, (0, size - coefficients.shape[-1]))


class Composed(Operator):
    """`outer @ inner`: a measurement of a decoded latent, or two degradations in a row.

    Args:
        outer: The operator that comes last.
        inner: The operator that comes first.

    Raises:
        ShapeError: If `outer` does not take what `inner` gives.
    """

    def __init__(self, outer: Operator, inner: Operator) -> None:
        if outer.domain.shape != inner.codomain.shape:
            raise ShapeError(
                f"{outer.label} cannot follow {inner.label}: it takes shape {outer.domain.shape}, and that gives "
                f"{inner.codomain.shape}."
            )
        super().__init__(inner.domain, outer.codomain)
        self.outer = outer
        self.inner = inner

    @property
    @override
    def label(self) -> str:
        return f"{self.outer.label} @ {self.inner.label}"

    @property
    @override
    def rounds(self) -> bool:  # type: ignore[override]
        return self.outer.rounds

    @override
    def rounded(self, y: Tensor, std: float | Tensor) -> "Cells | None":
        if not (self.outer.rounds and isinstance(self.inner, LinearOperator)):
            return None
        cells = self.outer.rounded(y, std)
        return cells and cells._replace(operator=self.inner.followed_by(cells.operator))

    @override
    def apply(self, x: Tensor) -> Tensor:
        return self.outer.apply(self.inner.apply(x))


class LinearComposed(Composed, LinearOperator):
    """A `Composed` of two linear operators."""

    outer: LinearOperator
    inner: LinearOperator

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        return self.inner.apply_adjoint(self.outer.apply_adjoint(y))

    @override
    def preconditioner(
        self, noise: float | Tensor, signal: float | Tensor, *, normal: bool = False
    ) -> LinearMap | None:
        outer, inner = self.outer, self.inner
        if normal or not (outer.selects and inner.exact):
            return None
        level = typical(noise)
        # As if the entries that are not selected were measured to be 0.
        return lambda r: outer.apply(inner.innovation_solve(outer.apply_adjoint(r), level, signal))
