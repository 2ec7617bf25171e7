"""What a guidance rule is: an estimate of the clean signal under a tilted law, from the family's denoisers."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

from torch import Tensor

from ..core.errors import require
from ..core.space import Space
from ..diffusion.denoiser import Denoiser
from ..target import Tilted

# What a rule remembers from one evaluation to the next; each entry has samples as its first axis. It
# is never changed in place.
Memory = dict[str, Tensor]


@dataclass(frozen=True)
class Moment:
    """Where in a run a rule is asked.

    Args:
        sigma: The noise level.
        following: The next level of the schedule below it; 0 after the last.
        index: Place of the level in the schedule, from 0.
        steps: Number of levels above 0.
    """

    sigma: float
    following: float
    index: int
    steps: int

    @classmethod
    def of(cls, levels: Sequence[float], sigma: float) -> "Moment":
        """Where `sigma` is in decreasing levels, the last of which is 0."""
        index = sum(level > sigma for level in levels)
        following = next((level for level in levels if level < sigma), 0.0)
        return cls(sigma, following, index, len(levels) - 1)


class Look(NamedTuple):
    """What a rule says.

    Attributes:
        x0: Its estimate of the clean signal, `[*batch, *event]`.
        memory: What it remembers.
    """

    x0: Tensor
    memory: Memory


@dataclass(frozen=True)
class Guidance(abc.ABC):
    """A rule that stands in for the intractable denoiser of a tilted law.

    Args:
        weight: The power of the condition (1: the conditional law); by default the target's.

    Attributes:
        needs: What it asks of the target or the user, in a few words.
        least: The smallest weight for which it makes sense.
    """

    weight: float | None = None
    needs: ClassVar[str] = "an unconditional member"
    least: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        require(
            self.weight is None or 0 <= self.weight < float("inf"),
            f"The weight is a number of at least 0; weight={self.weight}.",
        )

    def strength(self, target: Tilted) -> float:
        """The weight that is used."""
        return target.weight if self.weight is None else self.weight

    def check(self, target: Tilted) -> None:
        """Raise before any work if the rule cannot be used on `target`.

        Raises:
            CapabilityError: If a model is missing.
            InputError: If the weight does not suit the rule.
        """
        weight, name = self.strength(target), type(self).__name__
        require(
            weight >= self.least,
            f"{name} needs a weight of at least {self.least:g}; weight={weight:g}.",
        )
        _ = target.conditional
        if weight != 1:
            _ = target.unconditional

    def init(self, target: Tilted, x: Tensor) -> Memory:
        """What the rule remembers before the first evaluation, at the iterate `x`."""
        return {}

    @classmethod
    def presets(cls) -> dict[str, Self]:
        """The published settings, by name."""
        return {}

    @abc.abstractmethod
    def __call__(self, target: Tilted, x: Tensor, moment: Moment, memory: Memory) -> Look:
        """The estimate of the clean signal at `x`, `[*batch, *event]`."""


@dataclass(frozen=True)
class Pointwise(Guidance):
    """A rule that depends on `x` and the noise level only, so that it makes a denoiser."""

    @abc.abstractmethod
    def at(self, target: Tilted, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The estimate of the clean signal at `x`, for a level or one a sample, `[*batch]`."""

    def __call__(self, target: Tilted, x: Tensor, moment: Moment, memory: Memory) -> Look:
        """See `Guidance`."""
        return Look(self.at(target, x, moment.sigma), memory)

    def denoiser(self, target: Tilted) -> Denoiser:
        """The rule as a prior, for any solver and any sampler of a posterior.

        Raises:
            CapabilityError: As `check`.
            InputError: As `check`.
        """
        self.check(target)
        return GuidedDenoiser(self, target)


class GuidedDenoiser(Denoiser):
    """A rule on a target, as a prior.

    Args:
        rule: The rule.
        target: The tilted law.
    """

    def __init__(self, rule: Pointwise, target: Tilted) -> None:
        self.rule, self.target = rule, target
        self.space: Space = target.space

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """See `Denoiser`."""
        return self.rule.at(self.target, x, sigma)
