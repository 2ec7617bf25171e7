"""What samplers share whose unit is a population of particles."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..core.errors import require
from ..core.rng import Rng
from ..diffusion.solver import State
from ..target import Posterior
from .posterior import PosteriorSampler


@dataclass(frozen=True, kw_only=True)
class ParticleState(State):
    """Where populations stand; `x` and `x0` are `[populations, particles, *event]`.

    Args:
        log_weight: Of the particles, `[populations, particles]` in float64; it averages to the evidence
            so far.
        log_evidence: Log of the estimate of p(y) up to the last resampling, `[populations]`.
    """

    log_weight: Tensor
    log_evidence: Tensor


P = TypeVar("P", bound=ParticleState)


class Populations(Posterior):
    """A posterior as particles see it: `y` has an axis of populations and one of length 1 for particles."""

    def __post_init__(self) -> None:
        """Nothing: the posterior it was made of has been checked."""


class Roll(NamedTuple):
    """Which populations some seeds ask for.

    Attributes:
        seeds: Of each population.
        y: Of each population, `[populations, 1, *measurement]`, or `[*measurement]` for all.
        population: Of each sample, an index into those.
        particle: Of each sample.
    """

    seeds: list[int]
    y: Tensor
    population: Tensor
    particle: Tensor


@dataclass(frozen=True, kw_only=True)
class PopulationSampler(PosteriorSampler[P], Generic[P]):
    """A sampler that moves populations of particles, which are resampled by their weights.

    Seed s is particle `s mod particles` of population `s div particles`. A population is always
    simulated whole and from its own stream, so that a sample is a function of its seed alone, and
    seeds of one population share its cost. Where each sample has a measurement of its own,
    so has its population.

    Args:
        particles: Size of a population.
        threshold: A population is resampled when its effective size is below this share of it; 0
            is never and 1 at every step.
    """

    particles: int = 512
    threshold: float = 0.5

    def __post_init__(self) -> None:
        require(
            self.particles >= 2,
            f"A population has at least 2 particles; particles={self.particles}.",
        )
        require(
            0 <= self.threshold <= 1,
            f"threshold is a share of the particles, from 0 to 1; {self.threshold} is not.",
        )

    def roll(self, target: Posterior, seeds: Sequence[int]) -> Roll:
        """The populations that `seeds` ask for."""
        unit = [(seed // self.particles, seed % self.particles) for seed in seeds]
        measurement = target.likelihood.measurement
        if measurement is None or not measurement.batch(target.y):
            rows, y = [0] * len(unit), target.y
        else:
            y, which = torch.unique(target.y, dim=0, return_inverse=True)
            rows = which.expand(len(unit)).tolist()
            y = y[:, None]
        wanted = sorted({(number, row) for (number, _), row in zip(unit, rows, strict=True)})
        index = {key: i for i, key in enumerate(wanted)}
        if measurement is not None and y.ndim > len(measurement.shape):
            y = y[[row for _, row in wanted]]
        pairs = zip(unit, rows, strict=True)
        population = torch.tensor([index[number, row] for (number, _), row in pairs])
        particle = torch.tensor([particle for _, particle in unit])
        return Roll([number for number, _ in wanted], y, population, particle)

    def arrange(self, target: Posterior, seeds: Sequence[int]) -> tuple[Posterior, Rng]:
        """See `Sampler`."""
        roll = self.roll(target, seeds)
        device = target.space.device
        return Populations(target.prior, target.likelihood, roll.y), Rng(roll.seeds, device)

    def draws(self, target: Posterior, state: P, seeds: Sequence[int]) -> Tensor:
        """See `Sampler`."""
        roll = self.roll(target, seeds)
        return state.x[roll.population, roll.particle]

    @property
    def shared(self) -> int:
        """See `Sampler`."""
        return self.particles

    def log_evidence(self, target: Posterior, seeds: Sequence[int]) -> Tensor:
        """Log of the unbiased estimates of p(y) of the populations that `seeds` ask for, `[populations]`."""
        return deque(self.iterate(target, seeds), maxlen=1)[0].log_evidence

    def batches(self, seeds: Sequence[int], size: int) -> list[list[int]]:
        """See `Sampler`; a batch is a population, whatever `size` is."""
        return [list(part) for _, part in groupby(seeds, lambda seed: seed // self.particles)]


def effective_size(log_weight: Tensor) -> Tensor:
    """Effective number of particles as a share of all, `[populations, particles]` to `[populations]` (Kong, 1994)."""
    weight = log_weight.softmax(-1)
    return 1 / ((weight**2).sum(-1) * log_weight.shape[-1])


def log_mean(log_weight: Tensor) -> Tensor:
    """Log of the mean weight of each population."""
    return log_weight.logsumexp(-1) - math.log(log_weight.shape[-1])


def take(x: Tensor, ancestors: Tensor) -> Tensor:
    """The particles that are `ancestors` `[populations, particles]`."""
    rows = torch.arange(len(x), device=x.device)[:, None]
    return x[rows, ancestors]


def select(state: P, rng: Rng, threshold: float) -> tuple[P, Tensor]:
    """Resample the populations whose effective size is below a share of the particles.

    The others keep their weights. Where a population is resampled, its mean weight goes into the estimate
    of the evidence.

    Returns:
        The state with `x`, weights and evidence after the selection, and the ancestors by which a
        sampler selects what else it keeps.
    """
    low = effective_size(state.log_weight) < threshold
    # Every population draws, so that its stream does not depend on what others do.
    ancestors = rng.resample(state.log_weight)
    stay = torch.arange(ancestors.shape[-1], device=ancestors.device).expand_as(ancestors)
    ancestors = torch.where(low[:, None], ancestors, stay)
    mean = log_mean(state.log_weight)
    chosen: dict[str, Any] = {
        "x": take(state.x, ancestors),
        "x0": take(state.x0, ancestors),
        "log_weight": torch.where(low[:, None], 0.0, state.log_weight),
        "log_evidence": state.log_evidence + torch.where(low, mean, 0.0),
    }
    return replace(state, **chosen), ancestors


def finish(state: P, rng: Rng) -> P:
    """Equally weighted particles in a random order, so that any few of them are draws as good as any other."""
    log_evidence = state.log_evidence + log_mean(state.log_weight)
    ancestors = rng.resample(state.log_weight)
    order = rng.permutation(ancestors.shape[-1])
    ancestors = ancestors.gather(-1, order)
    chosen: dict[str, Any] = {
        "x": take(state.x, ancestors),
        "x0": take(state.x0, ancestors),
        "log_weight": torch.zeros_like(state.log_weight),
        "log_evidence": log_evidence,
    }
    return replace(state, **chosen)
