"""Samplers of tilted laws by name, and at a budget."""

import dataclasses
import warnings
from typing import Any

import posteria as po
from lib.measure import BLOCK, Draws, joined, measure, seeds_of
from posteria.core.errors import PosteriaError
from posteria.core.meter import Meter
from posteria.runs import settings as command_line
from posteria.samplers import TILTED_SAMPLERS, Guided, Sampler
from posteria.samplers.particles.population import TiltedPopulation

from .tilts import Tilt, with_models

# Evaluations and vjps of both members, per sample.
BUDGETS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
# Fields beside the schedule that hold numbers of levels, and grow with it.
LEVELS = ("initial", "round_steps")
# Numbers of levels on which a cost is counted, and the most that a budget may buy.
PROBES, MOST = (8, 16), 2000
# Rules that a method has not got are those of a solver.
METHODS = [*po.guidance.RULES, *(name for name in TILTED_SAMPLERS if name != "guided")]


def method(name: str, tilt: Tilt) -> Sampler[Any]:
    """A rule with the solver that suits it (Heun's, or DDIM), or a sampler of `TILTED_SAMPLERS`, with its models.

    Raises:
        CapabilityError: If it needs a model that is not there.
    """
    networks = tilt.exact is None
    made = name not in po.guidance.RULES and not networks
    chosen = TILTED_SAMPLERS[name]() if made else command_line.choose_rule(name, None, None, {})
    if name == "rlg" and not networks and isinstance(chosen, Guided):
        chosen = dataclasses.replace(chosen, rule=po.guidance.RLG(guidance=0.0))
    full = with_models(chosen, tilt.models)
    if not isinstance(full, Sampler):
        raise TypeError(f"{name} is no sampler")
    command_line.check(full, tilt.targets[0], [0])
    return full


def refused(name: str, tilt: Tilt) -> str | None:
    """Why a method cannot draw, in a sentence; None if it can."""
    try:
        method(name, tilt)
    except PosteriaError as error:
        return str(error)
    return None


def at_levels(sampler: Sampler[Any], steps: int) -> Sampler[Any]:
    """The sampler with another number of levels, in which its parts keep their shares."""
    before = sampler.schedule.steps
    shares: dict[str, Any] = {
        name: max(2, round(getattr(sampler, name) * steps / before))
        for name in LEVELS
        if getattr(sampler, name, None) is not None
    }
    return dataclasses.replace(sampler.with_steps(steps), **shares)


def fitted(sampler: Sampler[Any], target: po.Tilted) -> Sampler[Any]:
    """The sampler, with coefficients if its rule needs some, which are not counted."""
    if command_line.unfitted(sampler) is None:
        return sampler
    return command_line.fitted(sampler, target)


def cost(sampler: Any, target: po.Tilted, meter: Meter) -> int:
    """Evaluations and vjps of one sample or one particle, counted."""
    if isinstance(sampler, TiltedPopulation) and sampler.particles > 1:
        sampler = dataclasses.replace(sampler, particles=2)
    if command_line.unfitted(sampler) is not None:
        # In DDIM, with half of the levels guided and every second estimate skipped; not worth a fit.
        steps: int = sampler.schedule.steps
        return steps + -(-steps // 4)
    with warnings.catch_warnings():
        # Of few levels, at which samples may run away.
        warnings.simplefilter("ignore", RuntimeWarning)
        drawn = measure(sampler, target, [0], meter)
    return round(drawn.evaluations + drawn.vjps)


def at_budget(sampler: Sampler[Any], tilt: Tilt, budget: int) -> Sampler[Any]:
    """The sampler with the levels that a budget buys, by its cost on one sample.

    Raises:
        InputError: If it does not buy the levels that the sampler needs.
    """

    def spent(steps: int) -> int:
        return cost(at_levels(sampler, steps), tilt.targets[0], tilt.meter)

    few, more = (spent(n) for n in PROBES)
    slope = max((more - few) / (PROBES[1] - PROBES[0]), 0.1)
    steps = min(int(PROBES[0] + (budget - few) / slope), MOST)
    while steps > 2 and spent(steps) > budget:
        steps -= 1
    if steps < 2 or spent(steps) > budget:
        raise po.InputError(f"A budget of {budget} is too small for {type(sampler).__name__}.")
    return at_levels(sampler, steps)


def draw(chosen: Sampler[Any], tilt: Tilt) -> dict[str, Any]:
    """What the objective wants: samples of every law, one after the other, and what they cost."""
    drawn: list[Draws] = []
    blocks = -(-tilt.each // BLOCK)
    for place, target in enumerate(tilt.targets):
        seeds = seeds_of(tilt.seed + place * blocks, tilt.each)
        sampler = fitted(chosen, target)
        parts = sampler.batches(seeds, tilt.batch)
        drawn += [measure(sampler, target, part, tilt.meter) for part in parts]
    return joined(drawn, chosen)
