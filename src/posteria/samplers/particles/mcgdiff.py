"""MCGDiff: Monte Carlo guided diffusion."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import require
from ...core.rng import Rng
from ...core.state import State
from ...diffusion.kernel import bridge
from ...diffusion.schedule import LogLinear, Schedule, Table
from .filtering import Coordinates, EntryFilter, EntryProblem, draw_given, log_normal
from .population import ParticleState, equal, finish, select, take


@dataclass(frozen=True, kw_only=True)
class ConditionedState(ParticleState):
    """Where populations stand.

    Args:
        log_potential: Of the entries whose level has been passed, `[populations, particles]`.
    """

    log_potential: Tensor


@dataclass(frozen=True, kw_only=True)
class MCGDiff(EntryFilter[ConditionedState]):
    """Monte Carlo guided diffusion (Cardoso et al., 2024, arXiv:2308.07983).

    In the basis of the operator's decomposition, a noisy measurement of an entry is that entry at
    the noise level where the diffusion is as noisy. A fully adapted particle filter makes the
    particles meet it there (between two levels: at the lower, with the variance in between);
    above, potentials lead them to it, and below, they follow the prior. With many particles it
    draws from the posterior exactly, but for the length of the steps.

    One evaluation a step for each particle of a population, and no vjp. Particles that descend from
    one ancestor are alike: with images, take one sample of each population, seeds 0, `particles`,
    `2 particles` and so on.

    Args:
        schedule: The noise levels. The first is far above the scale of the prior, since particles
            start at pure noise.
        particles: Size of a population.
        threshold: A population is resampled when its effective size is below this share; 0 is never.
        kappa: Least variance with which a measurement is met, where the variance of the noised
            data at that level is `1 + sigma^2`.
        as_published: What is done as in the official code:

            - `terminal`: the last particles are weighed by the likelihood over the potentials, although
              the measurement has been met; these weights have heavy tails. Needs a `kappa`.
    """

    schedule: Schedule = field(
        default_factory=lambda: LogLinear(steps=200, sigma_min=0.01, sigma_max=300.0)
    )
    kappa: float = 0.0
    as_published: tuple[str, ...] = ()
    switches: ClassVar = {"terminal": ("terminal", True)}
    limits: ClassVar = {"kappa": "[0, 1)"}
    state_type: ClassVar[type[State]] = ConditionedState

    def __post_init__(self) -> None:
        require(
            self.kappa > 0 or "terminal" not in self.as_published,
            f"Terminal weights need a kappa above 0; kappa={self.kappa}.",
        )

    @classmethod
    def presets(cls) -> dict[str, "MCGDiff"]:
        """The settings of the official code, for data of unit scale.

        Evaluations a population: images 6400 (64 particles), gmm 12800 (128 particles).
        """
        official = partial(
            cls, schedule=Table(steps=100), threshold=1.0, as_published=("terminal",)
        )
        return {
            "images": official(particles=64, kappa=1e-4),
            "gmm": official(particles=128, kappa=1e-8),
        }

    def _variance(self, seen: Coordinates, sigma: float) -> Tensor:
        """Of the potentials at level `sigma`, `[size]`; a number only where the level is not below the anchor."""
        met = torch.maximum(seen.noise**2 - seen.anchor**2, self.kappa * (1 + seen.anchor**2))
        return sigma**2 - seen.anchor**2 + met

    @override
    def init(self, target: EntryProblem, rng: Rng) -> ConditionedState:
        seen, sigma = target.seen, self.levels[0]
        active, variance = seen.anchor <= sigma, self._variance(seen, sigma)
        origin = target.space.flatten(target.space.zeros(len(rng), self.particles))
        z = draw_given(origin, sigma**2, seen.y, variance, active, rng)
        x = seen.operator.v(z)
        evidence = seen.log_constant + log_normal(seen.y, 0.0, sigma**2 + variance, active)
        potential = log_normal(seen.y, z, variance, seen.anchor == sigma)
        evidence = evidence.expand(x.shape[:2])[:, 0]
        return ConditionedState(**equal(x, evidence), log_potential=potential)

    @override
    def step(
        self,
        target: EntryProblem,
        state: ConditionedState,
        sigma: float,
        sigma_next: float,
        rng: Rng,
    ) -> ConditionedState:
        seen = target.seen
        x0 = target.prior(state.x, sigma)
        weight, std = bridge(0.0, sigma_next, sigma)
        z, mean = (seen.operator.vt(x) for x in (state.x, x0 + weight * (state.x - x0)))
        active = seen.anchor <= sigma_next
        before, after = self._variance(seen, sigma), self._variance(seen, sigma_next)
        gain = log_normal(seen.y, mean, std**2 + after, active)
        gain = gain - log_normal(seen.y, z, before, active)
        state = replace(
            state, x0=x0, sigma=sigma, count=state.count + 1, log_weight=state.log_weight + gain
        )
        if sigma_next == 0:
            return finish(self._closed(seen, replace(state, x=x0)), rng)
        state, ancestors = select(state, rng, self.threshold)
        z = draw_given(take(mean, ancestors), std**2, seen.y, after, active, rng)
        passed = log_normal(seen.y, z, after, seen.anchor == sigma_next)
        return replace(
            state,
            x=seen.operator.v(z),
            log_potential=take(state.log_potential, ancestors) + passed,
        )

    def _closed(self, seen: Coordinates, state: ConditionedState) -> ConditionedState:
        """The last particles with the terminal weights, if there are to be any."""
        if "terminal" not in self.as_published:
            return state
        # Entries that are met at level 0 have had their likelihood.
        passed = (seen.anchor > 0) & seen.noise.isfinite()
        log_prob = log_normal(seen.y, seen.operator.vt(state.x), seen.noise**2, passed)
        return replace(state, log_weight=state.log_weight + log_prob - state.log_potential)
