"""A guidance rule with a solver."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from ..core.errors import expect
from ..core.rng import Rng
from ..core.space import Space
from ..diffusion.schedule import Karras, Schedule, levels_of
from ..diffusion.solver import Heun, Solver, State
from ..guidance.base import Guidance, Memory, Moment
from ..guidance.tilted.cfg import CFG
from ..target import Tilted
from .base import S, Sampler


@dataclass(frozen=True, kw_only=True)
class GuidedState(State):
    """A state with the memory of a rule."""

    memory: Memory = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TiltedSampler(Sampler[S]):
    """A sampler whose target is a `Tilted`.

    Attributes:
        needs: What it asks of the target, in a few words.
    """

    needs: ClassVar[str] = "a tilted law"

    def check(self, target: Tilted, seeds: Sequence[int]) -> Space:
        """See `Sampler`."""
        tilted = expect(target, Tilted, by=self)
        self.check_tilted(tilted)
        return tilted.space

    def check_tilted(self, target: Tilted) -> None:
        """Raise before any work if the sampler cannot draw from `target`."""


@dataclass(frozen=True, kw_only=True)
class Guided(TiltedSampler[GuidedState]):
    """Any guidance rule with any solver of the reverse process.

    Args:
        schedule: The noise levels.
        rule: Such as `CFG()` or `APG(4.0)`.
        solver: `DDIM()`, `DDPM()`, `Heun()` or `DPMpp2M()`. The memory of a rule advances with each of
            its evaluations.
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=32))
    rule: Guidance = field(default_factory=CFG)
    solver: Solver = field(default_factory=Heun)
    state_type: ClassVar[type[State]] = GuidedState
    needs: ClassVar[str] = "a tilted law; the rule may need more"

    def check_tilted(self, target: Tilted) -> None:
        """See `TiltedSampler`."""
        self.rule.check(target)

    def init(self, target: Tilted, rng: Rng) -> GuidedState:
        """See `Sampler`."""
        x = levels_of(self.schedule)[0] * rng.normal(target.space)
        return GuidedState(x=x, x0=x, memory=self.rule.init(target, x))

    def step(
        self, target: Tilted, state: GuidedState, sigma: float, sigma_next: float, rng: Rng
    ) -> GuidedState:
        """See `Sampler`."""
        levels = levels_of(self.schedule)
        return guided_step(self.rule, self.solver, target, state, (sigma, sigma_next), levels, rng)


def guided_step(
    rule: Guidance,
    solver: Solver,
    target: Tilted,
    state: GuidedState,
    move: tuple[float, float],
    levels: Sequence[float],
    rng: Rng,
) -> GuidedState:
    """One step of a solver with a rule in place of a denoiser.

    Args:
        rule: The rule.
        solver: The solver.
        target: The tilted law.
        state: Where the sampler stands.
        move: The level it is at and the next.
        levels: All levels of the schedule, by which the rule knows where it is.
        rng: The streams.
    """
    memory = state.memory

    def denoise(x: Tensor, sigma: float) -> Tensor:
        nonlocal memory
        x0, memory = rule(target, x, Moment.of(levels, sigma), memory)
        return x0

    moved = solver(denoise, state, *move, rng)
    return GuidedState(x=moved.x, x0=moved.x0, sigma=moved.sigma, count=moved.count, memory=memory)
