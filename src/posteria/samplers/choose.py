"""How much a sampler costs on a target, how many steps a budget buys, and which sampler suits a target."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InputError, require
from ..core.linalg import LinearMap
from ..core.space import Space
from ..diffusion.denoiser import Counted, Denoiser
from ..diffusion.schedule import Karras, RangeSchedule, Schedule, Table
from ..likelihood import GaussianLikelihood
from ..operators.base import LinearOperator
from ..target import Posterior
from .mgdm import MGDM
from .mgps import MGPS
from .posterior import PosteriorSampler
from .scale import prior_draws
from .twisted import TwistedSMC

# Up to so many measurements, matched moments take one vjp each and the exact sampler is affordable.
FEW = 16
# The highest level in units of the prior's widest direction.
DWARFED = 10.0
# Fewest steps that a budget must buy.
FEWEST = 5


class _Free(Denoiser):
    """A prior that costs nothing, on which the work of a sampler is counted."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """See `Denoiser`."""
        return x / (1 + self._variance(sigma))

    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        """See `Denoiser`."""
        variance = self._variance(sigma)
        return x / (1 + variance), lambda v: v / (1 + variance)

    def _variance(self, sigma: float | Tensor) -> float | Tensor:
        return self.space.per_sample(
            sigma.to(self.space.dtype) ** 2 if isinstance(sigma, Tensor) else sigma**2
        )


def cost(sampler: PosteriorSampler[Any], target: Posterior) -> int:
    """Evaluations and vjps of the prior for one sample; for a population, its share of the whole."""
    measurement = target.likelihood.measurement
    y = target.y
    if measurement is not None and measurement.batch(y):
        y = y[0]
    counted = Counted(_Free(target.space))
    sampler.sample(Posterior(counted, target.likelihood, y), seeds=[0])
    return -(-(counted.forward + counted.backward) // sampler.shared)


def at_budget(
    sampler: PosteriorSampler[Any], target: Posterior, budget: int
) -> PosteriorSampler[Any]:
    """The sampler with as many steps as a budget of evaluations and vjps per sample buys.

    Raises:
        InputError: If it does not buy 5 steps.
    """

    def with_steps(steps: int) -> PosteriorSampler[Any]:
        schedule: Schedule = dataclasses.replace(sampler.schedule, steps=steps)
        return dataclasses.replace(sampler, schedule=schedule)

    least, more = cost(with_steps(FEWEST), target), cost(with_steps(2 * FEWEST), target)
    require(
        least <= budget,
        f"A budget of {budget} evaluations is too small for {type(sampler).__name__}: {FEWEST} steps cost {least}.",
    )
    # Most samplers cost the same at each step; the others are found by going on from there.
    steps = FEWEST + (budget - least) * FEWEST // max(more - least, 1)
    most = sampler.schedule.most if isinstance(sampler.schedule, Table) else budget
    steps = min(steps, most)
    while cost(with_steps(steps), target) > budget:
        steps = max(FEWEST, min(steps - 1, int(0.97 * steps)))
    while steps < most and cost(with_steps(steps + 1), target) <= budget:
        steps += 1
    return with_steps(steps)


@dataclass(frozen=True)
class Choice:
    """A sampler that suits a target.

    Args:
        sampler: With its settings.
        why: In a sentence.
    """

    sampler: PosteriorSampler[Any]
    why: str


def choose(target: Posterior, budget: int = 1000) -> Choice:
    """The sampler to use for a target, by what was measured (docs/samplers.md).

    Args:
        target: The posterior.
        budget: Evaluations and vjps of the prior per sample, at least 100.

    Raises:
        InputError: If the budget is too small.
    """
    if budget < 100:
        raise InputError(f"A budget is at least 100 evaluations per sample; {budget} is not.")
    sampler, why = _kind(target)
    return Choice(at_budget(sampler, target, budget), f"{why} ({budget} evaluations a sample)")


def _kind(target: Posterior) -> tuple[PosteriorSampler[Any], str]:
    likelihood = target.likelihood
    if not isinstance(likelihood, GaussianLikelihood):
        return MGDM(), "MGDM: the noise is not Gaussian, and it needs no more than a gradient"
    size = likelihood.operator.codomain.size
    if size <= FEW:
        schedule = exact_schedule(target.prior)
        return TwistedSMC(
            schedule=schedule
        ), f"the exact sampler: there are {size} measurements only"
    kind = "linear" if isinstance(likelihood.operator, LinearOperator) else "nonlinear"
    return MGPS(), f"MGPS: {size} {kind} measurements with Gaussian noise"


def exact_schedule(prior: Denoiser) -> RangeSchedule:
    """Levels for the exact sampler, from one that dwarfs the prior to one that it dwarfs."""
    draws = prior.space.flatten(prior_draws(prior)).double()
    centred = draws - draws.mean(0)
    widest = float(torch.linalg.matrix_norm(centred, 2)) / (len(draws) - 1) ** 0.5
    narrow = float(centred.square().mean().sqrt())
    return Karras(sigma_min=min(0.01, narrow / 25), sigma_max=DWARFED * widest, steps=200)
