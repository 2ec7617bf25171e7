"""How much a sampler costs on a target, how many steps a budget buys, and which sampler suits a target."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import CapabilityError, InputError, require
from ..core.linalg import LinearMap
from ..core.space import Space
from ..diffusion.denoiser import Counted, Denoiser
from ..diffusion.scale import prior_draws
from ..diffusion.schedule import Karras, RangeSchedule, Schedule, Table
from ..likelihood import GaussianLikelihood, PoissonLikelihood
from ..operators import Inpainting, LinearOperator, Operator
from ..target import Posterior
from .fitted.mgdm import MGDM
from .fitted.mgps import MGPS
from .particles.fps import FPS
from .particles.population import PopulationSampler
from .particles.twisted import TwistedSMC
from .posterior import PosteriorSampler
from .registry import POSTERIOR_SAMPLERS

# Up to so many measurements, matched moments take one vjp each and the exact sampler is affordable.
FEW = 16
# Levels that the exact sampler needs. With fewer, one evaluation a level buys more than twists do.
LEVELS = 30
# The highest level in units of the prior's widest direction.
DWARFED = 10.0
# What varies by less than this share of the widest direction is taken not to vary.
CONSTANT = 1e-4
# Fewest steps that a budget must buy.
FEWEST = 5
# Numbers of steps that show whether each costs the same; what a population shares is then as with more.
PROBES = (16, 19, 24)
# What holds up to so many steps is taken to hold beyond.
REACH = 200


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


class _Bent(Operator):
    """A linear operator that does not say so."""

    def __init__(self, straight: LinearOperator) -> None:
        super().__init__(straight.domain, straight.codomain)
        self.straight = straight

    def apply(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        return self.straight.apply(x)

    def vjp(self, x: Tensor) -> tuple[Tensor, LinearMap]:
        """See `Operator`."""
        return self.straight.vjp(x)

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """See `Operator`."""
        return self.straight.jvp(x, v)


def cost(sampler: PosteriorSampler[Any], target: Posterior) -> int:
    """Evaluations and vjps of the prior for one sample; for a population, its share of the whole."""
    steps = sampler.schedule.steps
    return -(-_Meter(sampler, target).total(steps, steps) // sampler.shared)


def at_budget(
    sampler: PosteriorSampler[Any], target: Posterior, budget: int
) -> PosteriorSampler[Any]:
    """The sampler with as many steps as a budget of evaluations and vjps per sample buys.

    Many levels make MGDM surer of itself than it should be, and sweeps at few levels much less so: what
    would buy more levels than its own buys sweeps at half of them or a few more.

    Raises:
        InputError: If it does not buy 5 steps.
    """
    if isinstance(sampler, MGDM) and budget > cost(sampler, target):
        once = dataclasses.replace(sampler, gibbs=1)
        half = max(FEWEST, sampler.schedule.steps // 2)
        gibbs = budget // _Meter(once, target).total(half)
        # Each sweep costs the same.
        schedule = _stepped(once, target, budget // gibbs).schedule
        return dataclasses.replace(sampler, schedule=schedule, gibbs=gibbs)
    return _stepped(sampler, target, budget)


def _stepped(
    sampler: PosteriorSampler[Any], target: Posterior, budget: int
) -> PosteriorSampler[Any]:
    """As `at_budget`, with all else as it is."""
    meter, limit = _Meter(sampler, target), budget * sampler.shared
    least = -(-meter.total(FEWEST) // sampler.shared)
    require(
        least <= budget,
        f"A budget of {budget} evaluations is too small for {type(sampler).__name__}: {FEWEST} steps cost {least}.",
    )
    most = sampler.schedule.most if isinstance(sampler.schedule, Table) else budget
    low, high, (near, middle, far) = FEWEST, most + 1, PROBES
    if far < high and meter.total(far) > limit:
        high = far
    elif far < high:
        low, start = far, meter.total(far)
        slope, rest = divmod(start - meter.total(near), far - near)
        steps = min(most, far + (limit - start) // max(slope, 1))
        checked = (middle, min(steps, REACH))
        if not rest and all(meter.total(n) == start + slope * (n - far) for n in checked):
            # Each step costs the same, as it does for most samplers.
            return meter.at(steps)
    return meter.at(_affordable(meter.total, limit, low, high))


def _affordable(total: Callable[[int], int], limit: int, low: int, high: int) -> int:
    """The most steps that a limit pays for, from `low`, for which it does, to below `high`."""
    slope = total(low) / low
    while high - low > 1:
        steps = low + int((limit - total(low)) / max(slope, 1.0))
        steps = min(max(steps, low + 1), high - 1)
        slope = (total(steps) - total(low)) / (steps - low)
        low, high = (steps, high) if total(steps) <= limit else (low, steps)
    return low


class _Meter:
    """Counts what a sampler with any number of steps asks of the prior.

    A population of 2 is counted for one of any size: its particles cost the same each, and what they
    share (looks at the prior before the first step) shows in the difference to one of 3.
    """

    def __init__(self, sampler: PosteriorSampler[Any], target: Posterior) -> None:
        self._sampler = sampler
        self._target = _cheap(sampler, target)
        # What is measured once a prior is not part of what a sample costs.
        prior_draws(self._target.prior)
        self._counts: dict[tuple[int, int], int] = {}

    def at(self, steps: int) -> PosteriorSampler[Any]:
        """The sampler with so many steps."""
        schedule: Schedule = dataclasses.replace(self._sampler.schedule, steps=steps)
        return dataclasses.replace(self._sampler, schedule=schedule)

    def total(self, steps: int, known: int = PROBES[-1]) -> int:
        """Evaluations and vjps for one sample, or for a whole population.

        Args:
            steps: Steps of the sampler.
            known: What particles share does not change beyond so many steps.
        """
        if not isinstance(self._sampler, PopulationSampler):
            return self._count(steps)
        least = min(steps, known)
        shared = 3 * self._count(least, 2) - 2 * self._count(least, 3)
        return shared + self._sampler.particles * (self._count(steps, 2) - shared) // 2

    def _count(self, steps: int, particles: int = 0) -> int:
        key = steps, particles
        if key not in self._counts:
            sampler, target = self.at(steps), self._target
            if isinstance(sampler, PopulationSampler):
                sampler = dataclasses.replace(sampler, particles=particles)
            prior = Counted(target.prior)
            sampler.sample(dataclasses.replace(target, prior=prior), seeds=[0])
            self._counts[key] = prior.meter.forward + prior.meter.backward
        return self._counts[key]


def _cheap(sampler: PosteriorSampler[Any], target: Posterior) -> Posterior:
    """A target on which a sampler does the same and which costs nothing.

    Raises:
        CapabilityError: If the sampler cannot draw from `target`.
    """
    measurement, y = target.likelihood.measurement, target.y
    if measurement is not None and measurement.batch(y):
        y = y[0]
    plain = Posterior(_Free(target.space), target.likelihood, y)
    sampler.check(plain, [0])
    likelihood, space = plain.likelihood, plain.space
    # A sampler of someone else's may look at more of a likelihood than its kind and size.
    if type(sampler) not in POSTERIOR_SAMPLERS.values() or not isinstance(
        likelihood, (GaussianLikelihood, PoissonLikelihood)
    ):
        return plain
    operator, size = likelihood.operator, likelihood.operator.codomain.size
    if size > space.size:
        return plain
    seen = (torch.arange(space.size) < size).reshape(space.shape)
    cheap = Inpainting(seen, space.shape)
    changes: dict[str, Any] = {
        "operator": cheap if isinstance(operator, LinearOperator) else _Bent(cheap)
    }
    if isinstance(likelihood, GaussianLikelihood) and isinstance(likelihood.std, Tensor):
        changes["std"] = likelihood.std.expand(operator.codomain.shape).flatten()
    likelihood = dataclasses.replace(likelihood, **changes)
    return Posterior(plain.prior, likelihood, torch.zeros(size))


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
        return TwistedSMC(schedule=schedule), why
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
    return Karras(sigma_min=min(0.01, narrowest / 5), sigma_max=DWARFED * widest, steps=200)
