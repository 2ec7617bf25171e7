"""Which sampler suits a target."""

from dataclasses import dataclass
from typing import Any

import torch

from ..core.errors import CapabilityError, InputError, expect
from ..diffusion.denoiser import Denoiser
from ..diffusion.scale import prior_draws
from ..diffusion.schedule import Karras, RangeSchedule
from ..likelihood import GaussianLikelihood
from ..operators import LinearOperator
from ..target import Posterior
from .budget import at_budget
from .fitted.mgdm import MGDM
from .fitted.mgps import MGPS
from .particles.exact import Exact
from .particles.fps import FPS
from .posterior import PosteriorSampler

# Up to so many measurements, matched moments take one vjp each and the exact sampler is affordable.
FEW = 16
# Levels that the exact sampler needs. With fewer, one evaluation a level buys more than twists do.
LEVELS = 30
# The highest level in units of the prior's widest direction, and the lowest in those of its narrowest one.
HIGHEST, LOWEST = 10.0, 0.2
# What varies by less than this share of the widest direction is taken not to vary.
CONSTANT = 1e-4


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
        CapabilityError: If the target is no `Posterior`.
    """
    expect(target, Posterior, by="choose")
    if budget < 100:
        raise InputError(f"A budget is at least 100 evaluations per sample; {budget} is not.")
    sampler, why = _kind(target, budget)
    return Choice(at_budget(sampler, target, budget), f"{why} ({budget} evaluations a sample)")


def _kind(target: Posterior, budget: int) -> tuple[PosteriorSampler[Any], str]:
    likelihood = target.likelihood
    if not isinstance(likelihood, GaussianLikelihood):
        return MGDM(), "MGDM: the noise is not Gaussian, and it needs no more than a gradient"
    size = likelihood.operator.codomain.size
    if size <= FEW:
        schedule = exact_schedule(target.prior)
        cheap = FPS(schedule=schedule)
        if budget < LEVELS * (1 + size) and _can(cheap, target):
            return (
                cheap,
                f"FPS: {size} measurements leave the exact sampler less than {LEVELS} levels",
            )
        why = f"the exact sampler: there are {size} measurements only"
        return Exact(schedule=schedule), why
    kind = "linear" if isinstance(likelihood.operator, LinearOperator) else "nonlinear"
    return MGPS(), f"MGPS: {size} {kind} measurements with Gaussian noise"


def _can(sampler: PosteriorSampler[Any], target: Posterior) -> bool:
    try:
        sampler.check(target, (0,))
    except CapabilityError:
        return False
    return True


def exact_schedule(prior: Denoiser) -> RangeSchedule:
    """Levels for the exact sampler, from far above the widest direction of the prior to far below the narrowest one.

    Both are those of a few draws, whose principal directions and entries are looked at. What does not vary in
    them at all, such as the border of a picture, is left out.
    """
    draws = prior.space.flatten(prior_draws(prior)).double()
    principal = torch.linalg.svdvals(draws - draws.mean(0)) / (len(draws) - 1) ** 0.5
    # The last ones of nearly as many as draws are small whatever the prior.
    stds = torch.cat([draws.std(0), principal[: 3 * len(draws) // 4]])
    widest = float(principal[0])
    narrowest = float(stds[stds > CONSTANT * widest].min())
    return Karras(sigma_min=min(0.01, LOWEST * narrowest), sigma_max=HIGHEST * widest, steps=200)
