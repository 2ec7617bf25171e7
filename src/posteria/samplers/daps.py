"""DAPS: decoupled annealing posterior sampling."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ..core.errors import expect, require
from ..core.rng import Rng
from ..core.space import Space
from ..diffusion.kernel import reverse_step
from ..diffusion.schedule import Karras, LogLinear, Schedule, levels_of
from ..diffusion.solver import State
from ..likelihood import GaussianLikelihood, Likelihood
from ..operators.base import LinearOperator
from ..target import Posterior
from .linear_gaussian import Linear, posterior_draw
from .posterior import PosteriorSampler
from .scale import prior_scale

POWER_ITERATIONS = 4


@dataclass(frozen=True, kw_only=True)
class Langevin:
    """Unadjusted Langevin steps on a Gaussian times a likelihood; no evaluation of the prior.

    Args:
        steps: Number of steps, one gradient of the log-likelihood each.
        lr: Step size.
        adaptive: Steps of `lr` over the largest curvature met so far, from a draw of the Gaussian,
            with the noise of a step averaged with that of the next, which has no discretisation
            error on a Gaussian (Leimkuhler and Matthews, 2012, arXiv:1203.5428). Otherwise,
            as in the papers' code, plain steps of `lr` in squared data units from its mean.
    """

    steps: int = 20
    lr: float = 0.5
    adaptive: bool = True

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"Langevin makes at least 1 step; steps={self.steps}.")
        top = 1.0 if self.adaptive else math.inf
        require(
            0 < self.lr < math.inf and self.lr <= top,
            f"Langevin needs a step size above 0, and at most 1 if it is adaptive; lr={self.lr}.",
        )

    def draw(
        self,
        likelihood: Likelihood,
        y: Tensor,
        mean: Tensor,
        variance: float,
        space: Space,
        rng: Rng,
        decay: float = 1.0,
    ) -> Tensor:
        """Draw from about `N(x; mean, variance I) p(y | x)`, with a step size of `decay * lr`."""
        lr = decay * self.lr

        def score(x: Tensor) -> Tensor:
            return likelihood.score(y, x)

        if not self.adaptive:
            x = mean
            for _ in range(self.steps):
                drift = score(x) + (mean - x) / variance
                x = x + lr * drift + math.sqrt(2 * lr) * rng.normal_like(x)
            return x

        slope = _slope(score, mean, math.sqrt(variance), space, rng)
        noise, step = rng.normal_like(mean), lr / (1 / variance + slope)
        # Only a part of this draw is the noise that the first step shares with it, so that a
        # direction in which nothing is measured has its exact variance after every step.
        x = mean + (variance - step / 2).sqrt() * rng.normal_like(mean)
        x = x + (step / 2).sqrt() * noise
        gradient = score(x)
        for left in range(self.steps - 1, -1, -1):
            step, fresh = lr / (1 / variance + slope), rng.normal_like(x)
            move = step * (gradient + (mean - x) / variance) + (step / 2).sqrt() * (noise + fresh)
            x, noise = x + move, fresh
            if left:
                before, gradient = gradient, score(x)
                met = space.norm(gradient - before) / _positive(space.norm(move))
                slope = torch.maximum(slope, met)
        return x


def _slope(
    score: Callable[[Tensor], Tensor], x: Tensor, scale: float, space: Space, rng: Rng
) -> Tensor:
    """The largest curvature at `x`, by power iteration on differences of the score; one a sample."""
    # A hundredth of the spread in each entry: with less, single precision sees its own rounding.
    here, direction = score(x), rng.normal_like(x)
    h = 1e-2 * scale * math.sqrt(space.size)
    for _ in range(POWER_ITERATIONS):
        unit = direction / _positive(space.norm(direction))
        direction = (score(x + h * unit) - here) / h
    return space.norm(direction)


def _positive(value: Tensor) -> Tensor:
    return value.clamp(min=torch.finfo(value.dtype).tiny)


def draw_near(
    target: Posterior,
    mean: Tensor,
    variance: float,
    rng: Rng,
    *,
    langevin: Langevin,
    exact: bool,
    decay: float = 1.0,
) -> Tensor:
    """Draw from `N(x; mean, variance I) p(y | x)`.

    Args:
        target: Its likelihood and measurement.
        mean: Of the Gaussian, `[n, *event]`.
        variance: Of the Gaussian, above 0.
        rng: One stream a sample.
        langevin: How, where there is no exact way.
        exact: Draw exactly where the measurement is linear with Gaussian noise.
        decay: Factor on the step size.
    """
    likelihood, y = target.likelihood, target.y
    if exact and isinstance(likelihood, GaussianLikelihood):
        operator = likelihood.operator
        if isinstance(operator, LinearOperator):
            return posterior_draw(Linear(operator, likelihood.std), y, mean, variance, rng)
    return langevin.draw(likelihood, y, mean, variance, target.space, rng, decay)


def measured_std(target: Posterior, given: float | None) -> float:
    """The spread of a prior: the one given, or a measured one."""
    return max(prior_scale(target.prior).std, 1e-12) if given is None else given


def spread_given(sigma: float, prior_std: float) -> float:
    """The spread of a signal given its noised value, under a Gaussian prior of independent entries."""
    return sigma * prior_std / math.hypot(sigma, prior_std)


@dataclass(frozen=True, kw_only=True)
class DAPSState(State):
    """Where DAPS stands.

    Args:
        prior_std: Standard deviation of the prior.
    """

    prior_std: float


@dataclass(frozen=True, kw_only=True)
class DAPS(PosteriorSampler[DAPSState]):
    """Decoupled annealing posterior sampling (Zhang et al., 2024, arXiv:2407.01521), algorithm 1.

    At each level: an estimate of the clean signal, a draw of the signal near the estimate and the
    measurement, and noise of the next level on it. A step costs `ode` evaluations and no vjp, and
    gradients of the likelihood where the draw is not exact.

    Args:
        schedule: The noise levels.
        ode: Euler steps of the probability flow ODE for the estimate. 1 is the posterior mean, with
            which a step at a low level is a Langevin step on the posterior; more steps, as in the
            paper, halve the drift of the prior but not the noise, and spread the samples.
        lowest: Where the ODE's last step starts, in data units.
        matched: The draw is as near to the estimate as the signal is to its posterior mean under a
            Gaussian prior of this spread, `s sigma / sqrt(s^2 + sigma^2)`; otherwise `sigma`, as in
            the paper.
        prior_std: The spread s of the prior; by default it is measured.
        exact: Draw exactly where the measurement is linear with Gaussian noise.
        langevin: How to draw otherwise.
        decay: Factor that the step size of `langevin` has at the last level, and 1 at the first.
        tau: Noise level to use in place of the likelihood's; the papers' code has 0.01 whatever the
            noise is, which is not the posterior.
    """

    schedule: Schedule = field(
        default_factory=lambda: LogLinear(steps=900, sigma_min=0.01, sigma_max=80.0)
    )
    ode: int = 1
    lowest: float = 0.01
    matched: bool = True
    prior_std: float | None = None
    exact: bool = True
    langevin: Langevin = field(default_factory=Langevin)
    decay: float = 1.0
    tau: float | None = None
    state_type: ClassVar[type[State]] = DAPSState

    def __post_init__(self) -> None:
        require(self.ode >= 1, f"DAPS makes at least 1 step of the ODE; ode={self.ode}.")
        require(0 < self.lowest < math.inf, f"The lowest level is above 0; lowest={self.lowest}.")
        require(0 < self.decay <= 1, f"decay is above 0 and at most 1; {self.decay} is not.")
        for name in ("prior_std", "tau"):
            value = getattr(self, name)
            require(
                value is None or 0 < value < math.inf, f"DAPS needs {name} above 0; it is {value}."
            )

    @classmethod
    def presets(cls) -> dict[str, "DAPS"]:
        """The settings of the official code (arXiv:2407.01521) for pictures in [-1, 1]: 1000 evaluations.

        `images` is for inpainting, blur and phase retrieval. Each of 200 levels has 100 Langevin
        steps.
        """
        paper = partial(
            cls,
            schedule=Karras(steps=200, sigma_min=0.1, sigma_max=100.0),
            ode=5,
            matched=False,
            prior_std=1.0,
            exact=False,
            decay=0.01,
            tau=0.01,
        )
        lrs = {"images": 5e-5, "super_resolution": 1e-4, "high_dynamic_range": 2e-5}
        return {
            name: paper(langevin=Langevin(steps=100, lr=lr, adaptive=False))
            for name, lr in lrs.items()
        }

    def check_likelihood(self, posterior: Posterior) -> None:
        """See `PosteriorSampler`."""
        if self.tau is not None:
            expect(posterior.likelihood, GaussianLikelihood, by=self)

    def init(self, target: Posterior, rng: Rng) -> DAPSState:
        """See `Sampler`."""
        x = levels_of(self.schedule)[0] * rng.normal(target.space)
        return DAPSState(x=x, x0=x, prior_std=measured_std(target, self.prior_std))

    def step(
        self, target: Posterior, state: DAPSState, sigma: float, sigma_next: float, rng: Rng
    ) -> DAPSState:
        """See `Sampler`."""
        x0 = self._estimate(target, state.x, sigma, rng)
        radius = spread_given(sigma, state.prior_std) if self.matched else sigma
        behind = state.count / max(self.schedule.steps - 1, 1)
        x = draw_near(
            self._given(target),
            x0,
            radius**2,
            rng,
            langevin=self.langevin,
            exact=self.exact,
            decay=1 - behind * (1 - self.decay),
        )
        if sigma_next > 0:
            x = x + sigma_next * rng.normal_like(x)
        return dataclasses.replace(state, x=x, x0=x0, sigma=sigma, count=state.count + 1)

    def _estimate(self, target: Posterior, x: Tensor, sigma: float, rng: Rng) -> Tensor:
        """The end of the probability flow ODE from `x`."""
        levels = Karras(
            steps=self.ode, sigma_min=min(self.lowest, sigma / 2), sigma_max=sigma
        ).levels()
        for level, level_next in pairwise(levels):
            x = reverse_step(x, target.prior(x, level), level, level_next, 0.0, rng)
        return x

    def _given(self, target: Posterior) -> Posterior:
        """The target with the noise level `tau`."""
        if self.tau is None:
            return target
        likelihood = expect(target.likelihood, GaussianLikelihood, by=self)
        return dataclasses.replace(
            target, likelihood=dataclasses.replace(likelihood, std=self.tau)
        )
