"""FK steering: particles that are resampled by what is expected of their reward."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import CapabilityError, expect, require
from ...core.rng import Rng
from ...core.settings import Settings
from ...core.state import State
from ...diffusion.denoiser import Denoiser
from ...diffusion.kernel import bridge
from ...diffusion.schedule import LogLinear, Schedule, Table
from ...likelihood import FunctionLikelihood
from ...target import Observed, Posterior
from .population import (
    ParticleState,
    PopulationSampler,
    equal,
    finish,
    log_prob,
    paired,
    select,
    take,
)

# An intermediate reward below this counts as this, so that a particle whose estimate is impossible
# (log f = -inf) may still be redeemed; potentials may be anything finite.
LEAST = -1e6


@dataclass(frozen=True)
class Potential(metaclass=Settings):
    """What a look at the reward adds to the weight of a particle.

    Attributes:
        start: What is kept of no looks.
    """

    start: ClassVar[float] = 0.0

    @abc.abstractmethod
    def keep(self, kept: Tensor, reward: Tensor) -> Tensor:
        """What is kept of the looks so far, and of one at `reward`."""

    @abc.abstractmethod
    def spend(self, spent: Tensor, kept: Tensor, looks: int) -> Tensor:
        """Log of the product of all potentials so far, where `kept` includes the last of `looks` that a run takes."""


@dataclass(frozen=True)
class Difference(Potential):
    """The reward minus that of the last look: their product is the exponential of the present reward."""

    @override
    def keep(self, kept: Tensor, reward: Tensor) -> Tensor:
        return reward

    @override
    def spend(self, spent: Tensor, kept: Tensor, looks: int) -> Tensor:
        return kept


@dataclass(frozen=True)
class Max(Potential):
    """The largest reward so far, which forgives a particle a bad moment.

    Args:
        scale: Its factor; None is one over the number of looks, with which the product of all potentials is of
            the order of the exponential of a reward. The paper has 1.
    """

    scale: float | None = None
    start: ClassVar[float] = -math.inf
    limits: ClassVar = {"scale": "(0, inf)"}

    @override
    def keep(self, kept: Tensor, reward: Tensor) -> Tensor:
        return kept.maximum(reward)

    @override
    def spend(self, spent: Tensor, kept: Tensor, looks: int) -> Tensor:
        return spent + kept * (1 / looks if self.scale is None else self.scale)


@dataclass(frozen=True)
class Sum(Potential):
    """The sum of the rewards so far, which rewards a particle for its past.

    Args:
        scale: Its factor; None is twice over the square of the number of looks, with which the product of
            all potentials is of the order of the exponential of a reward. The paper has 1.
    """

    scale: float | None = None
    limits: ClassVar = {"scale": "(0, inf)"}

    @override
    def keep(self, kept: Tensor, reward: Tensor) -> Tensor:
        return kept + reward

    @override
    def spend(self, spent: Tensor, kept: Tensor, looks: int) -> Tensor:
        return spent + kept * (2 / looks / (looks + 1) if self.scale is None else self.scale)


@dataclass(frozen=True, kw_only=True)
class FKState(ParticleState):
    """Where populations stand, with what their weights include.

    Args:
        kept: What the potential keeps of the looks so far, `[populations, particles]` in float64.
        spent: Log of the product of the potentials so far, which the last one takes back.
    """

    kept: Tensor
    spent: Tensor


@dataclass(frozen=True, kw_only=True)
class FK(PopulationSampler[FKState]):
    """Feynman-Kac steering (Singhal et al., 2025, arXiv:2501.06848).

    Particles make ancestral moves; now and then they are weighted by the reward of their denoised
    signals and resampled. The last potential is the reward of the draw itself over the product of
    all before it, and weights are carried where a population is not resampled, so that with many
    particles it draws from the law of the ancestral sampler times exp(reward), whatever the
    potentials (the official code drops these weights, and its `Max` and `Sum` end with the largest
    reward or the sum: both bias it).

    The target is a `Posterior`, the reward its log-likelihood: `rewarded(prior, reward, scale)` makes
    one of any reward, `classified(tilted, classifier)` of a class. One evaluation a step for each
    particle of a population, two with a `proposal`, no vjp, and the reward at every look and at the
    end. A narrow reward needs very many particles. One of -inf (a constraint) is best looked at
    late. Particles that descend from one ancestor are alike: with few, take one sample of each
    population, seeds 0, `particles`, `2 particles` and so on.

    Args:
        schedule: The noise levels. The first is far above the scale of the prior, since particles
            start at pure noise.
        particles: Size of a population.
        threshold: Share of the particles below whose effective size a population is resampled at a look;
            0 is never and 1 at every look.
        potential: `Max()`, `Sum()` or `Difference()`.
        every: Steps from one look to the next.
        window: First and last look, as shares of the steps.
        proposal: A denoiser whose ancestral moves are made in place of the prior's, such as a
            `Tilted` or the denoiser of a rule; the weights take the difference back.
    """

    schedule: Schedule = field(
        default_factory=lambda: LogLinear(steps=200, sigma_min=0.01, sigma_max=300.0)
    )
    potential: Potential = field(default_factory=Max)
    every: int = 1
    window: tuple[float, float] = (0.0, 1.0)
    proposal: Denoiser | None = None
    state_type: ClassVar[type[State]] = FKState
    needs: ClassVar[str] = "any likelihood, differentiable or not"
    each: ClassVar[int] = 1
    limits: ClassVar = {"every": "[1, inf)"}

    def __post_init__(self) -> None:
        first, last = self.window
        require(
            0 <= first <= last <= 1,
            f"window is a range of shares of the steps, within 0 and 1; {self.window} is not.",
        )

    @classmethod
    def presets(cls) -> dict[str, "FK"]:
        """The official script for images, with 10 times a reward: 400 evaluations and 20 rewards a population of 4."""
        return {
            "images": cls(
                schedule=Table(steps=100),
                particles=4,
                threshold=1.0,
                potential=Max(scale=1.0),
                every=20,
                window=(0.2, 0.8),
            )
        }

    @override
    def narrow(self, posterior: Posterior) -> Posterior:
        if self.proposal is not None:
            proposal = expect(self.proposal, Denoiser, by=self)
            posterior.space.expect(proposal.space, "The proposal draws")
        return posterior

    def looks_at(self, index: int) -> bool:
        """Whether the reward is looked at before step `index`."""
        first, last = (share * self.schedule.steps for share in self.window)
        return index % self.every == 0 and first <= index <= last

    @property
    def looks(self) -> int:
        """Looks before the end of a run."""
        return sum(map(self.looks_at, range(self.schedule.steps)))

    @override
    def init(self, target: Observed, rng: Rng) -> FKState:
        sigma = self.levels[0]
        x = sigma * paired(target.space.zeros(len(rng), self.particles), rng)
        begun = equal(x) | {"x0": target.prior(x, sigma)}
        zeros = begun["log_weight"]
        state = FKState(**begun, kept=zeros + self.potential.start, spent=zeros)
        return self._weighed(target, state)

    @override
    def step(
        self, target: Observed, state: FKState, sigma: float, sigma_next: float, rng: Rng
    ) -> FKState:
        if sigma_next == 0:
            gain = log_reward(target, state.x0) - state.spent
            log_weight, count = state.log_weight + gain, state.count + 1
            state = replace(state, x=state.x0, sigma=sigma, count=count, log_weight=log_weight)
            return finish(state, rng)
        if self.looks_at(state.count):
            state, ancestors = select(state, rng, self.threshold)
            kept, spent = take(state.kept, ancestors), take(state.spent, ancestors)
            state = replace(state, kept=kept, spent=spent)
        weight, std = bridge(0.0, sigma_next, sigma)
        noise = std * paired(state.x, rng)
        x = state.x0 + weight * (state.x - state.x0) + noise
        log_weight = state.log_weight
        if self.proposal is not None:
            shift = (1 - weight) * (self.proposal(state.x, sigma) - state.x0)
            x = x + shift
            # The prior's transition over that of the proposal, at what the proposal drew.
            ratio = target.space.dot(shift, noise + shift / 2).reshape(x.shape[:2]).double()
            log_weight = log_weight - ratio / std**2
        x0, count = target.prior(x, sigma_next), state.count + 1
        moved = replace(state, x=x, x0=x0, sigma=sigma_next, count=count, log_weight=log_weight)
        return self._weighed(target, moved)

    def _weighed(self, target: Observed, state: FKState) -> FKState:
        """The state with the potential of its step in its weights, if the reward is looked at."""
        if not self.looks_at(state.count):
            return state
        kept = self.potential.keep(
            state.kept, log_reward(target, state.x0).clamp(min=LEAST, max=-LEAST)
        )
        spent = self.potential.spend(state.spent, kept, self.looks)
        log_weight = state.log_weight + spent - state.spent
        return replace(state, kept=kept, spent=spent, log_weight=log_weight)


def log_reward(target: Observed, x0: Tensor) -> Tensor:
    """Log p(y | x0), which is the reward, `[populations, particles, *event]` to `[populations, particles]`.

    Raises:
        InputError: If it is nan somewhere.
    """
    reward = log_prob(target, x0)
    require(not bool(reward.isnan().any()), "The reward of a particle is nan.")
    return reward


def rewarded(prior: Denoiser, reward: Callable[[Tensor], Tensor], scale: float = 1.0) -> Posterior:
    """The law p(x) exp(scale reward(x)), for any sampler of a posterior.

    Args:
        prior: The law before the reward; a `Tilted` or the denoiser of a rule for a guided one.
        reward: Takes signals `[n, *event]` to `[n]`, each sample by itself; samplers that use its gradient
            take it by autograd.
        scale: The power of the reward, above 0 or below.

    Raises:
        InputError: If the scale is no number.
        CapabilityError: If the reward cannot be called.
    """
    require(math.isfinite(scale), f"The scale of a reward is a finite number; {scale} is not.")
    if not callable(reward):
        raise CapabilityError(
            f"A reward is a function of signals; this is {type(reward).__name__}."
        )

    def scaled(y: Tensor, x: Tensor) -> Tensor:
        return scale * reward(x)

    return Posterior(prior, FunctionLikelihood(scaled), torch.tensor(0.0))
