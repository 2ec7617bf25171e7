"""The budgets of a performance curve, and samplers that keep to one."""

from collections.abc import Sequence
from typing import Any

from posteria.core.errors import CapabilityError, InputError, expect, unknown
from posteria.samplers import rebuild_sampler
from posteria.samplers.base import Sampler
from posteria.samplers.budget import at_budget
from posteria.samplers.posterior import PosteriorSampler
from posteria.samplers.registry import SAMPLERS
from posteria.target import Posterior

# Evaluations and vjps of the prior, per sample.
BUDGETS = (100, 200, 500, 1000, 2000, 10_000)


def next_budget(budget: int, budgets: Sequence[int] = BUDGETS) -> int:
    """The next budget of a curve; it begins at 0 and goes on doubling beyond the last of `budgets`."""
    return next((later for later in budgets if later > budget), 2 * budget)


def sampler_named(name: str) -> Sampler[Any]:
    """A sampler of the registry by its name, or any by its `repr`; `InputError` if there is none."""
    if name in SAMPLERS:
        return SAMPLERS[name]()
    if "(" not in name:
        raise unknown("sampler", name, SAMPLERS)
    return rebuild_sampler(name)


def refusal(sampler: Sampler[Any], target: object, seeds: Sequence[int] = (0,)) -> str | None:
    """Why a sampler cannot draw from a target, in a sentence; `None` if it can."""
    try:
        sampler.check(target, seeds)
    except CapabilityError as error:
        return str(error)
    return None


def budgeted(name: str, target: Posterior, budget: int) -> PosteriorSampler[Any] | str:
    """The named sampler with the steps that a budget per sample buys, or a sentence why there is none."""
    sampler = sampler_named(name)
    if budget <= 0:
        return "Nothing is drawn without a budget."
    try:
        sampler.check(target, (0,))
        return at_budget(expect(sampler, PosteriorSampler, by="A budget"), target, budget)
    except (CapabilityError, InputError) as error:
        return str(error)
