"""A sampler on many measurements, batch by batch."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import posteria as po
from posteria.bench import Draws, measure
from posteria.samplers import POSTERIOR_SAMPLERS, PosteriorSampler

# Particles of a population, of which one is a sample: posteriors of pictures are wide, and each
# picture has a population of its own.
PARTICLES = 8
# No higher a level than the shipped priors were trained at.
HIGHEST = 80.0


def of_pictures(name: str) -> PosteriorSampler[Any]:
    """A sampler's defaults for pictures, by its name in the registry."""
    kind: type[Any] = POSTERIOR_SAMPLERS[name]
    population = "particles" in {field.name for field in dataclasses.fields(kind)}
    sampler: PosteriorSampler[Any] = kind(particles=PARTICLES) if population else kind()
    schedule = sampler.schedule
    if isinstance(schedule, (po.Karras, po.LogLinear)):
        schedule = dataclasses.replace(schedule, sigma_max=min(schedule.sigma_max, HIGHEST))
        sampler = dataclasses.replace(sampler, schedule=schedule)
    return sampler


def alone(target: po.Posterior) -> po.Posterior:
    """The target of the first measurement, on which budgets are counted and samplers checked."""
    return dataclasses.replace(target, y=target.y[:1])


@dataclass(frozen=True, eq=False)
class OfPictures:
    """Many posteriors, one sample of each.

    Args:
        target: A row of `y` for each sample.
        seeds: One a sample.
        batch: Samples at a time.
    """

    target: po.Posterior
    seeds: Sequence[int]
    batch: int

    def draw(self, sampler: PosteriorSampler[Any]) -> dict[str, Any]:
        """What the objective wants: samples, and what they cost.

        A population counts its particles, and gives one sample: each seed is that of a population.
        """
        parts: list[Draws] = []
        for first in range(0, len(self.seeds), self.batch):
            rows = slice(first, first + self.batch)
            target = dataclasses.replace(self.target, y=self.target.y[rows])
            seeds = [seed * sampler.shared % 2**32 for seed in self.seeds[rows]]
            parts.append(measure(sampler, target, seeds))
        each = [part.evaluations for part in parts], [part.vjps for part in parts]
        return {
            "samples": torch.cat([part.samples for part in parts]).numpy(),
            "evaluations": float(np.mean(each[0])),
            "vjps": float(np.mean(each[1])),
            "seconds": sum(part.seconds for part in parts),
            "memory": max(part.memory for part in parts),
            "note": repr(sampler),
        }


def nothing(why: str) -> dict[str, Any]:
    """What the objective is given where there are no samples."""
    return {"samples": None, "note": why}
