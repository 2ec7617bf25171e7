"""What a rule is: an estimate of the clean signal that stands in for the denoiser of a target."""

import abc
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import neg
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor
from typing_extensions import override

from ..core.errors import InputError, expect, require
from ..core.level import Level
from ..core.rng import Rng
from ..core.settings import Settings
from ..core.space import Space
from ..diffusion.denoiser import Denoiser
from ..diffusion.solver import Heun, Solver
from ..target import Posterior, Tilted

# What a rule remembers from one evaluation to the next; each entry has samples as its first axis. It
# is never changed in place.
Memory = dict[str, Tensor]


@dataclass(frozen=True)
class StepInfo:
    """Where in a run a rule is evaluated.

    Args:
        sigma: The noise level.
        sigma_next: The next level of the schedule below it; 0 after the last.
        index: Place of the level in the schedule, from 0.
        steps: Number of levels above 0.
        levels: All levels, the last of which is 0; empty where they are not known.
        rng: The streams of the samples, for a rule that draws; None where there are none.
    """

    sigma: float
    sigma_next: float
    index: int
    steps: int
    levels: tuple[float, ...] = field(default=(), compare=False)
    rng: Rng | None = field(default=None, compare=False)

    @classmethod
    def of(cls, levels: Sequence[float], sigma: float, rng: Rng | None = None) -> "StepInfo":
        """Where `sigma` is in decreasing levels, the last of which is 0."""
        below = bisect_right(levels, -sigma, key=neg)
        index = below
        while index and levels[index - 1] == sigma:
            index -= 1
        sigma_next = levels[below] if below < len(levels) else 0.0
        return cls(sigma, sigma_next, index, len(levels) - 1, tuple(levels), rng)

    def streams(self, by: object) -> Rng:
        """The streams of the samples.

        Raises:
            InputError: If there are none.
        """
        if self.rng is None:
            raise InputError(f"{type(by).__name__} draws random numbers; give StepInfo an rng.")
        return self.rng


class Estimate(NamedTuple):
    """What a rule says.

    Attributes:
        x0: Its estimate of the clean signal, `[*batch, *event]`.
        memory: What it remembers.
        push: What is added to the iterate after the solver's step, for rules that move it and not the
            estimate; None for nothing.
    """

    x0: Tensor
    memory: Memory
    push: Tensor | None = None


@dataclass(frozen=True)
class Rule(metaclass=Settings):
    """A rule that stands in for the intractable denoiser of a target, for any solver.

    Attributes:
        needs: What it asks of the target or the user, in a few words.
    """

    needs: ClassVar[str]

    @abc.abstractmethod
    def check(self, target: Any) -> None:
        """Raise before any work if the rule cannot be used on `target`.

        Raises:
            CapabilityError: If the target is of another kind, or a model is missing.
            InputError: If a value does not suit the rule.
        """

    def arrange(self, target: Any) -> Any:
        """The target narrowed to what the rule works with, once a run; `init` and calls are given this."""
        return target

    def init(self, target: Any, x: Tensor) -> Memory:
        """What the rule remembers before the first evaluation, at the iterate `x`."""
        return {}

    @abc.abstractmethod
    def __call__(self, target: Any, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        """The estimate of the clean signal at `x`, `[*batch, *event]`."""

    @classmethod
    def presets(cls) -> dict[str, Self]:
        """The published settings, by name."""
        return {}


@dataclass(frozen=True)
class TiltedRule(Rule):
    """A rule for a tilted law.

    Args:
        weight: The power of the condition (1: the conditional law); by default the target's.

    Attributes:
        least: The smallest weight for which it makes sense.
        suited: The solver that it is made for.
    """

    weight: float | None = None
    needs: ClassVar[str] = "an unconditional member"
    suited: ClassVar[Solver] = Heun()
    least: ClassVar[float] = 0.0
    limits: ClassVar = {"weight": "[0, inf)"}

    def strength(self, target: Tilted) -> float:
        """The weight that is used."""
        return target.weight if self.weight is None else self.weight

    @override
    def check(self, target: Tilted) -> None:
        expect(target, Tilted, by=self)
        weight, name = self.strength(target), type(self).__name__
        require(
            weight >= self.least,
            f"{name} needs a weight of at least {self.least:g}; weight={weight:g}.",
        )
        self.check_tilted(target)

    def check_tilted(self, target: Tilted) -> None:
        """As `check`, of a tilted law with a weight that makes sense: by default that its members are there."""
        _ = target.conditional
        if self.strength(target) != 1:
            _ = target.unconditional

    @abc.abstractmethod
    def __call__(self, target: Tilted, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        """The estimate of the clean signal at `x`, `[*batch, *event]`."""


@dataclass(frozen=True)
class Pointwise(TiltedRule):
    """A rule that depends on `x` and the noise level only, so that it makes a denoiser."""

    @abc.abstractmethod
    def at(self, target: Tilted, x: Tensor, sigma: Level) -> Tensor:
        """The estimate of the clean signal at `x`, for a level or one a sample, `[*batch]`."""

    @override
    def __call__(self, target: Tilted, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        return Estimate(self.at(target, x, info.sigma), memory)

    def denoiser(self, target: Tilted) -> Denoiser:
        """The rule as a prior, for any solver and any sampler of a posterior.

        Raises:
            CapabilityError: As `check`.
            InputError: As `check`.
        """
        self.check(target)
        return GuidedDenoiser(self, target)


class GuidedDenoiser(Denoiser):
    """A rule on a target, as a prior."""

    def __init__(self, rule: Pointwise, target: Tilted) -> None:
        self.rule, self.target = rule, target
        self.space: Space = target.space

    @override
    def __call__(self, x: Tensor, sigma: Level) -> Tensor:
        return self.rule.at(self.target, x, sigma)


@dataclass(frozen=True, kw_only=True)
class LikelihoodRule(Rule):
    """A rule for a posterior: an estimate of E[x_0 | x, y] from the prior's denoiser and the likelihood.

    `arrange` gives a `linear_gaussian.Narrowed`, the posterior narrowed to what the rule needs.
    """

    needs: ClassVar[str] = "any differentiable likelihood"
    # Levels below which the measurement is never looked at.
    fewest: ClassVar[int] = 1
    # Whether samples vary too little where the noise of the measurement is below the lowest level.
    floored: ClassVar[bool] = False

    @override
    def check(self, target: Posterior) -> None:
        self.arrange(expect(target, Posterior, by=self))

    def evaluations(self, target: Posterior) -> int:
        """Evaluations and vjps of the prior that one estimate costs."""
        return 2

    def last(self, target: Posterior) -> int:
        """The same at the lowest level."""
        return self.evaluations(target)
