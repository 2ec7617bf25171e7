"""What every sampler and every guidance rule must satisfy."""

from dataclasses import fields, is_dataclass
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from ..analytic import GaussianMixture
from ..core.errors import CapabilityError
from ..core.space import Space
from ..diffusion.denoiser import Condition, Denoiser, Family, Label
from ..diffusion.schedule import Karras, Schedule
from ..diffusion.solver import DDIM, Solver
from ..guidance.base import StepInfo, TiltedRule
from ..likelihood import GaussianLikelihood
from ..operators import Function, Matrix, Operator
from ..samplers import Guided, rebuild_sampler
from ..samplers.base import Sampler
from ..target import Posterior, Tilted, metered
from .parts import demand, normal, same


def example_posterior(kind: str = "linear", dtype: torch.dtype = torch.float64) -> Posterior:
    """A small posterior on events of shape (2, 3), for trying samplers: `linear` or `nonlinear`."""
    generator = torch.Generator().manual_seed(5)
    space = Space((2, 3), torch.float64)
    means = 2 * normal(generator, space, 3)
    factors = torch.randn(3, 6, 6, dtype=torch.float64, generator=generator) / 3
    covariances = factors @ factors.mT + 0.1 * torch.eye(6, dtype=torch.float64)
    prior = GaussianMixture(torch.ones(3), means.to(dtype), covariances.to(dtype))
    matrix = torch.randn(4, 6, dtype=torch.float64, generator=generator)
    operator: Operator = Matrix(matrix, (2, 3))
    if kind == "nonlinear":
        operator = Function(lambda x: torch.tanh(x.flatten(1) @ matrix.to(x).mT), (2, 3))
    y = operator(prior.sample(1, generator))[0]
    return Posterior(prior, GaussianLikelihood(operator, std=0.3), y)


def example_tilted(weight: float = 2.0, dtype: torch.dtype = torch.float64) -> Tilted:
    """A small tilted law on events of shape (2, 3) with the classes 0, 1 and 2, for trying rules."""
    prior = example_posterior(dtype=dtype).prior
    if not isinstance(prior, GaussianMixture):
        raise TypeError("the example's prior is a mixture")
    laws = (prior.weights, prior.means, prior.covariances)
    parts = zip(*(torch.split(part, 1) for part in laws), strict=True)
    members: dict[Condition | int, Denoiser] = {
        k: GaussianMixture(*part) for k, part in enumerate(parts)
    }
    return Tilted(Family(prior, members), Label(0), weight)


def check_sampler(
    sampler: Sampler[Any],
    target: Any = None,
    *,
    batches: tuple[int, ...] = (1, 16, 64),
    tolerance: float = 1e-10,
) -> None:
    """Check a sampler on `target`, by default a mixture seen through a matrix.

    Sample i is a function of seed i alone, whatever the batch and its order; a run stopped at any
    step and resumed is the same run; every sample costs the same whatever the batch; the caller's
    gradient mode is left alone; the `repr` rebuilds the sampler; a target of the wrong kind is
    refused by name. On the mixture, it draws the same law in float32.

    Args:
        sampler: The sampler.
        target: What it draws from.
        batches: Batch sizes to compare.
        tolerance: Largest difference, relative to the larger of 1 and the largest entry.
    """
    name, single = type(sampler).__name__, None
    if target is None:
        target, single = example_posterior(), example_posterior(dtype=torch.float32)
    largest = max(batches)
    seeds = list(range(100, 100 + largest))
    everything = sampler.sample(target, seeds=seeds)
    demand(bool(everything.isfinite().all()), f"{name} returned values that are not finite")
    for size in batches:
        chosen = seeds[-size:][::-1]
        part, words = (
            sampler.sample(target, chosen),
            f"{name}: a sample depends on its batch of {size}",
        )
        same(part, everything[-size:].flip(0), tolerance, words)
    few = [3, 7, 11]
    three, one = sampler.sample(target, seeds=few), sampler.sample(target, seeds=[7])
    words = f"{name}: sample 1 of seeds [3, 7, 11] is not that of seed [7]"
    same(three[1], one[0], tolerance, words)
    # Two particles of a population may be copies of one another.
    different = len(torch.unique(everything, dim=0))
    demand(different > largest / 4, f"{name}: different seeds gave the same sample")
    _check_resume(sampler, target, few, three, name)
    _check_cost(sampler, target, name)
    if single is not None:
        alike = range(256)
        _check_law(sampler.sample(single, alike), sampler.sample(target, alike), name)
    rebuilt = rebuild_sampler(repr(sampler), *_kinds(sampler))
    demand(rebuilt == sampler, f"{name}: its repr does not rebuild it")
    try:
        sampler.sample(object(), seeds=[0])
    except CapabilityError:
        return
    raise AssertionError(
        f"{name} did not refuse a target of the wrong kind with a CapabilityError"
    )


def _kinds(thing: Any) -> list[type]:
    if not is_dataclass(thing):
        return []
    inner = [_kinds(getattr(thing, field.name)) for field in fields(thing)]
    return [type(thing), *chain.from_iterable(inner)]


def _check_resume(
    sampler: Sampler[Any], target: Any, seeds: list[int], whole: Tensor, name: str
) -> None:
    steps = sampler.schedule.steps
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            for state, rng in islice(sampler.checkpoints(target, seeds), 1 + steps // 2):
                kept = torch.is_grad_enabled() == enabled
                demand(kept, f"{name} changes the caller's gradient mode")
                reached = (state, rng.state().clone())
    *_, last = sampler.iterate(target, seeds, resume=reached)
    drawn = sampler.draws(target, last, seeds)
    demand(torch.equal(drawn, whole), f"{name}: a resumed run is not the same run")


def _check_cost(sampler: Sampler[Any], target: Any, name: str) -> None:
    counts = set()
    for n in (1, 4):
        measured, meter = metered(target)
        seeds = range(n)
        sampler.sample(measured, seeds)
        cost = meter.cost(sampler.worked(target, seeds))
        counts.add((cost.forward, cost.backward))
    demand(
        len(counts) == 1, f"{name}: the cost of a sample depends on its batch: {sorted(counts)}"
    )


def _check_law(single: Tensor, double: Tensor, name: str) -> None:
    """Mean and standard deviation of each entry, up to half of it; noise is another in each dtype."""
    demand(
        single.dtype == torch.float32, f"{name} draws {single.dtype} from a prior of torch.float32"
    )
    x, std = single.double(), double.std(0)
    near = (x.mean(0) - double.mean(0)).abs() < std / 2
    alike = (x.std(0) / std - 1).abs() < 0.5
    demand(bool((near & alike).all()), f"{name} draws another law in float32 than in float64")


def check_guidance(
    rule: TiltedRule,
    target: Tilted | None = None,
    *,
    solver: Solver | None = None,
    schedule: Schedule | None = None,
    tolerance: float = 1e-10,
) -> None:
    """Check a guidance rule on `target`, by default `example_tilted()`, with `DDIM()` and 12 levels.

    Sample i is a function of seed i alone, whatever the batch; memory has samples as its first axis, is
    not changed in place and is all that a run needs to resume. `tolerance` is the largest difference,
    relative to the larger of 1 and the largest entry.
    """
    target, name = example_tilted() if target is None else target, type(rule).__name__
    schedule = Karras(steps=12) if schedule is None else schedule
    solver = DDIM() if solver is None else solver
    sampler = Guided(rule=rule, solver=solver, schedule=schedule)
    everything = sampler.sample(target, seeds=range(32))
    demand(bool(everything.isfinite().all()), f"{name} returned values that are not finite")
    for chosen in ([5], list(range(20, 4, -1))):
        part = sampler.sample(target, seeds=chosen)
        same(part, everything[chosen], tolerance, f"{name}: a sample depends on its batch")
    few = [3, 7, 11]
    _check_resume(sampler, target, few, sampler.sample(target, seeds=few), name)
    _check_memory(rule, target, schedule, everything, name)


def _check_memory(
    rule: TiltedRule, target: Tilted, schedule: Schedule, x: Tensor, name: str
) -> None:
    levels = schedule.levels()
    memory = rule.init(target, x)
    for level in levels[:3]:
        before = {key: value.clone() for key, value in memory.items()}
        look = rule(target, x, StepInfo.of(levels, level), memory)
        unchanged = all(torch.equal(before[key], memory[key]) for key in before)
        demand(unchanged, f"{name} changes its memory in place")
        rows = all(value.shape[:1] == x.shape[:1] for value in look.memory.values())
        demand(rows, f"{name}: an entry of its memory does not have samples as its first axis")
        memory = look.memory
