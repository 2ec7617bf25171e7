"""Twists: approximations of p(y | x) for a noisy x, with their gradients, that steer particles and weigh them.

Whatever the twist, the weights make up for it; a better one only wastes fewer particles.
"""

import abc
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import expect
from ...core.linalg import LinearMap, function_times
from ...core.rng import Rng
from ...core.space import Space
from ...likelihood import GaussianLikelihood
from ...linear_gaussian import LARGEST_DENSE, innovation, linear
from ...operators.base import LinearOperator, SVDOperator
from ...target import Observed
from .population import log_prob, paired, score, take

LOG_TWO_PI = math.log(2 * math.pi)
# Products with a Jacobian that a root or an inverse of a covariance takes.
KRYLOV = 8
# Of the noise's variance: a negative eigenvalue of a covariance that does no harm.
NEGLIGIBLE = 1e-3


class Gain(NamedTuple):
    """The dense form of a moment-matched twist, from which x_0 can be drawn given y.

    Attributes:
        rows: `A C / std`, `[*batch, measurements, size]`, where C = Cov(x_0 | x).
        root: Cholesky factor of the covariance of `y / std`, `[*batch, measurements, measurements]` in float64.
        residual: `(y - A D) / std`, `[*batch, measurements, 1]` in float64.
    """

    rows: Tensor
    root: Tensor
    residual: Tensor

    def combine(self, residual: Tensor) -> Tensor:
        """`C A^T / std` times the inverse covariance of `y / std` times a residual, `[*batch, size]`."""
        solved = torch.cholesky_solve(residual.double()[..., None], self.root)
        return (self.rows.mT @ solved.to(self.rows))[..., 0]


def propose(
    value: "TwistValue", space: Space, root: float, sigma: float, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """A move along the slope of a twist, in units of the reverse kernel's standard deviation.

    The kernel times the twist's Gaussian approximation at x: with a dense twist its curvature is
    known as well, so that the move narrows where the measurement narrows it. Without that the
    weights spread by half the curvature's square at each level.

    Args:
        value: What the twist sees.
        space: Of the signal.
        root: Standard deviation of the kernel.
        sigma: Level of `value`.
        noise: Standard normal, `[*batch, *event]`.

    Returns:
        The move `[*batch, *event]`, and the log of its density over the kernel's `[*batch]`.
    """
    free = space.flatten(noise)
    log_det: Tensor | float = 0.0
    if isinstance(value.slope, Tensor):
        move = space.flatten(root * value.slope)
    else:
        # The precision of the move is 1 + R' (L L')^-1 R for the rows R of the gain times `scale` and its root L. With
        # K K' = L L' + R R' its inverse is 1 - R' (K K')^-1 R, and a root of that 1 - R' K'^-1 (K + L)^-1 R. Its mean,
        # the inverse times the slope R' (L L')^-1 r for the residual r, is R' (K K')^-1 r.
        (rows, lower, residual), scale = value.slope, root / sigma**2
        seen = (rows @ rows.mT).double()
        upper = torch.linalg.cholesky((lower @ lower.mT).add_(seen, alpha=scale**2))
        seen = (rows @ free[..., None]).double()
        push = torch.linalg.solve_triangular(upper, scale * residual, upper=False)
        push -= torch.linalg.solve_triangular(upper + lower, scale**2 * seen, upper=False)
        push = torch.linalg.solve_triangular(upper.mT, push, upper=True)
        move = (rows.mT @ push.to(rows))[..., 0]
        log_det = _log_det(upper) - _log_det(lower)
    move = move + free
    energy = (move.double() ** 2).sum(-1) - (free.double() ** 2).sum(-1)
    return space.unflatten(move), (energy + log_det) / 2


def _log_det(root: Tensor) -> Tensor:
    """Of a covariance with this Cholesky factor."""
    return 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _covariance(seen: Tensor) -> Tensor:
    """The nearest covariance to matrices `[*batch, m, m]`, in float64.

    A network's Jacobian is neither symmetric nor positive.
    """
    matrix = torch.add(seen.double(), seen.double().mT).mul_(0.5)
    negative = torch.linalg.cholesky_ex(_plus(matrix, NEGLIGIBLE)).info > 0
    if negative.any():
        values, vectors = torch.linalg.eigh(matrix[negative])
        matrix[negative] = vectors * values.clamp(min=0)[..., None, :] @ vectors.mT
    return matrix


def _plus(matrix: Tensor, value: Tensor | float) -> Tensor:
    """The matrix plus a multiple of the identity, or one multiple for each, `[*batch, 1, 1]`."""
    return matrix + value * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


class Place(NamedTuple):
    """Where particles are, and what is left to learn of x_0 at their level, in the mean over the prior.

    Attributes:
        x: `[populations, particles, *event]`.
        sigma: Their noise level.
        sigma_next: The level that they go to.
        signal: Variance of an entry of x_0 given x.
        measured: Variance of an entry of `A(x_0) - A(D)`, for a nonlinear A.
        bias: Its mean, `[*measurement]`.
    """

    x: Tensor
    sigma: float
    sigma_next: float
    signal: float
    measured: float
    bias: Tensor


class TwistValue(NamedTuple):
    """What a twist sees at x.

    Attributes:
        x0: E[x_0 | x].
        log_value: Log of the twist, `[*batch]` in float64.
        slope: Its gradient in x, `[*batch, *event]`, or what a dense twist knows beside it.
    """

    x0: Tensor
    log_value: Tensor
    slope: Tensor | Gain

    def of(self, ancestors: Tensor) -> "TwistValue":
        """That of selected particles."""
        slope = self.slope
        if isinstance(slope, Tensor):
            slope = take(slope, ancestors)
        else:
            slope = Gain(*(take(part, ancestors) for part in slope))
        return TwistValue(take(self.x0, ancestors), take(self.log_value, ancestors), slope)


@dataclass(frozen=True)
class Twist(abc.ABC):
    """An approximation of p(y | x) where `x = x_0 + sigma * noise`."""

    @abc.abstractmethod
    def evaluate(self, target: Observed, at: Place, rng: Rng) -> TwistValue:
        """The twist, its gradient, and what it is made of; `rng` has one stream a population."""

    def draw(self, target: Observed, value: TwistValue, at: Place, rng: Rng) -> Tensor | None:
        """x_0 given x and y as the twist believes, or None if it cannot be drawn."""
        return None

    def vjps(self, target: Observed) -> int:
        """Products with the Jacobian of the prior that `evaluate` takes for a particle."""
        return 1

    def last(self, target: Observed) -> int:
        """Those that a draw of x_0 takes."""
        return KRYLOV

    def constant(self, target: Observed, at: Place) -> float | Tensor:
        """What `log_value` leaves out because it is the same for all particles; NaN if it is not known."""
        return 0.0


def _log_normal(z: Tensor, log_det: Tensor | float) -> Tensor:
    """Log-density of whitened residuals `[*batch, m]` in float64."""
    return (-(z.double() ** 2).sum(-1) - log_det - z.shape[-1] * LOG_TWO_PI) / 2


@dataclass(frozen=True)
class Dense(Twist):
    """N(y; A(D), std^2 + A C A^T) with C = Cov(x_0 | x) = sigma^2 dD/dx. One vjp a measurement.

    A nonlinear A is linearised at D. Far from x_0 that says little; the mean of what it misses is
    added to A(D), and its variance to every entry.
    """

    @override
    def vjps(self, target: Observed) -> int:
        return _gaussian(target).operator.codomain.size

    @override
    def evaluate(self, target: Observed, at: Place, rng: Rng) -> TwistValue:
        likelihood = _gaussian(target)
        operator, space = likelihood.operator, likelihood.operator.codomain
        x, sigma = at.x, at.sigma
        x0, denoiser_vjp = target.prior.vjp(x, sigma)
        ax0, operator_vjp = operator.vjp(x0)
        std = torch.as_tensor(likelihood.std, dtype=x.dtype, device=x.device)
        units = space.unflatten(torch.eye(space.size, dtype=x.dtype, device=x.device)) / std
        flat = isinstance(operator, LinearOperator)
        # A linear map has the same rows at every particle.
        pulled = operator_vjp(units) if flat else (operator_vjp(u.expand_as(ax0)) for u in units)
        columns = [denoiser_vjp((sigma**2 * row).expand_as(x)) for row in pulled]
        rows = torch.stack([target.space.flatten(column) for column in columns], -2)
        if flat:
            image = operator(target.space.unflatten(rows))
        else:
            image = torch.stack([operator.jvp(x0, column) for column in columns], 2)
        covariance = _covariance(space.flatten(image / std))
        if not flat:
            ax0 = ax0 + at.bias
            own = space.flatten(std**2 + ax0 * 0).double()
            known = (covariance.diagonal(dim1=-2, dim2=-1) * own).mean(-1)
            missed = (at.measured - known).clamp(min=0) / (std.double() ** 2).mean()
            covariance = _plus(covariance, missed[..., None, None])
        root = torch.linalg.cholesky(_plus(covariance, 1.0))
        residual = space.flatten((target.y - ax0) / std).double()[..., None]
        white = torch.linalg.solve_triangular(root, residual, upper=False)
        log_det = _log_det(root) + 2 * _log_std(std, space.size)
        return TwistValue(x0, _log_normal(white[..., 0], log_det), Gain(rows, root, residual))

    @override
    def draw(self, target: Observed, value: TwistValue, at: Place, rng: Rng) -> Tensor | None:
        likelihood = _gaussian(target)
        if not isinstance(likelihood.operator, LinearOperator) or isinstance(value.slope, Tensor):
            return None
        space = likelihood.operator.codomain
        free = value.x0 + signal_times(target, at, paired(at.x, rng))[0]
        simulated = likelihood.operator(free)
        simulated = simulated + likelihood.std * paired(simulated, rng)
        residual = space.flatten((target.y - simulated) / likelihood.std)
        return free + target.space.unflatten(value.slope.combine(residual))


@dataclass(frozen=True)
class Isotropic(Twist):
    """N(y; A D, std^2 + c A A^T) for a linear A, where c is the mean variance of x_0 given x. One vjp."""

    @override
    def last(self, target: Observed) -> int:
        return 2 * KRYLOV + 2

    @override
    def evaluate(self, target: Observed, at: Place, rng: Rng) -> TwistValue:
        likelihood = linear(target, "This twist")
        operator, space = likelihood.operator, likelihood.operator.codomain
        x0, denoiser_vjp = target.prior.vjp_once(at.x, at.sigma)
        residual = target.y - operator(x0)
        solved = innovation(likelihood, residual, at.signal)
        # The log-determinant is the same for all particles and cancels from the weights.
        log_value = -space.flatten(residual * solved).double().sum(-1) / 2
        return TwistValue(x0, log_value, denoiser_vjp(operator.adjoint(solved)))

    @override
    def draw(self, target: Observed, value: TwistValue, at: Place, rng: Rng) -> Tensor | None:
        likelihood = linear(target, "This twist")
        operator, space = likelihood.operator, likelihood.operator.codomain
        noise, covariance = signal_times(target, at, paired(at.x, rng))
        free = value.x0 + noise
        simulated = operator(free)
        residual = target.y - simulated - likelihood.std * paired(simulated, rng)
        # Solved with the mean variance, and what that leaves with the covariance itself.
        solved = innovation(likelihood, residual, at.signal)

        def seen(z: Tensor) -> Tensor:
            return likelihood.std**2 * z + operator(covariance(operator.adjoint(z)))

        left = residual - seen(solved)
        solved = solved + function_times(torch.reciprocal, seen, left, space, iterations=KRYLOV)
        return free + covariance(operator.adjoint(solved))

    @override
    def constant(self, target: Observed, at: Place) -> float | Tensor:
        operator, std = linear(target, "This twist")
        size = operator.codomain.size
        noise = torch.as_tensor(std, dtype=torch.float64, device=target.space.device)
        noise = noise.expand(operator.codomain.shape).flatten()
        if isinstance(operator, SVDOperator) and not (isinstance(std, Tensor) and std.ndim):
            values = operator.singular_values.double()[:size] ** 2
            spread_log = torch.log1p(at.signal * values / noise[0] ** 2).sum()
        elif size <= LARGEST_DENSE:
            matrix = operator.matrix().double() / noise[:, None]
            eye = torch.eye(size, dtype=torch.float64, device=matrix.device)
            spread_log = torch.logdet(eye + at.signal * matrix @ matrix.mT)
        else:
            return math.nan
        return -(spread_log / 2 + noise.log().sum()) - size * LOG_TWO_PI / 2


@dataclass(frozen=True)
class Scalar(Twist):
    """N(y; A(D) + b, std^2 + c) for any A, where b and c are mean and variance of what A(D) misses. One vjp."""

    @override
    def evaluate(self, target: Observed, at: Place, rng: Rng) -> TwistValue:
        likelihood = _gaussian(target)
        x0, denoiser_vjp = target.prior.vjp_once(at.x, at.sigma)
        ax0, operator_vjp = likelihood.operator.vjp(x0)
        total = likelihood.std**2 + at.measured
        residual = target.y - ax0 - at.bias
        flat = likelihood.operator.codomain.flatten(residual**2 / total)
        slope = denoiser_vjp(operator_vjp(residual / total))
        return TwistValue(x0, -flat.double().sum(-1) / 2, slope)


@dataclass(frozen=True)
class MonteCarlo(Twist):
    """The mean of p(y | D + sqrt(c) z) over draws of z, for any log-density (LGD-MC, Song et al., 2023). One vjp.

    Args:
        draws: Number of draws.
    """

    draws: int = 64

    @override
    def evaluate(self, target: Observed, at: Place, rng: Rng) -> TwistValue:
        space = target.space
        x0, denoiser_vjp = target.prior.vjp_once(at.x, at.sigma)
        points = [x0 + math.sqrt(at.signal) * rng.normal_like(x0) for _ in range(self.draws)]
        values = torch.stack([log_prob(target, point) for point in points])
        share = values.softmax(0).to(x0.dtype)
        slope = torch.zeros_like(x0)
        for weight, point in zip(share, points, strict=True):
            part = torch.as_tensor(space.per_sample(weight))
            # A point that is excluded may have no gradient.
            slope += torch.where(part > 0, part * score(target, point), 0)
        log_value = values.logsumexp(0) - math.log(self.draws)
        return TwistValue(x0, log_value, denoiser_vjp(slope))


def signal_times(target: Observed, at: Place, v: Tensor) -> tuple[Tensor, LinearMap]:
    """`Cov(x_0 | x)^(1/2) v` and the map `v -> Cov(x_0 | x) v`, where the covariance is `sigma^2 dD/dx`."""
    jacobian = target.prior.vjp(at.x, at.sigma)[1]
    root = function_times(torch.sqrt, jacobian, v, target.space, iterations=KRYLOV)
    return at.sigma * root, lambda z: at.sigma**2 * jacobian(z)


def _gaussian(target: Observed) -> GaussianLikelihood:
    return expect(target.likelihood, GaussianLikelihood, by="This twist")


def _log_std(std: Tensor, size: int) -> Tensor:
    """Sum of the logs over the entries of y."""
    return std.double().log().sum() * (1 if std.ndim else size)
