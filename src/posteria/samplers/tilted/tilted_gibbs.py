"""The sampler that tends to the tilted law itself: weighted particles, and Gibbs rounds with a Metropolis test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import require
from ...core.rng import Rng
from ...core.state import State
from ...diffusion.schedule import Karras, LogLinear, RangeSchedule, Schedule
from ...diffusion.solver import Heun
from ...target import Tilted
from ..particles.population import (
    ParticleState,
    TiltedPopulation,
    equal,
    finish,
    paired,
    select,
    take,
)
from .path_kernels import kernels

# A threshold below which every effective size is.
ALWAYS = 2.0


@dataclass(frozen=True, kw_only=True)
class TiltedState(ParticleState):
    """Particles, and in a Gibbs round the paths that they may keep.

    Args:
        log_ratio: Log of p(x | c) over p(x) at the particles, `[populations, particles]`.
        path: The noised clean signals of this round from its highest level to level 0,
            `[round_steps + 1, populations, particles, *event]`; `[0]` outside rounds.
        log_odds: Log of the weight of the new path over that of the old, `[populations, particles]`.
        accepted: Rounds so far whose new path was taken, `[populations, particles]`.
    """

    log_ratio: Tensor
    path: Tensor
    log_odds: Tensor
    accepted: Tensor


@dataclass(frozen=True, kw_only=True)
class TiltedGibbs(TiltedPopulation[TiltedState]):
    """Draws from p(x | c)^w p(x)^(1 - w) with an error that vanishes as particles and steps grow.

    A population goes down the levels by the geometric mixture of the reverse kernels with and
    without the condition, and is weighted towards the tilted law of whole reverse paths, whose end
    has the tilted law itself. The power rises from 1 at high levels to w at low ones,
    `1 + (w - 1) / (1 + (sigma / sigma_star)^2)`. Weights are those of a Feynman-Kac flow (Del Moral,
    2004, theorem 7.4.3; Skreta et al., 2025, arXiv:2503.02819), kernels have the covariance that x_0
    adds (Bao et al., 2022, arXiv:2201.06503). A Gibbs round (CFGiG, Moufad et al., 2025,
    arXiv:2505.21101) noises the particles to `sigma_star` and brings them down under a Metropolis
    test. With `particles=1` there are only rounds, which do not move mass between modes. In many
    dimensions weights spread (docs/guidance.md); the preset `pictures` is for that.

    A step costs a particle two evaluations and two vjps for each probe or, with full covariances,
    for each entry of the signal; a step of a round twice that (the first one as much), and a step of
    a particle alone two evaluations.

    Args:
        schedule: The noise levels. The highest one must be far above the scale of both members.
        particles: Size of a population, at least 1.
        threshold: A population is resampled when its effective size is below this share.
        sigma_star: The level at which the power is half of the way up, and to which rounds noise.
        rounds: Gibbs rounds.
        round_steps: Levels of a round.
        dense: Up to so many entries of a signal, the kernels have full covariances.
        probes: Beyond that, random directions by which the trace of a Jacobian is estimated.
    """

    schedule: Schedule = field(
        default_factory=lambda: LogLinear(steps=60, sigma_min=0.02, sigma_max=80.0)
    )
    sigma_star: float = 0.3
    rounds: int = 0
    round_steps: int = 10
    dense: int = 4
    probes: int = 1
    state_type: ClassVar[type[State]] = TiltedState
    needs: ClassVar[str] = "a tilted law; best in few dimensions or with a weight near 1"
    limits: ClassVar = {
        "particles": "[1, inf)",
        "sigma_star": "(0, inf)",
        "rounds": "[0, inf)",
        "round_steps": "[2, inf)",
        "dense": "[0, inf)",
        "probes": "[1, inf)",
    }

    def __post_init__(self) -> None:
        levels = self.levels
        require(
            levels[-2] < self.sigma_star <= levels[0],
            f"sigma_star is a level of the schedule, from {levels[-2]:g} to {levels[0]:g}; {self.sigma_star:g} is not.",
        )
        require(
            self.rounds == 0 or isinstance(self.schedule, RangeSchedule),
            "Gibbs rounds need a schedule between two levels, such as Karras(steps=60).",
        )

    @classmethod
    def presets(cls) -> dict[str, "TiltedGibbs"]:
        """`pictures`: our settings for signals of many dimensions, each sample by itself.

        20 levels of the conditional model and 3 rounds of 6: 39 evaluations, and 66 with as many vjps.
        """
        schedule = Karras(steps=20, sigma_min=0.01, sigma_max=80.0)
        return {
            "pictures": cls(
                schedule=schedule, particles=1, rounds=3, round_steps=6, sigma_star=0.5
            )
        }

    def power(self, target: Tilted, sigma: float) -> float:
        """The power of the condition at a level."""
        return 1 + (target.weight - 1) / (1 + (sigma / self.sigma_star) ** 2)

    @override
    def moves(self) -> list[tuple[float, float]]:
        first = list(pairwise(self.levels))
        return first + self.rounds * list(pairwise(self._round()))

    def _round(self) -> Sequence[float]:
        if not isinstance(self.schedule, RangeSchedule):
            return ()
        return replace(self.schedule, steps=self.round_steps, sigma_max=self.sigma_star).levels()

    @override
    def check_tilted(self, target: Tilted) -> None:
        # Both members are evaluated, whatever the weight.
        _ = target.conditional, target.unconditional

    @override
    def log_evidence(self, target: Tilted, seeds: Sequence[int]) -> Tensor:
        # Particles that are alone have no weights, and estimate nothing.
        require(
            self.particles > 1, "The integral of a tilted density needs a population; particles=1."
        )
        return super().log_evidence(target, seeds)

    @override
    def init(self, target: Tilted, rng: Rng) -> TiltedState:
        x = self.levels[0] * rng.normal(target.space, self.particles)
        begun = equal(x)
        zeros = begun["log_weight"]
        rest = {"log_ratio": zeros, "log_odds": zeros, "accepted": zeros}
        return TiltedState(**begun, **rest, path=x.new_zeros(0))

    @override
    def step(
        self, target: Tilted, state: TiltedState, sigma: float, sigma_next: float, rng: Rng
    ) -> TiltedState:
        count, steps = state.count, self.schedule.steps
        if count < steps:
            state = self._descend(target, state, sigma, sigma_next, rng)
        else:
            state = self._again(target, state, (count - steps) % self.round_steps, rng)
        return replace(state, sigma=sigma, count=count + 1)

    def _descend(
        self, target: Tilted, state: TiltedState, sigma: float, sigma_next: float, rng: Rng
    ) -> TiltedState:
        """One step of the weighted population; a particle alone takes the conditional model's."""
        if self.particles == 1:
            moved = Heun()(target.conditional, state, sigma, sigma_next, rng)
            return replace(state, x=moved.x, x0=moved.x0)
        pair = kernels(target, state.x, (sigma, sigma_next), (self.dense, self.probes), rng)
        before, after = self.power(target, sigma), self.power(target, sigma_next)
        tilted = pair.geometric(after)
        # The weight does not depend on where a particle goes (but in flat directions), so that
        # it is selected before it moves.
        gained = pair.log_mass(tilted, after) + (after - before) * state.log_ratio
        state = replace(state, x0=pair.x0(after), log_weight=state.log_weight + gained)
        state, ancestors = select(state, rng, self.threshold if sigma_next else ALWAYS)
        pair = pair.of(ancestors)
        tilted = pair.geometric(after)
        x, z = pair.draw(tilted, paired(tilted.mean, rng))
        rest = pair.log_weight(tilted, after, z) - pair.log_mass(tilted, after)
        log_ratio = take(state.log_ratio, ancestors) + pair.log_ratio(z)
        state = replace(state, x=x, log_weight=state.log_weight + rest, log_ratio=log_ratio)
        return state if sigma_next else finish(state, rng)

    def _again(self, target: Tilted, state: TiltedState, place: int, rng: Rng) -> TiltedState:
        """One step of a Gibbs round: the new path beside the old one."""
        levels = self._round()
        if place == 0:
            path = _noised(state.x, levels, rng)
            zeros = torch.zeros_like(state.log_odds)
            state = replace(state, x=path[0], path=path, log_odds=zeros)
        move = levels[place], levels[place + 1]
        after, curvature = self.power(target, move[1]), (self.dense, self.probes)
        pair = old = kernels(target, state.x, move, curvature, rng)
        if place:
            # At first both paths are at the same x.
            old = kernels(target, state.path[place], move, curvature, rng)
        tilted, kept = pair.geometric(after), state.path[place + 1]
        x, z = pair.draw(tilted, rng.normal_like(tilted.mean))
        log_odds = state.log_odds + pair.log_weight(tilted, target.weight, z)
        log_odds = log_odds - old.log_weight(old.geometric(after), target.weight, old.place(kept))
        if move[1]:
            return replace(state, x=x, x0=pair.x0(after), log_odds=log_odds)
        # A uniform draw for each particle from its population's stream.
        chance = torch.special.ndtr(rng.normal_like(log_odds))
        new = chance.log() < log_odds
        space = target.space
        x = torch.where(torch.as_tensor(space.per_sample(new)), x, kept)
        accepted = state.accepted + new.double()
        return replace(state, x=x, x0=x, path=x.new_zeros(0), log_odds=log_odds, accepted=accepted)


def _noised(x: Tensor, levels: Sequence[float], rng: Rng) -> Tensor:
    """A path of the forward process from `x` up through levels, `[len(levels), *x.shape]`, highest first."""
    path = [x]
    for low, high in pairwise(reversed(levels)):
        path.append(path[-1] + math.sqrt(high**2 - low**2) * rng.normal_like(x))
    return torch.stack(path[::-1])
