"""The exact sampler: sequential Monte Carlo over noise levels with a moment-matched twist."""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import require
from ...core.rng import Rng
from ...core.state import State
from ...diffusion.kernel import bridge
from ...diffusion.scale import LEAST, prior_draws
from ...diffusion.schedule import Karras, RangeSchedule, Schedule, levels_of
from ...likelihood import GaussianLikelihood
from ...operators.base import LinearOperator
from ...target import Observed, Posterior
from .population import (
    ParticleState,
    PopulationSampler,
    equal,
    explained,
    finish,
    log_prob,
    paired,
    select,
    take,
)
from .resolution import measure, nonlinear
from .twist import (
    Dense,
    Isotropic,
    MonteCarlo,
    Place,
    Scalar,
    Twist,
    TwistValue,
    propose,
    signal_times,
)

# Draws of the prior from which its mean variances are measured.
DRAWS = 32
# Longest step, in the log of the level, over which estimates of x_0 are extrapolated.
SHORT = 0.4
# The lowest level is this far below the prior's standard deviation.
BELOW = 25
# Most of the prior's variance that may be left at the last level, from which x_0 is drawn.
MOST_LEFT = 0.5
# A threshold below which every effective size is.
ALWAYS = 2.0


@dataclass(frozen=True, kw_only=True)
class ExactState(ParticleState):
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
class Exact(PopulationSampler[ExactState]):
    """Sequential Monte Carlo over noise levels that tends to the exact posterior as particles and levels grow.

    A population goes down the levels by the prior's reverse kernel, pushed along the gradient of a
    twist that approximates p(y | x), and is importance-weighted. The twist is the moment-matched
    N(y; A(D), std^2 + A Cov(x_0 | x) A^T) by one vjp a measurement (up to `dense` of them), with the
    prior's mean variance beyond that, or a mean over draws where there is only a log-density. The
    last move draws x_0 given x and y. With m measurements a level costs a particle 1 evaluation and
    m vjps, or one beyond `dense`; the mean of the final weights is an unbiased estimate of the
    evidence of the discretised prior. When it fails is in docs/samplers.md.

    Averages over particles converge to the posterior of the discretised prior (Del Moral, 2004,
    theorem 7.4.3; Chopin, 2004, arXiv:math/0508594). Twisted targets: Wu et al. (2023,
    arXiv:2306.17775); matched moments: Rozet et al. (2024, arXiv:2405.13712); short steps are
    extrapolated as by Lu et al. (2022, arXiv:2211.01095), long ones have the variance of Bao et al.
    (2022, arXiv:2201.06503).

    Args:
        schedule: The noise levels. The highest one must be far above the prior: ten times the largest
            standard deviation in any direction, not of an entry.
        particles: Size of a population.
        threshold: A population is resampled when its effective size is below this share.
        dense: Up to so many measurements, Cov(x_0 | x) is taken by vjps.
        pinned: With such a twist and a linear operator, x_0 is drawn from the highest level at
            which its variance given x is this share of sigma^2 or more in every direction; the levels of a
            Karras or log-linear schedule then end there. 1 for the schedule's own.

    Raises:
        InputError: In the first step, if the last level is above the scale of the prior; in the last one, if the prior
            excludes the measurement.
    """

    schedule: Schedule = field(
        default_factory=lambda: Karras(steps=200, sigma_min=0.01, sigma_max=1000.0)
    )
    dense: int = 16
    pinned: float = 0.9
    state_type: ClassVar[type[State]] = ExactState
    needs: ClassVar[str] = "any log-density; best with few measurements and Gaussian noise"
    limits: ClassVar = {"dense": "[0, inf)", "pinned": "(0, 1]"}

    def twist(self, target: Observed) -> Twist:
        """The twist that suits a target."""
        likelihood = target.likelihood
        if not isinstance(likelihood, GaussianLikelihood):
            return MonteCarlo()
        if likelihood.operator.codomain.size <= self.dense:
            return Dense()
        return Isotropic() if isinstance(likelihood.operator, LinearOperator) else Scalar()

    @override
    def evaluations(self, target: Posterior) -> int:
        twist, steps = self.twist(target), self.schedule.steps
        return self.particles * (steps * (1 + twist.vjps(target)) + 1 + twist.last(target))

    def _schedule(self, prior_std: float) -> Schedule:
        """The schedule; one between two levels goes down to the scale of the prior."""
        if not isinstance(self.schedule, RangeSchedule):
            return self.schedule
        lowest = min(self.schedule.sigma_min, prior_std / BELOW)
        return replace(self.schedule, sigma_min=lowest)

    @override
    def init(self, target: Observed, rng: Rng) -> ExactState:
        draws = prior_draws(target.prior, DRAWS)
        mean, variance = draws.mean(0), max(float(draws.var(0).mean()), LEAST**2)
        schedule = self._schedule(math.sqrt(variance))
        levels = levels_of(schedule)
        # Whether x_0 is drawn with its whole covariance, so that levels end where x pins it, which Jacobians tell.
        whole = isinstance(self.twist(target), Dense) and nonlinear(target) is None
        curved = isinstance(self.schedule, RangeSchedule) and self.pinned < 1 and whole
        resolution = measure(target, draws, levels[:-1], curved)
        left = float(resolution.variance[0, -1]) / variance
        require(
            left <= MOST_LEFT,
            f"{type(self).__name__} ends at sigma={levels[-2]:.4g}, where x says too little of x_0: {left:.0%} of "
            "the prior's variance is left. Give its schedule more steps or a lower sigma_min.",
        )
        pinned = resolution.pinned(self.pinned) if curved else None
        if pinned is not None and isinstance(schedule, RangeSchedule):
            levels = levels_of(replace(schedule, sigma_min=pinned))
        # The noised prior at the highest level, up to its small departure from a round Gaussian.
        x = mean + math.hypot(levels[0], math.sqrt(variance)) * rng.normal(
            target.space, self.particles
        )
        moments, bias = resolution.at(levels[:-1])
        return ExactState(
            **equal(x),
            levels=torch.tensor(levels, dtype=torch.float64),
            # On the CPU as the levels are: each step reads its own.
            variance=moments.cpu(),
            bias=bias,
        )

    @override
    def step(
        self, target: Observed, state: ExactState, sigma: float, sigma_next: float, rng: Rng
    ) -> ExactState:
        twist, level = self.twist(target), state.count
        sigma, sigma_next = state.levels[level : level + 2].tolist()
        signal, measured = (float(row[level]) for row in state.variance)
        at = Place(state.x, sigma, sigma_next, signal, measured, state.bias[level])
        value, before = twist.evaluate(target, at, rng), state.x0
        state = replace(state, x0=value.x0, log_weight=state.log_weight + value.log_value)
        alive, unknown = state.log_weight > -math.inf, state.log_weight.isnan()
        # A measurement far outside of the prior drives particles beyond all numbers; a log-density may itself be nan.
        beyond = ~alive & (~unknown | isinstance(target.likelihood, GaussianLikelihood))
        explained(torch.where(beyond, math.inf, 0.0), 1, self)
        require(
            not bool(unknown.any()),
            f"The weight of a particle of {type(self).__name__} is nan, as where a log-density is. Look at the "
            "likelihood, which may be -inf where it excludes a signal, and at the units of y.",
        )
        # What is excluded has no slope to follow, and is replaced at once.
        threshold = torch.full_like(state.log_evidence, self.threshold if sigma_next else ALWAYS)
        threshold = torch.where(alive.all(-1), threshold, ALWAYS)
        state, ancestors = select(state, rng, threshold)
        value, at = value.of(ancestors), at._replace(x=state.x)
        last = None if sigma_next else twist.draw(target, value, at, rng)
        if last is not None:
            # The twist is then the mean of p(y | x_0) over what is drawn: no weight is left.
            known = state.log_evidence + twist.constant(target, at)
            state = replace(state, x=last, x0=last, log_evidence=known)
        elif sigma_next:
            drift = value.x0 - take(before, ancestors)
            state = _moved(target, state, value, drift, at, rng)
        else:
            state = _ended(target, state, value, at, rng)
        state = replace(state, sigma=sigma, count=level + 1)
        if sigma_next:
            return state
        if isinstance(target.likelihood, GaussianLikelihood):
            off = target.likelihood.misfit(target.y, state.x)
            explained(off.square().mean(-1).sqrt(), off.shape[-1], self)
        return finish(state, rng)


def _moved(
    target: Observed, state: ExactState, value: TwistValue, drift: Tensor, at: Place, rng: Rng
) -> ExactState:
    """The reverse kernel, pushed along the slope of the twist and importance-weighted by target over proposal density.

    Short steps extrapolate the estimate of x_0 to their middle by its `drift` since the last level, which keeps
    the variance of every direction to second order (the SDE form of DPM-Solver++(2M)). Over a long one that
    would go too far: the mean variance of x_0 given x is added instead.
    """
    weight, std = bridge(0.0, at.sigma_next, at.sigma)
    step, x0, root = math.log(at.sigma / at.sigma_next), value.x0, std
    if step > SHORT:
        root = math.sqrt(std**2 + (1 - weight) ** 2 * at.signal)
    elif at.sigma < state.sigma < math.inf:
        x0 = x0 + step / math.log(state.sigma / at.sigma) / 2 * drift
    move, log_ratio = propose(value, target.space, root, at.sigma, paired(x0, rng))
    x = x0 + weight * (at.x - x0) + root * move
    return replace(state, x=x, log_weight=state.log_weight - value.log_value - log_ratio)


def _ended(
    target: Observed, state: ExactState, value: TwistValue, at: Place, rng: Rng
) -> ExactState:
    """x_0 given x, pushed along the slope of the twist, and weighted by its likelihood."""
    noise = paired(value.x0, rng)
    move, log_ratio = propose(value, target.space, math.sqrt(at.signal), at.sigma, noise)
    x = value.x0 + signal_times(target, at, move)[0]
    log_weight = state.log_weight - value.log_value - log_ratio + log_prob(target, x)
    return replace(state, x=x, x0=x, log_weight=log_weight)
