"""The exact sampler: sequential Monte Carlo over noise levels with a moment-matched twist."""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.errors import require
from ...core.rng import Rng
from ...diffusion.kernel import bridge
from ...diffusion.scale import STREAM, prior_draws
from ...diffusion.schedule import Karras, RangeSchedule, Schedule, levels_of
from ...diffusion.solver import State
from ...likelihood import GaussianLikelihood
from ...operators.base import LinearOperator
from ...target import Posterior
from .population import ParticleState, PopulationSampler, finish, paired, select
from .twist import Dense, Isotropic, Look, MonteCarlo, Scalar, Spread, Twist, propose

# Draws of the prior from which its mean variances are measured, and levels at which they are.
DRAWS, LOOKS = 32, 16
# A threshold below which every effective size is.
ALWAYS = 2.0


@dataclass(frozen=True, kw_only=True)
class TwistedState(ParticleState):
    """Particles, and what was measured of the prior before the first step.

    Args:
        levels: Those that are visited, `[steps + 1]`; the last is 0.
        variance: Of an entry of x_0 given x, and of A(x_0) - A(D), at each level, `[2, steps]`.
        bias: Mean of A(x_0) - A(D), `[steps, *measurement]`.
    """

    levels: Tensor
    variance: Tensor
    bias: Tensor


@dataclass(frozen=True, kw_only=True)
class TwistedSMC(PopulationSampler[TwistedState]):
    """Sequential Monte Carlo over noise levels that tends to the exact posterior as particles and levels grow.

    A population goes down the levels with the reverse kernel of the prior, pushed along the
    gradient of a twist that approximates p(y | x), and is weighted by what the push and the
    twist owe to the exact law. The twist is the moment-matched N(y; A(D), std^2 + A Cov(x_0 | x)
    A^T) by one vjp a measurement (up to `dense` measurements), with the prior's mean variance
    beyond that, or a mean over draws where there is only a log-density. The last move draws x_0
    given x and y. With m measurements a level costs a particle 1 evaluation and m vjps, or one
    beyond `dense`; the mean of the final weights is an unbiased estimate of the evidence
    of the discretised prior.

    Particles lie along a curve, and neighbours move with opposite noise, so that the shares of modes
    scatter less than those of independent draws would.

    Why it is right: the weights are those of a Feynman-Kac flow that ends in the discretised
    prior times p(y | x_0), so that averages over particles converge to it at the rate of the root
    of their number (Del Moral, 2004, theorem 7.4.3; Chopin, 2004, arXiv:math/0508594), and the
    discretised prior converges to the prior as the steps shrink. Twisted targets for diffusions
    are due to Wu et al. (2023, arXiv:2306.17775), matched moments to Rozet et al. (2024,
    arXiv:2405.13712), and the variance of the reverse kernel to Bao et al. (2022,
    arXiv:2201.06503).

    Fails where particles cannot follow: with many precise measurements of a large signal the
    weights degenerate, and a population is then a family of few ancestors.

    Args:
        schedule: The noise levels. The highest one must dwarf the prior: ten times the largest
            standard deviation in any direction, not of an entry.
        particles: Size of a population.
        threshold: A population is resampled when its effective size is below this share.
        dense: Up to so many measurements, Cov(x_0 | x) is taken by vjps.
        pinned: With such a twist and a linear operator, x_0 is drawn from the highest level at
            which the prior's mean variance is this share of sigma^2, where the prior looks Gaussian
            to x; the levels of a Karras or log-linear schedule then end there. 1 for the
            schedule's own.
    """

    schedule: Schedule = field(
        default_factory=lambda: Karras(steps=200, sigma_min=0.01, sigma_max=1000.0)
    )
    dense: int = 16
    pinned: float = 0.9
    state_type: ClassVar[type[State]] = TwistedState
    needs: ClassVar[str] = "any log-density; best with few measurements and Gaussian noise"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.dense >= 0, f"dense is at least 0; {self.dense} is not.")
        require(0 < self.pinned <= 1, f"pinned is above 0 and at most 1; {self.pinned} is not.")

    def twist(self, target: Posterior) -> Twist:
        """The twist that suits a target."""
        likelihood = target.likelihood
        if not isinstance(likelihood, GaussianLikelihood):
            return MonteCarlo()
        if likelihood.operator.codomain.size <= self.dense:
            return Dense()
        return Isotropic() if isinstance(likelihood.operator, LinearOperator) else Scalar()

    def init(self, target: Posterior, rng: Rng) -> TwistedState:
        """See `Sampler`."""
        draws = prior_draws(target.prior, DRAWS)
        mean, variance = draws.mean(0), float(draws.var(0).mean())
        sigma = levels_of(self.schedule)[0]
        # The noised prior at the highest level, up to its small departure from a round Gaussian.
        x = mean + math.sqrt(sigma**2 + variance) * rng.normal(target.space, self.particles)
        zeros = torch.zeros(len(rng), self.particles, dtype=torch.float64, device=x.device)
        looks = self._looks(target, draws)
        levels = self._levels(target, looks)
        moments, bias = _between(looks, levels[:-1])
        return TwistedState(
            x=x,
            x0=x,
            log_weight=zeros,
            log_evidence=zeros[:, 0],
            levels=torch.tensor(levels, dtype=torch.float64),
            variance=moments,
            bias=bias,
        )

    def _looks(self, target: Posterior, draws: Tensor) -> "Looks":
        """What D misses of draws of the prior, and A(D) of their measurements, at a few levels."""
        levels = levels_of(self.schedule)[:-1]
        sigmas = np.geomspace(levels[0], levels[-1], min(LOOKS, len(levels)))
        rng = Rng(range(DRAWS), target.space.device, stream=STREAM)
        likelihood = target.likelihood
        operator = likelihood.operator if isinstance(likelihood, GaussianLikelihood) else None
        signal, measured, bias, resolved = [], [], [], []
        for sigma in sigmas.tolist():
            noise = sigma * rng.normal_like(draws)
            denoised = target.prior((draws + noise)[None], sigma)[0]
            error = (draws - denoised).square().mean()
            signal.append(float(error))
            # Over the noise that was drawn and not over its variance: where D leaves x alone this
            # is 1 whatever was drawn.
            resolved.append(float(error / noise.square().mean()))
            if operator is None or isinstance(operator, LinearOperator):
                gap = torch.zeros_like(draws).flatten(1)[:, :1]
            else:
                gap = operator(draws) - operator(denoised)
            bias.append(gap.mean(0))
            measured.append(float(gap.var(0).mean()))
        variance = np.array([signal, measured])
        return Looks(np.log(sigmas), variance, torch.stack(bias), np.array(resolved))

    def _levels(self, target: Posterior, looks: "Looks") -> tuple[float, ...]:
        """The schedule's levels, or as many that end where x_0 is pinned."""
        levels, schedule = levels_of(self.schedule), self.schedule
        likelihood = target.likelihood
        linear = isinstance(likelihood, GaussianLikelihood) and isinstance(
            likelihood.operator, LinearOperator
        )
        if not isinstance(schedule, RangeSchedule) or not linear or self.pinned == 1:
            return levels
        if not isinstance(self.twist(target), Dense):
            return levels
        # From the lowest level upwards, as long as the prior is resolved.
        resolved = np.logical_and.accumulate((looks.resolved >= self.pinned)[::-1])
        if not resolved.any():
            return levels
        lowest = float(np.exp(looks.log_sigma[::-1][resolved][-1]))
        return tuple(replace(schedule, sigma_min=lowest).levels())

    def step(
        self, target: Posterior, state: TwistedState, sigma: float, sigma_next: float, rng: Rng
    ) -> TwistedState:
        """See `Sampler`."""
        twist, level = self.twist(target), state.count
        sigma, sigma_next = state.levels[level : level + 2].tolist()
        signal, measured = (float(row[level]) for row in state.variance)
        spread = Spread(signal, measured, state.bias[level])
        look = twist.look(target, state.x, sigma, spread, rng)
        state = replace(state, x0=look.x0, log_weight=state.log_weight + look.log_value)
        state, ancestors = select(state, rng, self.threshold if sigma_next else ALWAYS)
        look = look.of(ancestors)
        last = None if sigma_next else twist.draw(target, look, state.x, sigma, spread, rng)
        if last is None:
            state = self._move(target, state, look, (sigma, sigma_next, signal), rng)
        else:
            # The twist is then the mean of p(y | x_0) over what is drawn: nothing is owed.
            known = state.log_evidence + twist.constant(target, spread)
            state = replace(state, x=last, x0=last, log_evidence=known)
        state = replace(state, sigma=sigma, count=level + 1)
        return state if sigma_next else finish(state, rng)

    def _move(
        self,
        target: Posterior,
        state: TwistedState,
        look: Look,
        levels: tuple[float, float, float],
        rng: Rng,
    ) -> TwistedState:
        """The reverse kernel, pushed along the slope of the twist; the weights owe for the push."""
        sigma, sigma_next, signal = levels
        weight, std = bridge(0.0, sigma_next, sigma)
        # With the variance that x_0 adds in the mean over the prior; without it the law of x
        # narrows by a few per cent in 200 steps.
        root = math.sqrt(std**2 + (1 - weight) ** 2 * signal)
        noise = paired(look.slope, rng)
        move, debt = propose(look, target.space, root, sigma, noise)
        x = look.x0 + weight * (state.x - look.x0) + root * move
        log_weight = state.log_weight - look.log_value - debt
        if sigma_next == 0:
            log_weight = log_weight + target.likelihood.log_prob(target.y, x).double()
        return replace(state, x=x, x0=look.x0 if sigma_next else x, log_weight=log_weight)


class Looks(NamedTuple):
    """What was measured of a prior at a few levels.

    Attributes:
        log_sigma: The levels, downwards.
        variance: Of an entry of x_0 given x, and of A(x_0) - A(D), `[2, looks]`.
        bias: Mean of A(x_0) - A(D), `[looks, *measurement]`.
        resolved: Variance of an entry of x_0 given x over sigma^2, 1 where x pins x_0.
    """

    log_sigma: np.ndarray
    variance: np.ndarray
    bias: Tensor
    resolved: np.ndarray


def _between(looks: Looks, levels: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Variances and biases at other levels: straight lines in the logs of level and variance."""
    device, count = looks.bias.device, len(looks.log_sigma)
    place = np.interp(-np.log(levels), -looks.log_sigma, np.arange(count))
    # Never 0, so that logs exist.
    logs = np.log(np.maximum(looks.variance, 1e-30))
    variance = np.exp([np.interp(place, np.arange(count), row) for row in logs])
    low = torch.tensor(place, device=device).floor().long()
    high = (low + 1).clamp(max=count - 1)
    share = (torch.tensor(place, device=device) - low).to(looks.bias)
    share = share.reshape(-1, *(1,) * (looks.bias.ndim - 1))
    return torch.tensor(variance, device=device), looks.bias[low].lerp(looks.bias[high], share)
