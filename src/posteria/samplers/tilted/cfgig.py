"""CFGiG: Gibbs-like guidance of a tilted law."""

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar, Self

from typing_extensions import override

from ...core.errors import CapabilityError, require
from ...core.rng import Rng
from ...core.state import State
from ...diffusion.schedule import Karras, RangeSchedule, Schedule, levels_of
from ...diffusion.solver import Heun, Solver
from ...guidance.base import TiltedRule
from ...guidance.tilted.cfg import CFG
from ...guidance.tilted.two_level import TwoLevel
from ...target import Tilted
from ..guided import GuidedState, TiltedSampler, guided_step


@dataclass(frozen=True, kw_only=True)
class CFGiG(TiltedSampler[GuidedState]):
    """Classifier-free Gibbs-like guidance (Moufad et al., 2025, arXiv:2505.21101).

    A conditional sample is noised to a moderate level and denoised with guidance, `rounds` times. A
    small `sigma_star` errs less and takes more rounds. Noise hardly carries samples over many
    `sigma_star`: the shares of separate modes stay near those of the conditional law.

    `schedule.steps` is shared: the first run has `initial` levels and what the rounds cannot divide
    among them, each round an equal part of the rest, from `sigma_star` down. With Heun's method n
    levels take 2n - 1 estimates, of which each with guidance is two evaluations. The memory of the
    rule begins anew in each round.

    Args:
        schedule: All levels; rounds take its kind and lowest level, with `sigma_star` as the highest.
        rounds: Rounds after the first run; 0 is a run without any.
        sigma_star: Level of the noise that a round begins with, in data units.
        initial: Levels of the first run; by default three eighths of all, as in the paper (12 of 32).
        initial_weight: Weight of the first run, by `CFG`; 1 is the conditional law.
        rule: The guidance of the rounds; `TwoLevel()` is the paper's delayed form.
        solver: `DDIM()`, `DDPM()`, `Heun()` or `DPMpp2M()`.
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=32))
    rounds: int = 2
    sigma_star: float = 1.0
    initial: int | None = None
    initial_weight: float = 1.0
    rule: TiltedRule = field(default_factory=CFG)
    solver: Solver = field(default_factory=Heun)
    state_type: ClassVar[type[State]] = GuidedState
    needs: ClassVar[str] = "a tilted law; the rule may need more"
    limits: ClassVar = {
        "rounds": "[0, inf)",
        "sigma_star": "(0, inf)",
        "initial": "[1, inf)",
        "initial_weight": "[0, inf)",
    }

    def __post_init__(self) -> None:
        low, high = self._range.sigma_min, self._range.sigma_max
        require(
            low < self.sigma_star <= high,
            f"sigma_star is above the lowest level of the schedule, {low:g}, and at most its "
            f"highest, {high:g}; sigma_star={self.sigma_star:g}.",
        )
        require(
            self.rounds == 0 or self._levels_a_round >= 2,
            f"A round has at least 2 levels: {self.rounds} rounds and initial={self._start} need "
            f"{self._start + 2 * self.rounds} steps; the schedule has {self.schedule.steps}.",
        )

    @property
    def _range(self) -> RangeSchedule:
        schedule = self.schedule
        if isinstance(schedule, RangeSchedule):
            return schedule
        sentence = (
            "CFGiG needs a schedule whose highest level can be set to sigma_star, such as "
            f"Karras(steps=32); {type(schedule).__name__} is none."
        )
        raise CapabilityError(sentence)

    @property
    def _start(self) -> int:
        """What the first run has at least."""
        return max(1, 3 * self.schedule.steps // 8) if self.initial is None else self.initial

    @property
    def _levels_a_round(self) -> int:
        return (self.schedule.steps - self._start) // self.rounds if self.rounds else 0

    @property
    def _first(self) -> int:
        """Levels of the first run."""
        return self.schedule.steps - self.rounds * self._levels_a_round

    def _grid(self, count: int) -> tuple[float, ...]:
        """The levels of the part of the run to which move number `count` belongs."""
        if count < self._first:
            return levels_of(replace(self.schedule, steps=self._first))
        return levels_of(
            replace(self._range, steps=self._levels_a_round, sigma_max=self.sigma_star)
        )

    @override
    def moves(self) -> list[tuple[float, float]]:
        # Those of the first run and of each round.
        rounds = list(pairwise(self._grid(self._first))) * self.rounds if self.rounds else []
        return [*pairwise(self._grid(0)), *rounds]

    @override
    def check_tilted(self, target: Tilted) -> None:
        CFG(self.initial_weight).check(target)
        if self.rounds:
            self.rule.check(target)

    @override
    def init(self, target: Tilted, rng: Rng) -> GuidedState:
        x = self._range.sigma_max * rng.normal(target.space)
        return GuidedState(x=x, x0=x)

    @override
    def step(
        self, target: Tilted, state: GuidedState, sigma: float, sigma_next: float, rng: Rng
    ) -> GuidedState:
        levels, move = self._grid(state.count), (sigma, sigma_next)
        since = state.count - self._first
        if since < 0:
            rule: TiltedRule = CFG(self.initial_weight)
        else:
            rule = self.rule
            if since % self._levels_a_round == 0:
                x = state.x + self.sigma_star * rng.normal_like(state.x)
                # A level of infinity, so that a multistep solver forgets the round before.
                memory = rule.init(target, x)
                state = replace(state, x=x, sigma=math.inf, memory=memory)
        return guided_step(rule, self.solver, target, state, move, levels, rng)

    @classmethod
    def presets(cls) -> dict[str, Self]:
        """The settings of the paper's experiments on 512 x 512 ImageNet with EDM2 models.

        - `edm2`: weight 2, 99 evaluations of a network a sample (61 estimates).
        - `edm2_delayed`: the two-level form, weight 2.3, 99 evaluations.

        The weight is left to the target. Those for sound and for Stable Diffusion XL take subsets of a
        table of levels, and are not among them.
        """
        return {"edm2": cls(), "edm2_delayed": cls(sigma_star=2.0, rule=TwoLevel(delta=0.1))}
