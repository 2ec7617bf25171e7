"""Noise schedules: which levels of `sigma` a sampler visits, and the time in which midpoints are stated."""

import abc
import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import InputError, require
from ..core.level import Level, exp, expm1, power, root
from ..core.linalg import outside_inference
from ..core.settings import Settings
from .betas import Betas, LinearBetas


@dataclass(frozen=True, kw_only=True)
class Schedule(metaclass=Settings):
    """A decreasing list of noise levels.

    Args:
        steps: Number of moves; the last one ends at 0.
    """

    steps: int = 100
    limits: ClassVar = {"steps": "[1, inf)"}

    @abc.abstractmethod
    def at(self, u: Level) -> Level:
        """The level at time `u`: the lowest at 0, the highest at 1."""

    @abc.abstractmethod
    def time(self, sigma: float) -> float:
        """The inverse of `at`; 0 for every level below the lowest."""

    @property
    def lowest(self) -> float:
        """The lowest level above 0."""
        return float(self.at(0.0))

    def fraction(self, sigma: float, alpha: float) -> float:
        """The level at `alpha` times the time of `sigma`, above 0 and at most `sigma`."""
        return min(max(float(self.at(alpha * self.time(sigma))), self.lowest), sigma)

    def down(self, u: Level, steps: int) -> list[Level]:
        """The levels from time `u` in so many equal steps of time, without that at time 0."""
        return [self.at(u * j / steps) for j in range(steps, 0, -1)]

    def levels(self) -> list[float]:
        """`steps + 1` decreasing levels, the last of which is 0."""
        last = max(self.steps - 1, 1)
        return [float(self.at(1 - k / last)) for k in range(self.steps)] + [0.0]


@dataclass(frozen=True, kw_only=True)
class RangeSchedule(Schedule):
    """A schedule between two given levels.

    Args:
        steps: Number of moves; the last one goes from `sigma_min` to 0.
        sigma_min: Lowest level above 0, in data units.
        sigma_max: Highest level, in data units.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise InputError(
                "A schedule needs 0 < sigma_min < sigma_max; "
                f"got sigma_min={self.sigma_min} and sigma_max={self.sigma_max}."
            )


@dataclass(frozen=True, kw_only=True)
class Karras(RangeSchedule):
    """Levels on a straight line in `sigma^(1/rho)` (Karras et al., 2022, arXiv:2206.00364), equation 5."""

    rho: float = 7.0
    limits: ClassVar = {"rho": "(0, inf)"}

    @override
    def at(self, u: Level) -> Level:
        low, high = self._ends
        return power(low + u * (high - low), self.rho)

    @override
    def time(self, sigma: float) -> float:
        low, high = self._ends
        return max(0.0, (math.pow(sigma, 1 / self.rho) - low) / (high - low))

    @property
    def _ends(self) -> tuple[float, float]:
        return math.pow(self.sigma_min, 1 / self.rho), math.pow(self.sigma_max, 1 / self.rho)


@dataclass(frozen=True, kw_only=True)
class LogLinear(RangeSchedule):
    """Levels at equal ratios."""

    @override
    def at(self, u: Level) -> Level:
        exponent = u * math.log(self.sigma_max / self.sigma_min)
        return self.sigma_min * exp(exponent)

    @override
    def time(self, sigma: float) -> float:
        if sigma <= self.sigma_min:
            return 0.0
        return math.log(sigma / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True, kw_only=True)
class Flow(RangeSchedule):
    """Equal steps of the flow-matching time `t = sigma / (1 + sigma)`."""

    @override
    def at(self, u: Level) -> Level:
        low, high = self.sigma_min / (1 + self.sigma_min), self.sigma_max / (1 + self.sigma_max)
        t = low + u * (high - low)
        return t / (1 - t)

    @override
    def time(self, sigma: float) -> float:
        low, high = self.sigma_min / (1 + self.sigma_min), self.sigma_max / (1 + self.sigma_max)
        return max(0.0, (sigma / (1 + sigma) - low) / (high - low))


@dataclass(frozen=True, kw_only=True)
class VP(Schedule):
    """Equal steps of the time of the variance preserving SDE (Song et al., 2021, arXiv:2011.13456).

    Args:
        steps: Number of moves.
        beta_min: Rate of noise at time 0.
        beta_max: Rate of noise at time 1.
        start: Time of the lowest level above 0.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    start: float = 1e-3
    limits: ClassVar = {"beta_min": "(0, inf)", "beta_max": "(0, inf)", "start": "(0, 1)"}

    def __post_init__(self) -> None:
        require(
            self.beta_min < self.beta_max,
            f"The rate of noise grows: beta_min={self.beta_min} is not below beta_max={self.beta_max}.",
        )

    @override
    def at(self, u: Level) -> Level:
        t = self.start + u * (1 - self.start)
        exponent = self.beta_min * t + (self.beta_max - self.beta_min) / 2 * t**2
        return root(expm1(exponent))

    @override
    def time(self, sigma: float) -> float:
        half, slope = self.beta_min, self.beta_max - self.beta_min
        t = (math.sqrt(half**2 + 2 * slope * math.log1p(sigma**2)) - half) / slope
        return max(0.0, (t - self.start) / (1 - self.start))


@dataclass(frozen=True, kw_only=True)
class Table(Schedule):
    """Equal steps of the index of a DDPM noise table, rounded down to whole indices: the grid of MGPS and MGDM.

    Entry 0 of the table is `sigma = 0`, entry k the level after k training steps, and n grid points are
    entries `floor(linspace(0, N - 1, n))`, so that `steps = n - 1`.

    Args:
        steps: Number of moves, one fewer than grid points; at most N - 1, 999 for DDPM's table.
        betas: The noise table.
    """

    betas: Betas = field(default_factory=LinearBetas)

    def __post_init__(self) -> None:
        most = self.most
        require(
            self.steps <= most,
            f"A table of {most + 1} entries has at most steps={most}; {self.steps} were asked for.",
        )

    @property
    def most(self) -> int:
        """The most steps that the table allows."""
        return len(_entries(self.betas)) - 1

    @override
    def at(self, u: Level) -> Level:
        entries = _entries(self.betas)
        # The nudge keeps a time that came out of `time` at its own entry.
        if isinstance(u, Tensor):
            index = (u.double() * (len(entries) - 1) + 1e-6).floor().long()
            return _entries_on(self.betas, u.device)[index.clamp(0, len(entries) - 1)]
        return float(entries[min(int(u * (len(entries) - 1) + 1e-6), len(entries) - 1)])

    @override
    def time(self, sigma: float) -> float:
        entries = _entries(self.betas)
        return float(np.interp(sigma, entries, np.linspace(0, 1, len(entries))))

    @property
    @override
    def lowest(self) -> float:
        return float(_entries(self.betas)[1])

    @override
    def levels(self) -> list[float]:
        return [float(self.at(1 - k / self.steps)) for k in range(self.steps + 1)]


@lru_cache(maxsize=16)
def _entries(betas: Betas) -> np.ndarray:
    return np.array((0.0, *betas.sigmas[:-1]))


@lru_cache(maxsize=16)
def _entries_on(betas: Betas, device: torch.device) -> Tensor:
    with outside_inference():
        return torch.from_numpy(_entries(betas)).to(device)


@lru_cache(maxsize=64)
def levels_of(schedule: Schedule) -> tuple[float, ...]:
    """The levels of a schedule, computed once."""
    return tuple(schedule.levels())
