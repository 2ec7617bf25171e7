"""How far a gradient moves things, level by level: the units in which papers state one number."""

import abc
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

from typing_extensions import override

from ...core.errors import require
from ...core.settings import Settings


class Move(NamedTuple):
    """A step of the reverse process between two of all levels, with the estimate's share in the next iterate."""

    levels: tuple[float, ...]
    sigma: float
    sigma_next: float
    share: float


@dataclass(frozen=True)
class Strength(metaclass=Settings):
    """How far a gradient moves things, level by level. Papers differ in the units in which it is one number.

    Args:
        size: The number; 0 leaves the gradient out, and its cost.
    """

    size: float
    limits: ClassVar = {"size": "[0, inf)"}

    @abc.abstractmethod
    def of_iterate(self, move: Move) -> float:
        """Factor of the gradient in x by which the next iterate moves."""

    @abc.abstractmethod
    def of_estimate(self, move: Move) -> float:
        """Factor of the gradient in x_0 by which the estimate moves."""


@dataclass(frozen=True)
class Even(Strength):
    """TFG's, the same at every level: x moves before the step, in the units of `x / sqrt(1 + sigma^2)`."""

    def part(self, sigma: float, sigma_next: float) -> float:
        """The part of a step, up to a factor."""
        return 1.0

    @override
    def of_estimate(self, move: Move) -> float:
        # In the mean over all steps it is `size`.
        require(
            len(move.levels) > 1,
            f"{type(self).__name__} shares its size out among all levels: make it by StepInfo.of(levels, sigma).",
        )
        total = sum(self.part(*step) for step in pairwise(move.levels))
        steps = len(move.levels) - 1
        return self.size * steps * self.part(move.sigma, move.sigma_next) / total

    @override
    def of_iterate(self, move: Move) -> float:
        return (1 + move.sigma**2) * self.of_estimate(move)


@dataclass(frozen=True)
class Increasing(Even):
    """TFG's default: in proportion to the `alpha` of a DDPM step, so that low levels have more."""

    @override
    def part(self, sigma: float, sigma_next: float) -> float:
        return (1 + sigma_next**2) / (1 + sigma**2)


@dataclass(frozen=True)
class Decreasing(Even):
    """In proportion to the `beta` of a DDPM step: `Bayes` of another size where steps are ancestral."""

    @override
    def part(self, sigma: float, sigma_next: float) -> float:
        return (sigma**2 - sigma_next**2) / (1 + sigma**2)


@dataclass(frozen=True)
class Fixed(Strength):
    """That of DPS and FreeDoM: one number for all levels, with which `x / sqrt(1 + sigma^2)` moves after the step."""

    @override
    def of_iterate(self, move: Move) -> float:
        return self.size * math.sqrt((1 + move.sigma**2) * (1 + move.sigma_next**2))

    @override
    def of_estimate(self, move: Move) -> float:
        return self.size


@dataclass(frozen=True)
class Faded(Strength):
    """That of FreeDoM's code for faces: `Fixed` times `1 / sqrt(1 + sigma^2)`."""

    @override
    def of_iterate(self, move: Move) -> float:
        return self.size * math.hypot(1, move.sigma_next)

    @override
    def of_estimate(self, move: Move) -> float:
        return self.size / math.hypot(1, move.sigma)


@dataclass(frozen=True)
class Bayes(Strength):
    """That of Bayes' rule at size 1 (LGD), and of universal guidance at any: the estimate moves by `sigma^2` gradients.

    Of a gradient in x_0 the factor is the variance of x_0 given x where data are white and of unit
    variance.
    """

    @override
    def of_iterate(self, move: Move) -> float:
        return self.size * move.share * move.sigma**2

    @override
    def of_estimate(self, move: Move) -> float:
        return self.size * move.sigma**2 / (1 + move.sigma**2)
