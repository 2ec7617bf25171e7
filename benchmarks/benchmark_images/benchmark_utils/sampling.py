"""A sampler on many measurements, batch by batch."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

import posteria as po
from lib.measure import Draws, joined, measure
from posteria.samplers import POSTERIOR_SAMPLERS, PosteriorSampler

# Particles of a population, of which one is a sample: posteriors of pictures are wide, and each
# picture has a population of its own.
PARTICLES = 8
# Of the population that gives all samples of a picture that is drawn several times.
WHOLE = 32
# No higher a level than the shipped priors were trained at.
HIGHEST = 80.0


def of_pictures(name: str) -> PosteriorSampler[Any]:
    """A sampler's defaults for pictures, by its name in the registry."""
    kind: type[Any] = POSTERIOR_SAMPLERS[name]
    population = "particles" in {field.name for field in dataclasses.fields(kind)}
    sampler: PosteriorSampler[Any] = kind(particles=PARTICLES) if population else kind()
    schedule = sampler.schedule
    if isinstance(schedule, (po.Karras, po.schedules.LogLinear)):
        schedule = dataclasses.replace(schedule, sigma_max=min(schedule.sigma_max, HIGHEST))
        sampler = dataclasses.replace(sampler, schedule=schedule)
    return sampler


def alone(target: po.Posterior) -> po.Posterior:
    """The target of the first measurement, on which budgets are counted and samplers checked."""
    return dataclasses.replace(target, y=target.y[:1])


@dataclass(frozen=True, eq=False)
class OfPictures:
    """Many posteriors: one sample of each picture, and `draws` more of a `few`.

    Args:
        target: A row of `y` for each sample; the last rows are of the few pictures in turn, again and again.
        seeds: One a sample.
        batch: Samples at a time.
        few: How many are drawn several times.
        draws: How often.
    """

    target: po.Posterior
    seeds: Sequence[int]
    batch: int
    few: int = 0
    draws: int = 0

    def draw(self, sampler: PosteriorSampler[Any]) -> dict[str, Any]:
        """What the objective wants: samples, and what they cost.

        A population counts its particles. It gives one sample of a picture that is drawn once, and all
        samples of a picture that is drawn several times.
        """
        rows = list(range(len(self.seeds)))
        single = len(rows) - self.few * self.draws
        if sampler.shared == 1:
            return joined(self._parts(sampler, rows, self.seeds), sampler)
        seeds = [seed * sampler.shared for seed in self.seeds[:single]]
        parts = self._parts(sampler, rows[:single], seeds)
        enlarged: Any = sampler
        # The population whose particles are the samples of one picture.
        whole = dataclasses.replace(enlarged, particles=max(WHOLE, self.draws))
        rows = rows[single:]
        seeds = [
            self.seeds[single + place] * whole.shared + turn
            for turn in range(self.draws)
            for place in range(self.few)
        ]
        # Whole, for those of a population share their work.
        return joined([*parts, *self._parts(whole, rows, seeds, batch=len(rows))], whole)

    def _parts(
        self, sampler: Any, rows: Sequence[int], seeds: Sequence[int], batch: int = 0
    ) -> list[Draws]:
        parts, size, y = [], batch or self.batch, self.target.y
        for first in range(0, len(rows), size):
            there = torch.tensor(rows[first : first + size]).to(y.device)
            chosen = [seed % 2**32 for seed in seeds[first : first + size]]
            parts.append(measure(sampler, dataclasses.replace(self.target, y=y[there]), chosen))
        return parts
