"""A rule with a solver."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from ..core.errors import expect
from ..core.rng import Rng
from ..core.space import Space
from ..core.state import State
from ..diffusion.schedule import Karras, Schedule
from ..diffusion.solver import Heun, Solver
from ..guidance.base import LikelihoodRule, Memory, Rule, StepInfo
from ..guidance.tilted.cfg import CFG
from ..target import Posterior, Tilted
from .base import S, Sampler, check_steps
from .posterior import below


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

    @override
    def check(self, target: Tilted, seeds: Sequence[int]) -> Space:
        tilted = expect(target, Tilted, by=self)
        self.check_tilted(tilted)
        return tilted.space

    def check_tilted(self, target: Tilted) -> None:
        """Raise before any work if the sampler cannot draw from `target`."""


@dataclass(frozen=True, kw_only=True)
class Guided(Sampler[GuidedState]):
    """Any rule, of a tilted law or of a posterior, with any solver of the reverse process.

    Args:
        schedule: The noise levels.
        rule: Such as `CFG()` or `APG(4.0)` for a `Tilted`, `guidance.MMPS()` for a `Posterior`, or
            `guidance.Nested(MMPS(), APG(4.0))` for a posterior whose prior is a tilted law. A sampler that is
            short for a rule, such as `posteria.MMPS()`, stands for it.
        solver: `DDIM()`, `DDPM()`, `Heun()` or `DPMpp2M()`. The memory of a rule advances with each of
            its evaluations.
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=32))
    rule: Rule = field(default_factory=CFG)
    solver: Solver = field(default_factory=Heun)
    state_type: ClassVar[type[State]] = GuidedState
    needs: ClassVar[str] = "what its rule needs"

    def __post_init__(self) -> None:
        short = getattr(self.rule, "as_rule", None)
        if short is not None:
            rule = self.rule if isinstance(self.rule, type) else short()
            object.__setattr__(self, "rule", expect(rule, Rule, by=self))

    @override
    def check(self, target: Any, seeds: Sequence[int]) -> Space:
        self.rule.check(target)
        if isinstance(target, Posterior):
            target.check_seeds(len(seeds))
        if isinstance(self.rule, LikelihoodRule):
            check_steps(self.rule.fewest, self)
        space: Space = target.space
        return space

    @override
    def arrange(self, target: Any, seeds: Sequence[int]) -> tuple[Any, Rng]:
        target, rng = super().arrange(target, seeds)
        return self.rule.arrange(target), rng

    @override
    def beyond(self, target: Any) -> str:
        floored = isinstance(self.rule, LikelihoodRule) and self.rule.floored
        return super().beyond(target) or (below(self, target) if floored else "")

    @override
    def evaluations(self, target: Any) -> int:
        if not isinstance(self.rule, LikelihoodRule):
            # Rules of a tilted law may save evaluations for some samples only.
            return super().evaluations(target)
        steps, solver = self.schedule.steps, self.solver
        above = solver.evaluations(steps - 1) if steps > 1 else 0
        lowest = solver.evaluations(steps) - above
        return above * self.rule.evaluations(target) + lowest * self.rule.last(target)

    @override
    def carried(self, target: Any, x: Tensor) -> dict[str, Any]:
        return {"memory": self.rule.init(target, x)}

    @override
    def step(
        self, target: Any, state: GuidedState, sigma: float, sigma_next: float, rng: Rng
    ) -> GuidedState:
        levels = self.levels
        return guided_step(self.rule, self.solver, target, state, (sigma, sigma_next), levels, rng)


def guided_step(
    rule: Rule,
    solver: Solver,
    target: Any,
    state: GuidedState,
    move: tuple[float, float],
    levels: Sequence[float],
    rng: Rng,
) -> GuidedState:
    """One step of a solver with a rule in place of a denoiser.

    Where a solver evaluates twice, the iterate is pushed by the estimate at the level that it leaves.
    `levels` are all of the schedule, by which the rule knows where it is.
    """
    memory: Memory = state.memory
    pushes: list[Tensor | None] = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        nonlocal memory
        x0, memory, push = rule(target, x, StepInfo.of(levels, sigma, rng), memory)
        pushes.append(push)
        return x0

    moved = solver(denoise, state, *move, rng)
    x = moved.x if pushes[0] is None else moved.x + pushes[0]
    return GuidedState(x=x, x0=moved.x0, sigma=moved.sigma, count=moved.count, memory=memory)
