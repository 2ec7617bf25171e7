"""What methods for linear measurements with Gaussian noise share."""

import math
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from .core.errors import CapabilityError, expect
from .core.level import several as several
from .core.rng import Rng
from .likelihood import GaussianLikelihood
from .operators import Identity, Matrix
from .operators.base import LinearOperator, Operator, SVDOperator
from .operators.cells import Cells, InNoise, StandIn
from .target import Observed, OfPrior, Posterior

Op = TypeVar("Op", bound=Operator)
# Most entries of a signal and of a measurement for which an operator is decomposed.
LARGEST_DENSE = 2048


class Linear(NamedTuple):
    """A linear measurement with Gaussian noise."""

    operator: LinearOperator
    std: float | Tensor


class Spectral(NamedTuple):
    """A measurement with a known decomposition `A = U diag(s) V^T` and one noise level.

    Attributes:
        operator: A.
        s: Singular values, one for each entry of the signal: those of A, and zeros.
        std: Noise level.
    """

    operator: SVDOperator
    s: Tensor
    std: float

    @property
    def seen(self) -> Tensor:
        """The directions that are measured: their singular value is above the rounding error."""
        return self.s > self.s.max() * self.operator.rounding(self.s.dtype)

    def measured(self, y: Tensor) -> Tensor:
        """`U^T y` for the directions of the signal, `[*batch, domain.size]`: 0 where nothing is measured."""
        rank = min(len(self.operator.singular_values), len(self.s))
        coefficients = self.operator.ut(y)[..., :rank]
        return torch.nn.functional.pad(coefficients, (0, len(self.s) - rank))


def finest(target: Posterior) -> float:
    """The least noise of a measured direction, in data units; infinite where it is not known.

    It is the lowest level of noise over the largest singular value, of an operator whose decomposition is known; a
    matrix of more than `LARGEST_DENSE` a side is not decomposed for it.
    """
    likelihood = target.likelihood
    operator = getattr(likelihood, "operator", None)
    if not isinstance(likelihood, GaussianLikelihood) or not isinstance(operator, SVDOperator):
        return math.inf
    if (
        isinstance(operator, Matrix)
        and max(operator.domain.size, operator.codomain.size) > LARGEST_DENSE
    ):
        return math.inf
    gain = float(operator.singular_values.max()) if operator.singular_values.numel() else 0.0
    return float(torch.as_tensor(likelihood.std).min()) / gain if gain > 0 else math.inf


@dataclass(frozen=True, eq=False)
class Narrowed(OfPrior, Generic[Op]):
    """A posterior with Gaussian noise and a kind of operator, narrowed once a run."""

    operator: Op
    std: float | Tensor
    y: Tensor


GaussianProblem = Narrowed[Operator]
LinearProblem = Narrowed[LinearOperator]


@dataclass(frozen=True, eq=False)
class SpectralProblem(OfPrior):
    """A posterior with a known decomposition and one level of Gaussian noise, narrowed once a run."""

    measurement: Spectral
    y: Tensor


def gaussian_problem(target: Posterior, by: object) -> GaussianProblem:
    """The target, narrowed to Gaussian noise; `CapabilityError` if it has another."""
    likelihood = expect(target.likelihood, GaussianLikelihood, by=by)
    return Narrowed(target.prior, likelihood.operator, likelihood.std, target.y)


def cell_problem(target: Posterior, by: object) -> GaussianProblem:
    """`gaussian_problem`, where a measurement of which a linear map was rounded is the linear one of its cells.

    Rounding has no derivative to follow. A uniform law over a cell is replaced by the Gaussian of its variance.
    Where each entry was rounded or clipped by itself it is left to the method (`entry_cells`).
    """
    problem = gaussian_problem(target, by)
    cells = problem.operator.rounded(problem.y, problem.std)
    if cells is None or isinstance(cells.operator, Identity):
        return problem
    return of_cells(problem, cells)


def entry_cells(problem: GaussianProblem) -> Cells | None:
    """The cells of entries that were rounded or clipped one by one; None where none were."""
    cells = problem.operator.rounded(problem.y, problem.std)
    return None if cells is None or not isinstance(cells.operator, Identity) else cells


def of_cells(problem: GaussianProblem, cells: Cells) -> GaussianProblem:
    """The linear measurement of cells, in units of standard deviations, for which iterative solves are the faster."""
    operator = InNoise(cells, problem.operator)
    return Narrowed(problem.prior, operator, 1.0, cells.centre / cells.std)


def linear_problem(target: Posterior, by: object) -> LinearProblem:
    """The target, narrowed to a linear operator and Gaussian noise; errors as `linear`."""
    operator, std = linear(target, by)
    return Narrowed(target.prior, operator, std, target.y)


def spectral_problem(target: Posterior, by: object) -> SpectralProblem:
    """The target, narrowed to a known decomposition and one noise level; errors as `spectral`."""
    return SpectralProblem(target.prior, spectral(target, by), target.y)


def linear(target: Observed, by: object) -> Linear:
    """The measurement of a target, which is linear and has Gaussian noise.

    Raises:
        CapabilityError: If it is not.
    """
    likelihood = expect(target.likelihood, GaussianLikelihood, by=by)
    return Linear(expect(likelihood.operator, LinearOperator, by=by), likelihood.std)


def spectral(target: Observed, by: object) -> Spectral:
    """The measurement of a target, which has a decomposition and one level of Gaussian noise.

    Raises:
        CapabilityError: If it has not.
    """
    likelihood = expect(target.likelihood, GaussianLikelihood, by=by)
    operator = expect(likelihood.operator, SVDOperator, by=by)
    std = likelihood.std
    if isinstance(std, Tensor) and std.numel() > 1 and not (std == std.flatten()[0]).all():
        raise CapabilityError(
            f"{type(by).__name__} needs one noise level for all entries of y; these have several."
        )
    level = float(std.flatten()[0]) if isinstance(std, Tensor) else std
    values = operator.singular_values
    size = operator.domain.size
    s = torch.nn.functional.pad(values[:size], (0, max(0, size - len(values))))
    space = target.space
    return Spectral(operator, s.to(space.device, space.dtype), level)


def innovation(likelihood: Linear, residual: Tensor, variance: float) -> Tensor:
    """`(std^2 + variance A A^T)^-1 residual`, as exactly as `operator.solves` says."""
    return likelihood.operator.innovation_solve(residual, likelihood.std**2, variance)


def posterior_mean(likelihood: Linear, y: Tensor, mean: Tensor, variance: float) -> Tensor:
    """E[x | y] where `x ~ N(mean, variance I)`."""
    operator = likelihood.operator
    z = innovation(likelihood, y - operator(mean), variance)
    return mean + variance * operator.adjoint(z)


def posterior_draw(
    likelihood: Linear, y: Tensor, mean: Tensor, variance: float, rng: Rng
) -> Tensor:
    """A draw of x given y where `x ~ N(mean, variance I)`.

    By Matheron's rule: a draw of x and of a measurement of it, corrected by the difference to `y`;
    one solve, and no square root of a covariance.
    """
    operator, std = likelihood
    x = mean + math.sqrt(variance) * rng.normal_like(mean)
    simulated = operator(x)
    simulated = simulated + std * rng.normal_like(simulated)
    return x + variance * operator.adjoint(innovation(likelihood, y - simulated, variance))


class Dense(StandIn, Matrix):
    """The matrix of a linear operator in units of the noise, with its decomposition.

    Args:
        measured: The operator.
        std: Of the noise, a number or one for each entry of the measurement.
        dtype: Of the matrix.
    """

    def __init__(self, measured: LinearOperator, std: float | Tensor, dtype: torch.dtype) -> None:
        self.measured, matrix = measured, measured.matrix().to(dtype)
        noise = torch.as_tensor(std, dtype=dtype, device=matrix.device)
        each = noise.expand(measured.codomain.shape).reshape(-1, 1)
        super().__init__(matrix / each, measured.domain.shape)


def decomposed(target: Posterior) -> Posterior:
    """The same target in units of the noise, by a dense matrix, unless it is solved exactly as it is or too large.

    Conjugate gradients are slow where a problem is ill-conditioned, and do not get to the end at high levels.
    """
    likelihood = target.likelihood
    if not isinstance(likelihood, GaussianLikelihood):
        return target
    operator, std = likelihood.operator, likelihood.std
    size = max(operator.domain.size, operator.codomain.size)
    if not isinstance(operator, LinearOperator) or size > LARGEST_DENSE:
        return target
    if operator.exact and not several(std):
        return target
    dense, y = Dense(operator, std, target.space.dtype), operator.codomain.flatten(target.y / std)
    return replace(target, likelihood=GaussianLikelihood(dense, std=1.0), y=y)
