"""Which sampler suits a target, by what was measured on targets like it."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import torch

from ..core.errors import CapabilityError, InputError, expect, whole
from ..core.rng import Rng
from ..diffusion.denoiser import Denoiser
from ..diffusion.scale import STREAM, once, prior_draws, prior_scale
from ..diffusion.schedule import Karras, RangeSchedule
from ..likelihood import GaussianLikelihood
from ..linear_gaussian import decomposed, finest
from ..operators import LinearOperator, SVDOperator
from ..target import Posterior
from .budget import at_budget
from .posterior import FAR_BELOW, PosteriorSampler
from .projection.reverse import ReverseDiffusion
from .registry import POSTERIOR_SAMPLERS

# The least budget that is advised on.
LEAST = 50
# The highest level of a population in units of the prior's widest direction, and the lowest in those of its narrowest.
HIGHEST, LOWEST = 10.0, 0.2
# What varies by less than this share of the widest direction is taken not to vary.
CONSTANT = 1e-4
# How far apart targets are: weights of what is known of them, on a scale on which likeness falls by half or so.
WEIGHTS = dict(dimension=0.7, measurements=1.0, seen=2.0, top=1.0, spread=1.0, affine=0.5)
# Those that are compared by their difference, and not by their ratio.
SHARES = {"seen", "affine"}
WIDTH = 0.25
# What nothing is measured by has no gain, and no logarithm.
TINY = 1e-12
# What leaves a line by less than this share of its length is straight.
STRAIGHT = 1e-3
# What counts for a sampler that was not drawn on a target: so many times the nearest one's distance.
UNKNOWN = 6.0
# Particles of a population for each sample that is taken of it.
WHOLE = 32
# Why a reverse run is taken.
EXACT = "a noisy signal is a state of the diffusion, and reverse draws what it was before: nothing is approximated"
# Targets that a reason names.
NAMED = 3
# The least likeness at which they are named.
SEEN = 0.05


@dataclass(frozen=True)
class Choice:
    """A sampler that suits a target.

    Args:
        sampler: With its settings.
        why: In a sentence.
    """

    sampler: PosteriorSampler[Any]
    why: str


class Row(NamedTuple):
    """What was measured on one target, with its `features`.

    By budget and sampler: the distance to the exact law over that of exact draws. One that is held out only
    judges the advice.
    """

    name: str
    features: Mapping[str, Any]
    ratios: Mapping[str, Mapping[str, float]]
    held_out: bool


class Advice(NamedTuple):
    """The measurements behind the advice; `benchmarks/advice.py` makes them.

    Attributes:
        budgets: Evaluations and vjps of the prior a sample.
        vjps: Samplers that take vjps of the prior.
        rows: One a target.
    """

    budgets: Sequence[int]
    vjps: Sequence[str]
    rows: Sequence[Row]


@cache
def table() -> Advice:
    """The table that ships with the package."""
    read = json.loads(files(__package__).joinpath("advice.json").read_text())
    return Advice(read["budgets"], read["vjps"], [Row(**row) for row in read["rows"]])


def choose(
    target: Posterior, budget: int = 1000, *, vjps: bool = True, samples: int | None = None
) -> Choice:
    """The sampler that was nearest on targets like this one, of those that can draw from it (docs/choose.md).

    Args:
        target: The posterior; what is compared is known without drawing from it.
        budget: Evaluations and vjps of the prior per sample, at least 50; those of a population are shared.
        vjps: Whether the prior can be differentiated, and there is memory for it.
        samples: How many are wanted; by default as many as a population has. Populations of more than 32
            times as many particles are left out, since they are simulated whole.

    Raises:
        InputError: If the budget is too small or no integer, or no samples are wanted.
        CapabilityError: If the target is no `Posterior`, or no sampler can draw from it.
    """
    expect(target, Posterior, by="choose")
    if whole(budget, "A budget") < LEAST:
        raise InputError(f"A budget is at least {LEAST} evaluations per sample; {budget} is not.")
    wanted = None if samples is None else whole(samples, "The number of samples")
    if noisy_only(target):
        exact = at_budget(ReverseDiffusion(), target, budget)
        return Choice(exact, f"{EXACT} ({budget} evaluations a sample)")
    known, measured = features(target), table()
    column = str(min(measured.budgets, key=lambda tried: abs(math.log(tried / budget))))
    like, passed = likeness(known), ""
    for name in ranking(like, column):
        shared = POSTERIOR_SAMPLERS[name]().shared
        if not vjps and name in measured.vjps:
            continue
        with suppress(CapabilityError, InputError):
            sampler = at_budget(suited(name, target), target, budget)
            sampler.check(target, range(target.rows))
            if wanted is None or shared <= WHOLE * wanted:
                why = f"{_why(name, like, column)} ({budget} evaluations a sample){passed}"
                return Choice(sampler, why)
            passed = passed or (
                f"; {name} may be nearer, and simulates {shared} samples at once: it is taken from "
                f"{math.ceil(shared / WHOLE)} samples on"
            )
    raise CapabilityError(
        f"No sampler draws from {target.likelihood!r} with {budget} evaluations; give it more."
    )


def noisy_only(target: Posterior) -> bool:
    """Whether the measurement is the signal itself in white noise, of which `ReverseDiffusion` draws exactly."""
    with suppress(CapabilityError):
        ReverseDiffusion().check(target, range(target.rows))
        return True
    return False


def features(target: Posterior) -> dict[str, Any]:
    """What is known of a target without drawing from it.

    Returns:
        `kind` (`linear`, `nonlinear`, or `other` where the noise is not Gaussian), `dimension`, `affine`, which is 1
        for a Gaussian prior and 0 for others, and where they are known: `measurements`; of Gaussian noise, `top`, the
        largest gain of the operator times the prior's standard deviation over the noise level; of a decomposed
        operator, `seen`, the share of directions in which that is above 1, and `spread`, the ratio of the largest to
        the smallest of these.
    """
    likelihood = target.likelihood
    # What has a card was fitted to data, and is no Gaussian.
    affine = target.prior.base.scale is None and _affine(target.prior)
    known: dict[str, Any] = {"kind": "other", "dimension": target.space.size}
    known["affine"] = float(affine)
    if likelihood.measurement is not None:
        known["measurements"] = likelihood.measurement.size
    if not isinstance(likelihood, GaussianLikelihood):
        return known
    std, given = prior_scale(target.prior).std, decomposed(target).likelihood
    if not isinstance(likelihood.operator, LinearOperator):
        return known | {"kind": "nonlinear", "top": std / _mean_level(likelihood)}
    known["kind"] = "linear"
    if isinstance(given, GaussianLikelihood) and isinstance(given.operator, SVDOperator):
        gains = given.operator.singular_values.double() * std / _mean_level(given)
        seen = gains[gains > 1]
        known |= {"seen": len(seen) / target.space.size, "top": float(gains.max())}
        known["spread"] = float(seen.max() / seen.min()) if len(seen) else 1.0
    return known


def _mean_level(likelihood: GaussianLikelihood) -> float:
    return float(torch.as_tensor(likelihood.std).double().square().mean().sqrt())


def _affine(prior: Denoiser) -> bool:
    """Whether the mean of x_0 given x is affine in x, as for a Gaussian, at three points on a line, once a prior."""

    def measured() -> bool:
        scale, rng = prior_scale(prior), Rng([0], prior.space.device, stream=STREAM)
        start, way = rng.normal(prior.space), rng.normal(prior.space)
        left, middle, right = (
            prior(scale.mean + scale.std * (start + k * way), scale.std) for k in (-1, 0, 1)
        )
        return bool((left + right - 2 * middle).norm() <= STRAIGHT * (right - left).norm())

    return once(prior, "affine", measured)


def likeness(known: Mapping[str, Any]) -> list[tuple[float, Row]]:
    """How much each row counts for a target, by nearness and 1 in all; those held out do not, nor do other kinds."""
    squares = [(_apart(known, row.features), row) for row in table().rows if not row.held_out]
    nearest = min(square for square, _ in squares)
    weights = [math.exp((nearest - square) / (2 * WIDTH**2)) for square, _ in squares]
    pairs = zip(weights, squares, strict=True)
    return [(weight / sum(weights), row) for weight, (_, row) in pairs]


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """The squared distance of two targets; infinite if their measurements differ in kind."""
    if one["kind"] != other["kind"]:
        return math.inf
    total = 0.0
    for name, weight in WEIGHTS.items():
        if name in one and name in other:
            a, b = one[name], other[name]
            gap = a - b if name in SHARES else math.log10(max(a, TINY) / b)
            total += (weight * gap) ** 2
    return total


def ranking(like: Sequence[tuple[float, Row]], column: str) -> list[str]:
    """Samplers by the mean, over targets by their likeness, of the log of their distance over the least one."""
    names = sorted({name for _, row in like for name in row.ratios[column]})

    def loss(name: str) -> float:
        total = 0.0
        for weight, row in like:
            best = max(min(row.ratios[column].values(), default=1.0), 1.0)
            ratio = row.ratios[column].get(name, UNKNOWN * best) / best
            total += weight * math.log(max(ratio, 1.0))
        return total

    return sorted(names, key=loss)


def _why(name: str, like: Sequence[tuple[float, Row]], column: str) -> str:
    parts = []
    for weight, row in sorted(like, key=lambda pair: -pair[0])[:NAMED]:
        ratios = row.ratios[column]
        best = min(ratios, key=lambda other: ratios[other])
        own = f"{ratios[name]:.2g}" if name in ratios else "not drawn"
        if weight > SEEN:
            parts.append(
                f"{row.name} {own}" + (f" ({best} {ratios[best]:.2g})" if best != name else "")
            )
    return (
        f"{name}: at {column} evaluations its distance to the exact law, over that of exact draws, was on the targets "
        f"most like this one {', '.join(parts)}"
    )


def suited(name: str, target: Posterior) -> PosteriorSampler[Any]:
    """The sampler of a name, whose levels end far below the noise of the measurement where it is too sure otherwise.

    Those of a population reach from far above the prior to far below it.
    """
    sampler = POSTERIOR_SAMPLERS[name]()
    if not isinstance(sampler.schedule, RangeSchedule):
        return sampler
    floor = finest(target) / FAR_BELOW if sampler.floored else math.inf
    if sampler.shared == 1:
        low = min(sampler.schedule.sigma_min, floor)
        return replace(sampler, schedule=replace(sampler.schedule, sigma_min=low))
    low, high = ends(target.prior)
    low = min(low, floor)
    if name == "fps":
        # With few levels it needs most of them near the prior's scale.
        return replace(sampler, schedule=Karras(sigma_min=low, sigma_max=high))
    return replace(sampler, schedule=replace(sampler.schedule, sigma_min=low, sigma_max=high))


def ends(prior: Denoiser) -> tuple[float, float]:
    """The lowest and the highest level of a population.

    Far below the narrowest direction of the prior and far above the widest, as a few draws show them in
    principal directions and entries; what does not vary in them is left out.
    """
    draws = prior.space.flatten(prior_draws(prior)).double()
    principal = torch.linalg.svdvals(draws - draws.mean(0)) / (len(draws) - 1) ** 0.5
    # The last ones of nearly as many as draws are small whatever the prior.
    stds = torch.cat([draws.std(0), principal[: 3 * len(draws) // 4]])
    widest = float(principal[0])
    narrowest = float(stds[stds > CONSTANT * widest].min())
    return min(0.01, LOWEST * narrowest), HIGHEST * widest
