"""From words to samplers."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

import torch
from torch import nn

from ..analytic import Gaussian
from ..core.errors import CapabilityError, InputError, require, unknown
from ..core.meter import memory_of
from ..core.record import alternatives, described, suits
from ..diffusion.denoiser import Condition, Conditional, Denoiser, Label
from ..diffusion.parametrisation import Discrete
from ..diffusion.reading import beyond, highest, parametrisation_of
from ..diffusion.schedule import RangeSchedule, Table, levels_of
from ..diffusion.solver import SOLVERS, Heun
from ..guidance import RULES
from ..guidance.tilted.linear_ag import LinearAG
from ..likelihood import FunctionLikelihood
from ..priors import Prompt, faster, load_prior
from ..priors.card import Card
from ..priors.fast import WAYS
from ..priors.load import Origin, origin_of
from ..priors.local import Windowed
from ..samplers import (
    POSTERIOR_SAMPLERS,
    SAMPLERS,
    TILTED_SAMPLERS,
    Guided,
    PosteriorSampler,
    ReverseDiffusion,
    TiltedGibbs,
    Unconditional,
    at_budget,
    choose,
    rebuild_part,
    rebuild_sampler,
)
from ..samplers.base import Sampler
from ..samplers.choose import EXACT, noisy_only
from ..target import Posterior, Tilted
from .request import AUTO, SEEDS, UNCONDITIONAL, Measured, Request
from .results import plural
from .scales import recall

S = TypeVar("S", bound=Sampler[Any])
Chosen = tuple[PosteriorSampler[Any], str | None]
# Ways to be faster, or to need less memory, in which a prior is loaded, beside those of `WAYS`.
LOADED: dict[str, dict[str, Any]] = {"checkpoint": {"checkpoint": True}}
LOADED |= {name: {"dtype": getattr(torch, name)} for name in ("bfloat16", "float16")}
# Samplers whose defaults are made for few dimensions.
FOR_NETWORKS: dict[str, Sampler[Any]] = {"tilted": TiltedGibbs.published("pictures")}
# Seeds of the trajectories to which LinearAG is fitted: the last there are, because they should not
# be those of samples.
TRAJECTORIES = range(SEEDS - 32, SEEDS)


def checked_device(name: str) -> str:
    """The name of a device, if posteria runs on it and PyTorch has it.

    Raises:
        InputError: If not.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"{name!r} is not a device; there are cpu and cuda.") from error
    if device.type not in {"cpu", "cuda"}:
        raise InputError(f"Samples are drawn on cpu or cuda; {name!r} is neither.")
    there = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= there:
        raise InputError(
            f"PyTorch finds {there or 'no'} CUDA devices on this machine, not {name!r}; run with --device cpu."
        )
    return name


def condition_of(request: Request) -> Condition | None:
    """The class or the text that a request names."""
    if request.prompt is not None:
        return Prompt(request.prompt)
    return None if request.label is None else Label(request.label)


def member_of(request: Request, card: Card) -> tuple[Denoiser, Origin]:
    """The prior of a request under its condition, told the scale that an earlier run measured, and what it is made of.

    Raises:
        InputError: See `prior_of`.
    """
    prior, origin, condition = prior_of(request, card), origin_of(card), condition_of(request)
    member: Denoiser = prior
    if condition is not None:
        one = request.power == 1
        member = prior.given(condition) if one else Tilted(prior, condition, request.power)
    recall(member, request, origin)
    return member, origin


def prior_of(request: Request, card: Card) -> Conditional:
    """The prior of a request, on its device and at its size.

    Args:
        request: Which names it.
        card: Of the prior.

    Raises:
        InputError: If there is none, or its samples or its widest layers alone need more memory than there is.
    """
    device = checked_device(request.device)
    at_once = min(request.at_once, len(request.drawn_seeds))
    if request.size is not None:
        # The iterate, the estimate and the noise; before anything of that size is made.
        shape = (*(card.shape[:1] or (3,)), *request.size)
        expect_memory(at_once, shape, 3 * 4 * at_once * math.prod(shape), device)
    null = None if request.negative is None else Prompt(request.negative)
    for way in {*request.fast} - {*WAYS, *LOADED}:
        raise unknown("way to be faster", way, (*WAYS, *LOADED))
    how = {key: value for way in request.fast for key, value in LOADED.get(way, {}).items()}
    both = {"bfloat16", "float16"} <= {*request.fast}
    require(not both, "--fast takes bfloat16 or float16, not both.")
    prior = load_prior(request.prior, device=device, size=request.size, null=null, **how)
    module, space = getattr(prior, "module", None), prior.space
    # One that is evaluated in windows holds no layer of the whole picture.
    windowed = isinstance(module, Windowed)
    layers = module.modules() if isinstance(module, nn.Module) and not windowed else ()
    first = next((layer for layer in layers if isinstance(layer, nn.Conv2d)), None)
    width = 1.0 if first is None else first.out_channels / first.in_channels
    # The iterate, the estimate and the noise; in the last block of a U-Net two halves, thrice.
    needed = (3 + 6 * width) * at_once * space.size * space.dtype.itemsize
    expect_memory(at_once, space.shape, needed, str(space.device))
    ways = {way: True for way in request.fast if way in WAYS}
    return faster(prior, **ways) if ways else prior


def expect_memory(at_once: int, shape: Sequence[int], needed: float, device: str) -> None:
    """Raise `InputError` if samples drawn at once need more bytes than the memory of their device has."""
    there = memory_of(torch.device(device)) / 1024
    if needed / 2**30 > there:
        several = at_once > 1
        fewer = "fewer at once with --chunk, or smaller ones" if several else "a smaller one"
        raise InputError(
            f"{plural(at_once, 'sample')} of shape {tuple(shape)} {'at once need' if several else 'needs'} about "
            f"{needed / 2**30:.0f} GiB of memory, and there are {there:.0f}; draw {fewer} with --size (and --fit)."
        )


def choose_sampler(
    name: str, preset: str | None, steps: int | None, settings: Mapping[str, str]
) -> PosteriorSampler[Any]:
    """A sampler of a posterior.

    Args:
        name: In `POSTERIOR_SAMPLERS`, or the sampler's `repr`.
        preset: Name of published settings.
        steps: Steps of the schedule, if not the sampler's own.
        settings: Further settings by the sampler's own names, each as its `repr`.

    Raises:
        InputError: For an unknown name, or a value that does not suit it.
    """
    if "(" in name:
        if preset is not None:
            raise InputError(f"{name} has settings of its own; leave --preset out.")
        sampler = rebuild_sampler(name)
        if not isinstance(sampler, PosteriorSampler):
            raise InputError(f"{name} does not sample posteriors; see `posteria list samplers`.")
    elif name in POSTERIOR_SAMPLERS:
        kind = POSTERIOR_SAMPLERS[name]
        sampler = kind() if preset is None else kind.published(preset)
    else:
        raise unknown("sampler", name, [*POSTERIOR_SAMPLERS, AUTO])
    changes = {key: setting(sampler, name, key, text) for key, text in settings.items()}
    return _with_steps(sampler, steps, changes)


def sampler_of(request: Measured, asked: Measured | None = None) -> Callable[[Posterior], Chosen]:
    """Gives the sampler that a request names, or lets choose, for a target, and why it was chosen.

    Args:
        request: With the usual sampler where none was asked for.
        asked: As it was given. Where it says nothing of the sampler but its steps, a signal that is noisy and nothing
            else is drawn exactly.

    Raises:
        InputError: At once, for an unknown name, or a value that does not suit it.
    """
    auto, budget = request.sampler == AUTO, request.budget
    words = (request.sampler, request.preset, request.steps, request.settings)
    named = None if auto else choose_sampler(*words)
    free = asked is not None and not (asked.sampler or asked.preset or asked.settings)
    set_ = "(" in request.sampler or "schedule" in request.settings

    def chosen(target: Posterior) -> Chosen:
        if named is None:
            most = 1000 if budget is None else budget
            choice = choose(target, most, samples=request.samples)
            return within(choice.sampler, target.prior), choice.why
        sampler, why = named, None
        if asked is not None and free and noisy_only(target):
            sampler, why = _with_steps(ReverseDiffusion(), asked.steps, {}), EXACT
        sampler = within(sampler, target.prior, set_)
        return sampler if budget is None else at_budget(sampler, target, budget), why

    return chosen


def within(sampler: S, prior: Denoiser, set_: bool = False) -> S:
    """The sampler with its levels cut to those that the prior's network knows.

    Args:
        sampler: Any.
        prior: What it draws from, or its prior.
        set_: Whether somebody set the schedule, and did not leave it open.

    Raises:
        InputError: If somebody did, or it is of a kind that cannot be cut.
    """
    above = beyond(levels_of(sampler.schedule)[0], prior)
    if not above:
        return sampler
    schedule, reading = sampler.schedule, parametrisation_of(prior)
    if not set_ and isinstance(reading, Discrete) and isinstance(schedule, Table):
        schedule = dataclasses.replace(schedule, betas=reading.betas)
    elif not set_ and isinstance(schedule, RangeSchedule):
        schedule = dataclasses.replace(schedule, sigma_max=highest(reading))
    else:
        raise InputError(above)
    return dataclasses.replace(sampler, schedule=schedule)


def _with_steps(sampler: S, steps: int | None, changes: Mapping[str, Any]) -> S:
    if steps is not None:
        schedule = changes.get("schedule", sampler.schedule)
        changes = {**changes, "schedule": dataclasses.replace(schedule, steps=steps)}
    return dataclasses.replace(sampler, **changes)


def settings_of(owner: Any) -> list[str]:
    """The names of a dataclass' fields."""
    return [field.name for field in dataclasses.fields(owner)]


def setting(owner: Any, name: str, key: str, text: str) -> Any:
    """The value of a setting, of the kind that a dataclass' field has.

    Args:
        owner: A sampler, or a part of one.
        name: What it is called.
        key: Name of the field.
        text: The value's `repr`.

    Raises:
        InputError: If there is no such field, or the value does not suit it.
    """
    known = settings_of(owner)
    if key not in known:
        raise unknown(f"setting of {name}", key, known)
    hint = get_type_hints(type(owner))[key]
    kinds = alternatives(hint)
    value: Any = text
    fault = None
    try:
        value = rebuild_part(text)
    except InputError as error:
        fault = error
    if float in kinds and type(value) is int:
        value = float(value)
    if not any(suits(value, kind) for kind in kinds):
        why = f" {fault}" if fault and "(" in text else ""
        raise InputError(
            f"{key} takes {described(hint)}, such as {getattr(owner, key)!r}; {text!r} is not one.{why}"
        )
    return value


def choose_rules(
    rules: Sequence[str], solver: str | None, steps: int | None, settings: Mapping[str, str]
) -> dict[str, Sampler[Any]]:
    """Samplers by the names of their rules.

    Args:
        rules: Names.
        solver: See `choose_rule`.
        steps: See `choose_rule`.
        settings: `FIELD` changes all rules that have the field, and `RULE.FIELD` one of them.

    Raises:
        InputError: For an unknown or repeated name, or a value that does not suit it.
    """
    for name in rules:
        require(rules.count(name) == 1, f"The rule {name!r} was named twice.")
    plain = {name: choose_rule(name, None, None, {}) for name in rules}
    chosen: dict[str, dict[str, str]] = {name: {} for name in rules}
    # A setting of one rule overrides that of all.
    for key, text in sorted(settings.items(), key=lambda item: "." in item[0]):
        rule, _, own = key.rpartition(".")
        if rule and rule not in chosen:
            raise unknown("rule in this run", rule, chosen)
        named = [rule] if rule else [name for name in rules if own in _known(plain[name])]
        if not named and len(rules) > 1:
            raise InputError(f"None of {', '.join(rules)} has a setting {own!r}.")
        for name in named or rules:
            chosen[name][own] = text
    return {name: choose_rule(name, solver, steps, chosen[name]) for name in rules}


def choose_rule(
    name: str, solver: str | None, steps: int | None, settings: Mapping[str, str]
) -> Sampler[Any]:
    """A sampler of a tilted law by name.

    Args:
        name: In `RULES` (the rule runs with a solver), in `TILTED_SAMPLERS`, or in `POSTERIOR_SAMPLERS`;
            see `by_classifier` for the last.
        solver: In `SOLVERS`, if not what suits the rule.
        steps: Steps of the schedule, if not the sampler's own.
        settings: Further settings by the names that the rule or the sampler has for them, each as its `repr`.

    Raises:
        InputError: For an unknown name, or a value that does not suit it.
    """
    if name not in RULES and name not in {*SAMPLERS, UNCONDITIONAL}:
        raise unknown("rule", name, [*RULES, *TILTED_SAMPLERS, *by_classifier(), UNCONDITIONAL])
    if name in RULES:
        rule = RULES[name]()
        sampler: Sampler[Any] = Guided(rule=rule, solver=rule.suited)
    elif name == UNCONDITIONAL:
        sampler = Unconditional()
    else:
        sampler = FOR_NETWORKS.get(name, SAMPLERS[name]())
    changes: dict[str, Any] = {}
    for key in settings:
        if key not in _known(sampler):
            raise unknown(f"setting of {name}", key, _known(sampler))
    if name in RULES and isinstance(sampler, Guided):
        own = settings_of(sampler.rule)
        of_rule = {k: setting(sampler.rule, name, k, v) for k, v in settings.items() if k in own}
        settings = {key: text for key, text in settings.items() if key not in own}
        changes["rule"] = dataclasses.replace(sampler.rule, **of_rule)
    changes |= {key: setting(sampler, name, key, text) for key, text in settings.items()}
    if solver is not None:
        if solver not in SOLVERS:
            raise unknown("solver", solver, SOLVERS)
        if "solver" not in settings_of(sampler):
            raise InputError(f"{name} has a scheme of its own; leave --solver out.")
        changes["solver"] = SOLVERS[solver]()
    return _with_steps(sampler, steps, changes)


def by_classifier() -> list[str]:
    """The samplers of a posterior that take any likelihood, here a classifier's p(c | x) to a power."""
    return [name for name, kind in POSTERIOR_SAMPLERS.items() if _takes_any_likelihood(kind())]


def _takes_any_likelihood(sampler: Sampler[Any]) -> bool:
    likelihood = FunctionLikelihood(lambda y, x: -x.square().sum(-1))
    prior = Gaussian(torch.zeros(1), torch.eye(1))
    try:
        sampler.check(Posterior(prior, likelihood, torch.zeros(1)), (0,))
    except CapabilityError:
        return False
    return True


def _known(sampler: Sampler[Any]) -> list[str]:
    """The settings of a sampler's rule and of its own."""
    rule = [sampler.rule] if isinstance(sampler, Guided) else []
    return [key for owner in (*rule, sampler) for key in settings_of(owner)]


def unfitted(sampler: Sampler[Any]) -> LinearAG | None:
    """Its LinearAG that has no coefficients yet; None if there is none."""
    rule = sampler.rule if isinstance(sampler, Guided) else None
    return rule if isinstance(rule, LinearAG) and not rule.levels else None


def check(sampler: Sampler[Any], target: Denoiser | Posterior, seeds: Sequence[int]) -> None:
    """Raise before any work if a sampler cannot draw from a target, or will not once it is fitted."""
    rule = unfitted(sampler)
    if rule is None or not isinstance(target, Tilted):
        sampler.check(target, seeds)
        return
    require(
        not isinstance(getattr(sampler, "solver", None), Heun),
        "LinearAG needs a solver of one evaluation a step; choose --solver ddim, ddpm or dpmpp2m.",
    )
    dataclasses.replace(rule, levels=levels_of(sampler.schedule)[:-1]).check(target)


def fitted(sampler: Sampler[Any], target: Tilted) -> Sampler[Any]:
    """The sampler with a LinearAG that is fitted to its target and its levels."""
    own = unfitted(sampler)
    weight = None if own is None else own.weight
    rule = LinearAG.fit(target, sampler.schedule, TRAJECTORIES, weight=weight)
    return dataclasses.replace(sampler, rule=rule)  # type: ignore[call-arg]
