"""What a sampler costs on a target, by what it declares, and how many steps a budget buys."""

import dataclasses
from typing import Any, TypeVar

from ..core.errors import InputError, expect, whole
from ..diffusion.schedule import Table
from ..target import Posterior
from .base import Sampler
from .fitted.mgdm import MGDM

S = TypeVar("S", bound=Sampler[Any])

# Fewest steps that a budget must buy.
FEWEST = 5


def cost(sampler: Sampler[Any], target: Posterior) -> int:
    """Evaluations and vjps of the prior for one sample; for a population, its share of the whole.

    Samples of different measurements share no population.

    Raises:
        CapabilityError: If the sampler does not declare them, or cannot draw from the target.
    """
    sampler.check(target, range(expect(target, Posterior, by="A cost").rows))
    return _cost(sampler, target)


def _cost(sampler: Sampler[Any], target: Posterior) -> int:
    samples = target.rows if target.rows > 1 else sampler.shared
    worked = sampler.worked(target, range(samples))
    return -(-sampler.evaluations(target) * worked // (sampler.shared * samples))


def at_budget(sampler: S, target: Posterior, budget: int) -> S:
    """The sampler with as many steps as a budget of evaluations and vjps per sample buys.

    Many levels make MGDM surer of itself than it should be, and sweeps at few levels much less so: what
    would buy more levels than its own buys sweeps at half of them or a few more.

    Raises:
        InputError: If it does not buy 5 steps, or is no integer.
        CapabilityError: If the sampler does not declare its cost, or cannot draw from the target.
    """
    if whole(budget, "A budget") <= cost(sampler, target) or not isinstance(sampler, MGDM):
        return _stepped(sampler, target, budget)
    once = dataclasses.replace(sampler, gibbs=1)
    half = max(FEWEST, sampler.schedule.steps // 2)
    gibbs = max(1, budget // _cost(once.with_steps(half), target))
    # Each sweep costs the same.
    schedule = _stepped(once, target, budget // gibbs).schedule
    return dataclasses.replace(sampler, schedule=schedule, gibbs=gibbs)


def _stepped(sampler: S, target: Posterior, budget: int) -> S:
    """As `at_budget`, with all else as it is: the last of the step counts that are paid for, by halving."""
    least = _cost(sampler.with_steps(FEWEST), target)
    if least > budget:
        raise InputError(
            f"A budget of {budget} evaluations is too small for {type(sampler).__name__}: {FEWEST} steps cost {least}."
        )
    most = sampler.schedule.most if isinstance(sampler.schedule, Table) else budget
    low, high = FEWEST, max(most, FEWEST) + 1
    while high - low > 1:
        middle = (low + high) // 2
        paid = _cost(sampler.with_steps(middle), target) <= budget
        low, high = (middle, high) if paid else (low, middle)
    return sampler.with_steps(low)
