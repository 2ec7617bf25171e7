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
from ...linear_gaussian import innovation, linear
from ...operators.base import LinearOperator, SVDOperator
from ...target import Observed
from .population import log_prob, paired, score, take

LOG_TWO_PI = math.log(2 * math.pi)
# Products with a Jacobian that a root or an inverse of a covariance takes.
KRYLOV = 8
# Most measurements for which the determinant of a dense matrix is computed.
LARGEST_DENSE = 2048


@dataclass(frozen=True)
class Gain:
    """The dense form of a moment-matched twist, from which x_0 can be drawn given y.

    Args:
        columns: `C A^T / std`, `[measurements, *batch, *event]`, where C = Cov(x_0 | x).
        values: Eigenvalues of the covariance of `(y - noise) / std`, `[*batch, measurements]`.
        vectors: Its eigenvectors.
    """

    columns: Tensor
    values: Tensor
    vectors: Tensor

    def solve(self, residual: Tensor) -> Tensor:
        """The inverse covariance of `y / std` times a residual, `[*batch, measurements]`."""
        rotated = (self.vectors.mT @ residual[..., None])[..., 0] / (1 + self.values)
        return (self.vectors @ rotated[..., None])[..., 0]

    def combine(self, coefficients: Tensor) -> Tensor:
        """`C A^T / std` times coefficients, `[*batch, *event]`."""
        axes = (1,) * (self.columns.ndim - coefficients.ndim)
        rows = coefficients.movedim(-1, 0)
        return (self.columns * rows.reshape(*rows.shape, *axes)).sum(0)


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
    move = space.flatten(root * value.slope)
    log_det: Tensor | float = 0.0
    if value.gain is not None:
        gain = value.gain
        columns = space.flatten(gain.columns).movedim(0, -2)
        rows = (gain.vectors.mT @ columns) * (root / sigma**2)
        rows = rows / (1 + gain.values).sqrt()[..., None]
        values, vectors = torch.linalg.eigh(rows @ rows.mT)
        rows, total = vectors.mT @ rows, 1 + values.clamp(min=0)
        narrow = total.sqrt()
        move = move - _along(rows, move, 1 / total)
        free = free - _along(rows, free, 1 / (narrow * (narrow + 1)))
        log_det = total.double().log().sum(-1)
    move = move + free
    energy = (move.double() ** 2).sum(-1) - (space.flatten(noise).double() ** 2).sum(-1)
    return space.unflatten(move), (energy + log_det) / 2


def _along(rows: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """`rows^T diag(factor) rows x` for rows `[*batch, m, d]`."""
    inner = (rows @ x[..., None])[..., 0] * factor
    return (rows.mT @ inner[..., None])[..., 0]


class Spread(NamedTuple):
    """What is left to learn of x_0 at a level, in the mean over the prior.

    Attributes:
        signal: Variance of an entry of x_0 given x.
        measured: Variance of an entry of `A(x_0) - A(D)`, for a nonlinear A.
        bias: Its mean, `[*measurement]`.
    """

    signal: float
    measured: float
    bias: Tensor


class TwistValue(NamedTuple):
    """What a twist sees at x.

    Attributes:
        x0: E[x_0 | x].
        log_value: Log of the twist, `[*batch]` in float64.
        slope: Its gradient in x, `[*batch, *event]`.
        gain: Of a dense twist.
    """

    x0: Tensor
    log_value: Tensor
    slope: Tensor
    gain: Gain | None = None

    def of(self, ancestors: Tensor) -> "TwistValue":
        """That of selected particles."""
        gain = self.gain
        if gain is not None:
            columns = torch.stack([take(column, ancestors) for column in gain.columns])
            gain = Gain(columns, take(gain.values, ancestors), take(gain.vectors, ancestors))
        x0, slope = take(self.x0, ancestors), take(self.slope, ancestors)
        return TwistValue(x0, take(self.log_value, ancestors), slope, gain)


@dataclass(frozen=True)
class Twist(abc.ABC):
    """An approximation of p(y | x) where `x = x_0 + sigma * noise`."""

    @abc.abstractmethod
    def evaluate(
        self, target: Observed, x: Tensor, sigma: float, spread: Spread, rng: Rng
    ) -> TwistValue:
        """Evaluate the twist.

        Args:
            target: The posterior.
            x: `[populations, particles, *event]`.
            sigma: Their noise level.
            spread: What is left to learn at this level.
            rng: One stream a population.
        """

    def draw(
        self,
        target: Observed,
        value: TwistValue,
        x: Tensor,
        sigma: float,
        spread: Spread,
        rng: Rng,
    ) -> Tensor | None:
        """x_0 given x and y as the twist believes, or None if it cannot be drawn; arguments as in `evaluate`."""
        return None

    def vjps(self, target: Observed) -> int:
        """Products with the Jacobian of the prior that `evaluate` takes for a particle."""
        return 1

    def last(self, target: Observed) -> int:
        """Those that a draw of x_0 takes."""
        return KRYLOV

    def constant(self, target: Observed, spread: Spread) -> float | Tensor:
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
    def evaluate(
        self, target: Observed, x: Tensor, sigma: float, spread: Spread, rng: Rng
    ) -> TwistValue:
        likelihood = _gaussian(target)
        operator, space = likelihood.operator, likelihood.operator.codomain
        x0, denoiser_vjp = target.prior.vjp(x, sigma)
        ax0, operator_vjp = operator.vjp(x0)
        std = torch.as_tensor(likelihood.std, dtype=x.dtype, device=x.device)
        units = space.unflatten(torch.eye(space.size, dtype=x.dtype, device=x.device)) / std
        columns = torch.stack([
            sigma**2 * denoiser_vjp(operator_vjp(unit.expand_as(ax0))) for unit in units
        ])
        seen = torch.stack([space.flatten(operator.jvp(x0, c) / std) for c in columns], -1)
        # A network's Jacobian is neither symmetric nor positive; a covariance is.
        values, vectors = torch.linalg.eigh((seen + seen.mT) / 2)
        values = values.clamp(min=0)
        if not isinstance(operator, LinearOperator):
            ax0 = ax0 + spread.bias
            known = (seen.diagonal(dim1=-2, dim2=-1) * space.flatten(std**2 + ax0 * 0)).mean(-1)
            missed = (spread.measured - known).clamp(min=0)[..., None]
            values = values + missed / (std**2).mean()
        gain = Gain(columns, values, vectors)
        residual = space.flatten((target.y - ax0) / std)
        rotated = (vectors.mT @ residual[..., None])[..., 0]
        total = 1 + gain.values
        log_det = total.double().log().sum(-1) + 2 * _log_std(std, space.size)
        log_value = _log_normal(rotated / total.sqrt(), log_det)
        return TwistValue(x0, log_value, gain.combine(gain.solve(residual)) / sigma**2, gain)

    @override
    def draw(
        self,
        target: Observed,
        value: TwistValue,
        x: Tensor,
        sigma: float,
        spread: Spread,
        rng: Rng,
    ) -> Tensor | None:
        likelihood = _gaussian(target)
        if not isinstance(likelihood.operator, LinearOperator) or value.gain is None:
            return None
        space = likelihood.operator.codomain
        free = value.x0 + signal_times(target, x, sigma, paired(x, rng))[0]
        simulated = likelihood.operator(free)
        simulated = simulated + likelihood.std * paired(simulated, rng)
        residual = space.flatten((target.y - simulated) / likelihood.std)
        return free + value.gain.combine(value.gain.solve(residual))


@dataclass(frozen=True)
class Isotropic(Twist):
    """N(y; A D, std^2 + c A A^T) for a linear A, where c is the mean variance of x_0 given x. One vjp."""

    @override
    def last(self, target: Observed) -> int:
        return 2 * KRYLOV + 2

    @override
    def evaluate(
        self, target: Observed, x: Tensor, sigma: float, spread: Spread, rng: Rng
    ) -> TwistValue:
        likelihood = linear(target, "This twist")
        operator, space = likelihood.operator, likelihood.operator.codomain
        x0, denoiser_vjp = target.prior.vjp_once(x, sigma)
        residual = target.y - operator(x0)
        solved = innovation(likelihood, residual, spread.signal)
        # The log-determinant is the same for all particles and cancels from the weights.
        log_value = -space.flatten(residual * solved).double().sum(-1) / 2
        return TwistValue(x0, log_value, denoiser_vjp(operator.adjoint(solved)))

    @override
    def draw(
        self,
        target: Observed,
        value: TwistValue,
        x: Tensor,
        sigma: float,
        spread: Spread,
        rng: Rng,
    ) -> Tensor | None:
        likelihood = linear(target, "This twist")
        operator, space = likelihood.operator, likelihood.operator.codomain
        noise, covariance = signal_times(target, x, sigma, paired(x, rng))
        free = value.x0 + noise
        simulated = operator(free)
        residual = target.y - simulated - likelihood.std * paired(simulated, rng)
        # Solved with the mean variance, and what that leaves with the covariance itself.
        solved = innovation(likelihood, residual, spread.signal)

        def seen(z: Tensor) -> Tensor:
            return likelihood.std**2 * z + operator(covariance(operator.adjoint(z)))

        left = residual - seen(solved)
        solved = solved + function_times(torch.reciprocal, seen, left, space, iterations=KRYLOV)
        return free + covariance(operator.adjoint(solved))

    @override
    def constant(self, target: Observed, spread: Spread) -> float | Tensor:
        operator, std = linear(target, "This twist")
        size = operator.codomain.size
        noise = torch.as_tensor(std, dtype=torch.float64, device=target.space.device)
        noise = noise.expand(operator.codomain.shape).flatten()
        if isinstance(operator, SVDOperator) and not (isinstance(std, Tensor) and std.ndim):
            values = operator.singular_values.double()[:size] ** 2
            spread_log = torch.log1p(spread.signal * values / noise[0] ** 2).sum()
        elif size <= LARGEST_DENSE:
            matrix = operator.matrix().double() / noise[:, None]
            eye = torch.eye(size, dtype=torch.float64, device=matrix.device)
            spread_log = torch.logdet(eye + spread.signal * matrix @ matrix.mT)
        else:
            return math.nan
        return -(spread_log / 2 + noise.log().sum()) - size * LOG_TWO_PI / 2


@dataclass(frozen=True)
class Scalar(Twist):
    """N(y; A(D) + b, std^2 + c) for any A, where b and c are mean and variance of what A(D) misses. One vjp."""

    @override
    def evaluate(
        self, target: Observed, x: Tensor, sigma: float, spread: Spread, rng: Rng
    ) -> TwistValue:
        likelihood = _gaussian(target)
        x0, denoiser_vjp = target.prior.vjp_once(x, sigma)
        ax0, operator_vjp = likelihood.operator.vjp(x0)
        total = likelihood.std**2 + spread.measured
        residual = target.y - ax0 - spread.bias
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
    def evaluate(
        self, target: Observed, x: Tensor, sigma: float, spread: Spread, rng: Rng
    ) -> TwistValue:
        space = target.space
        x0, denoiser_vjp = target.prior.vjp_once(x, sigma)
        points = [x0 + math.sqrt(spread.signal) * rng.normal_like(x0) for _ in range(self.draws)]
        values = torch.stack([log_prob(target, point) for point in points])
        share = values.softmax(0).to(x.dtype)
        slope = torch.zeros_like(x)
        for weight, point in zip(share, points, strict=True):
            slope += space.per_sample(weight) * score(target, point)
        log_value = values.logsumexp(0) - math.log(self.draws)
        return TwistValue(x0, log_value, denoiser_vjp(slope))


def signal_times(target: Observed, x: Tensor, sigma: float, v: Tensor) -> tuple[Tensor, LinearMap]:
    """`Cov(x_0 | x)^(1/2) v` and the map `v -> Cov(x_0 | x) v`, where the covariance is `sigma^2 dD/dx`."""
    jacobian = target.prior.vjp(x, sigma)[1]
    root = function_times(torch.sqrt, jacobian, v, target.space, iterations=KRYLOV)
    return sigma * root, lambda z: sigma**2 * jacobian(z)


def _gaussian(target: Observed) -> GaussianLikelihood:
    return expect(target.likelihood, GaussianLikelihood, by="This twist")


def _log_std(std: Tensor, size: int) -> Tensor:
    """Sum of the logs over the entries of y."""
    return std.double().log().sum() * (1 if std.ndim else size)
