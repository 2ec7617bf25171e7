"""What samplers share whose unit is a population of particles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, groupby
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import InputError, require
from ...core.rng import Rng
from ...core.state import State
from ...likelihood import Likelihood
from ...target import Observed, OfPrior, Posterior
from ..base import Sampler
from ..diagnostics import EXCLUDED
from ..guided import TiltedSampler
from ..posterior import PosteriorSampler


@dataclass(frozen=True, kw_only=True)
class ParticleState(State):
    """Where populations stand; `x` and `x0` are `[populations, particles, *event]`.

    Args:
        log_weight: Of the particles, `[populations, particles]` in float64; it averages to the evidence
            so far.
        log_evidence: Log of the estimate of p(y) up to the last resampling, `[populations]`.
        ess: Effective number of particles when they were last selected, `[populations]`; None before.
        first: The particle of the first level from which each descends, `[populations, particles]`; None before
            the first selection.
    """

    log_weight: Tensor
    log_evidence: Tensor
    ess: Tensor | None = None
    first: Tensor | None = None


# Power iterations for a main axis, and the digits of a place along it.
POWERS, BITS = 6, 10

P = TypeVar("P", bound=ParticleState)


@dataclass(frozen=True, eq=False)
class Populations(OfPrior):
    """A posterior as particles see it.

    Several measurements have an axis of populations and one of length 1 for particles.
    """

    likelihood: Likelihood
    y: Tensor


def equal(x: Tensor, log_evidence: Tensor | float = 0.0) -> dict[str, Any]:
    """What a state of equally weighted particles begins with: their estimates, weights and log-evidence."""
    zeros = torch.zeros(x.shape[:2], dtype=torch.float64, device=x.device)
    return {"x": x, "x0": x, "log_weight": zeros, "log_evidence": zeros[:, 0] + log_evidence}


class Assignment(NamedTuple):
    """Which populations some seeds ask for.

    Attributes:
        seeds: Of each population.
        rows: Which of the measurements each population has.
        population: Of each sample, an index into those.
        particle: Of each sample.
    """

    seeds: list[int]
    rows: list[int]
    population: Tensor
    particle: Tensor


@dataclass(frozen=True, kw_only=True)
class ParticleSampler(Sampler[P], Generic[P]):
    """A sampler that moves populations of particles, which are resampled by their weights.

    Seed s is particle `s mod particles` of population `s div particles`. A population is always
    simulated whole and from its own stream, so that a sample is a function of its seed alone.

    Args:
        particles: Size of a population.
        threshold: A population is resampled when its effective size is below this share; 0 is never.

    """

    particles: int = 512
    threshold: float = 0.5
    limits: ClassVar = {"particles": "[2, inf)", "threshold": "[0, 1]"}

    def assign(self, target: Any, seeds: Sequence[int]) -> Assignment:
        """The populations that `seeds` ask for."""
        return _assign(self.particles, seeds, [0] * len(seeds))

    @override
    def arrange(self, target: Any, seeds: Sequence[int]) -> tuple[Any, Rng]:
        return target, Rng(self.assign(target, seeds).seeds, target.space.device)

    @override
    def draws(self, target: Any, state: P, seeds: Sequence[int]) -> Tensor:
        # Not in a step, because reading a value makes an accelerator wait. Where all weights were 0 so is the evidence,
        # and where one was nan so is the effective size.
        lost = state.log_evidence == -math.inf
        lost = lost if state.ess is None else lost | state.ess.isnan()
        require(
            not bool(lost.any()),
            "No particle of a population can be drawn: all have the weight 0, as where a reward or a likelihood "
            "excludes them, or one has a weight that is nan or inf. Take more particles, or look at the likelihood.",
        )
        assigned = self.assign(target, seeds)
        return state.x[assigned.population, assigned.particle]

    @property
    @override
    def shared(self) -> int:
        return self.particles

    @override
    def worked(self, target: Any, seeds: Sequence[int]) -> int:
        return self.particles * len(self.assign(target, seeds).seeds)

    @override
    def diagnostics(self, state: P) -> dict[str, Tensor]:
        known: dict[str, Tensor] = {"log_evidence": state.log_evidence}
        if state.ess is not None and state.first is not None:
            families = state.first.sort(-1).values.diff(dim=-1).ne(0).sum(-1) + 1
            known |= {"ess": state.ess, "ancestors": families}
        return known

    def log_evidence(self, target: Any, seeds: Sequence[int]) -> Tensor:
        """Log of the unbiased estimates of the integral of the target's density, p(y) for a posterior, `[populations]`.

        One for each population that `seeds` ask for.
        """
        return self._last(target, seeds).log_evidence

    @override
    def batches(self, seeds: Sequence[int], size: int) -> list[list[int]]:
        """A batch has whole populations, as many as have `size` particles or one."""
        whole = [list(part) for _, part in groupby(seeds, lambda seed: seed // self.particles)]
        each = max(1, size // self.particles)
        starts = range(0, len(whole), each)
        return [list(chain.from_iterable(whole[start : start + each])) for start in starts]


def _assign(particles: int, seeds: Sequence[int], rows: Sequence[int]) -> Assignment:
    """The populations of seeds, each with one of several measurements."""
    unit = [(seed // particles, row) for seed, row in zip(seeds, rows, strict=True)]
    wanted = sorted(set(unit))
    index = {key: i for i, key in enumerate(wanted)}
    return Assignment(
        [number for number, _ in wanted],
        [row for _, row in wanted],
        torch.tensor([index[key] for key in unit]),
        torch.tensor([seed % particles for seed in seeds]),
    )


@dataclass(frozen=True, kw_only=True)
class PopulationSampler(ParticleSampler[P], PosteriorSampler[P], Generic[P]):
    """A `ParticleSampler` of a posterior. Where each sample has a measurement of its own, so has its population."""

    def _measurements(self, target: Posterior, seeds: Sequence[int]) -> tuple[Tensor, list[int]]:
        """The distinct measurements, and which of them each seed has."""
        measurement = target.likelihood.measurement
        if measurement is None or not measurement.batch(target.y):
            return target.y, [0] * len(seeds)
        y, which = torch.unique(target.y, dim=0, return_inverse=True)
        rows: list[int] = which.expand(len(seeds)).tolist()
        return y[:, None], rows

    @override
    def assign(self, target: Posterior, seeds: Sequence[int]) -> Assignment:
        return _assign(self.particles, seeds, self._measurements(target, seeds)[1])

    @override
    def arrange(self, target: Posterior, seeds: Sequence[int]) -> tuple[Any, Rng]:
        (y, rows), device = self._measurements(target, seeds), target.space.device
        assigned = _assign(self.particles, seeds, rows)
        measurement = target.likelihood.measurement
        if measurement is not None and y.ndim > len(measurement.shape):
            y = y[assigned.rows]
        return Populations(target.prior, target.likelihood, y), Rng(assigned.seeds, device)


@dataclass(frozen=True, kw_only=True)
class TiltedPopulation(ParticleSampler[P], TiltedSampler[P], Generic[P]):
    """A `ParticleSampler` of a tilted law."""


def explained(off: Tensor, size: int, by: object) -> None:
    """Raise unless some particle of each population is about as near to the measurement as its noise says.

    The residual of an exact draw is that of the truth, whose square is a chi-square variable whatever the prior: it is
    beyond the bound with a probability below 1e-8, and where samplers are poor some particle is still within it.

    Args:
        off: Root mean square residual in units of the noise, `[populations, particles]`.
        size: Numbers that were measured.
        by: The sampler.

    Raises:
        InputError: If there is a population without such a particle, or a residual that is not finite.
    """
    # The cube root of a chi-square variable is nearly normal (Wilson and Hilferty, 1931); six standard deviations.
    scale = math.sqrt(2 / (9 * size))
    most, nearest = max(EXCLUDED, (1 - scale**2 + 6 * scale) ** 1.5), off.amin(-1).max()
    if not nearest <= most:
        times = float(nearest.nan_to_num(math.inf, math.inf))
        raise InputError(
            f"{type(by).__name__} finds a measurement that the prior excludes: at its noise level every particle is "
            f"{times:.3g} times as far from it as noise is. Look at the units of y, the operator "
            "and the noise level; a small population in few steps may only not have come there yet."
        )


def effective_size(log_weight: Tensor) -> Tensor:
    """Effective number of particles as a share of all, `[populations, particles]` to `[populations]` (Kong, 1994)."""
    weight = log_weight.softmax(-1)
    return 1 / ((weight**2).sum(-1) * log_weight.shape[-1])


def log_mean(log_weight: Tensor) -> Tensor:
    """Log of the mean weight of each population."""
    return log_weight.logsumexp(-1) - math.log(log_weight.shape[-1])


def _one_axis(target: Observed, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Measurements and particles with one batch axis, as a function that a user wrote may expect them."""
    measurement, y = target.likelihood.measurement, target.y
    if measurement is not None and measurement.batch(y):
        y = y.expand(*x0.shape[:2], *measurement.shape).flatten(0, 1)
    return y, x0.flatten(0, 1)


def log_prob(target: Observed, x0: Tensor) -> Tensor:
    """Log p(y | x0) of particles `[populations, particles, *event]`, `[populations, particles]` in float64."""
    return target.likelihood.log_prob(*_one_axis(target, x0)).double().reshape(x0.shape[:2])


def score(target: Observed, x0: Tensor) -> Tensor:
    """The gradient of `log_prob` in x0."""
    return target.likelihood.score(*_one_axis(target, x0)).reshape(x0.shape)


def take(x: Tensor, ancestors: Tensor) -> Tensor:
    """The particles that are `ancestors` `[populations, particles]`."""
    rows = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    chosen = x.flatten(0, 1).index_select(0, (ancestors + rows).flatten())
    return chosen.reshape(*ancestors.shape, *x.shape[2:])


def select(
    state: P, rng: Rng, threshold: float | Tensor, size: int | None = None
) -> tuple[P, Tensor]:
    """Put particles in `order`, and resample the populations whose effective size is below a share of them.

    The others keep their weights. Where a population is resampled, its mean weight goes into the
    estimate of the evidence. Systematic resampling in order takes as many from every region as its
    weight asks for (Gerber, Chopin and Whiteley, 2019, arXiv:1708.02230).

    Args:
        state: The populations.
        rng: One stream a population.
        threshold: The share.
        size: Particles to go on with; if they are fewer, all populations are resampled.

    Returns:
        The state with `x`, weights and evidence after the selection, and the ancestors by which a
        sampler selects what else it keeps.
    """
    low = effective_size(state.log_weight) < threshold
    # Every population draws, so that its stream does not depend on what others do.
    sequence, drawn = _resample(state, rng, size)
    if drawn.shape < sequence.shape:
        low, sequence = torch.ones_like(low), drawn
    ancestors = torch.where(low[:, None], drawn, sequence)
    log_weight = torch.where(low[:, None], 0.0, state.log_weight.gather(-1, sequence))
    log_evidence = state.log_evidence + torch.where(low, log_mean(state.log_weight), 0.0)
    return _descend(state, ancestors, log_weight, log_evidence), ancestors


def finish(state: P, rng: Rng) -> P:
    """Equally weighted particles in a random order, so that any few of them are draws as good as any other."""
    log_evidence = state.log_evidence + log_mean(state.log_weight)
    _, ancestors = _resample(state, rng)
    ancestors = ancestors.gather(-1, rng.permutation(ancestors.shape[-1]))
    return _descend(state, ancestors, torch.zeros_like(state.log_weight), log_evidence)


def _descend(state: P, ancestors: Tensor, log_weight: Tensor, log_evidence: Tensor) -> P:
    """The selected particles, with what is known of the population they were selected from."""
    size = effective_size(state.log_weight) * state.log_weight.shape[-1]
    if state.ess is not None:
        # Of particles that have just been resampled the weights say nothing.
        fresh = (state.log_weight == state.log_weight[:, :1]).all(-1)
        size = torch.where(fresh, state.ess, size)
    index = torch.arange(state.log_weight.shape[-1], device=ancestors.device)
    index = index.expand_as(state.log_weight)
    first = index if state.first is None else state.first
    chosen: dict[str, Any] = {
        "x": take(state.x, ancestors),
        "x0": take(state.x0, ancestors),
        "log_weight": log_weight,
        "log_evidence": log_evidence,
        "ess": size,
        "first": take(first, ancestors),
    }
    return replace(state, **chosen)


def _resample(state: ParticleState, rng: Rng, size: int | None = None) -> tuple[Tensor, Tensor]:
    """The order of particles, and ancestors by systematic resampling along it, `[populations, particles]`."""
    # It depends on the past only, so that counts are unbiased as in any other order.
    sequence = order(state.x0, state.log_weight)
    drawn = rng.resample(state.log_weight.gather(-1, sequence), size)
    return sequence, sequence.gather(-1, drawn)


def paired(x: Tensor, rng: Rng) -> Tensor:
    """Standard normal draws like `x` `[populations, particles, ...]`, of opposite signs for particles 2i and 2i + 1.

    Each particle's are what they would be alone, so that weights and evidence are as unbiased as with independent
    ones. Where the two are alike, what one does by chance the other undoes (antithetic variates,
    Hammersley and Morton, 1956), such as the choice of a mode.
    """
    particles = x.shape[1]
    half = rng.normal_like(x[:, : (particles + 1) // 2])
    return torch.stack([half, -half], 2).flatten(1, 2)[:, :particles]


def order(x: Tensor, log_weight: Tensor) -> Tensor:
    """Particles `[populations, particles, *event]` along a Hilbert curve through the plane of their two main axes.

    The axes are those of the weighted particles, whatever the order in which they are given. Returns
    indices of the particles, `[populations, particles]`.
    """
    # Where all weights are 0, no particle is better than another.
    weight = log_weight.softmax(-1).nan_to_num(1.0)[..., None].to(x)
    cloud = x.reshape(*x.shape[:2], -1).nan_to_num(0.0, 0.0, 0.0)
    cloud = cloud - (weight * cloud).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    index = torch.arange(cloud.shape[-1], dtype=x.dtype, device=x.device)
    # Starts without a pattern that a signal may have, and with a sign: that of an eigenvector is
    # arbitrary, and the order would turn with it.
    starts = (1 + index**2).cos(), (1 + index**2).sin()
    places = []
    for start in starts:
        axis = start.expand(len(x), -1)[..., None]
        for _ in range(POWERS):
            axis = cloud.mT @ (weight * (cloud @ axis))
            axis = axis / axis.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        place = cloud @ axis
        places.append(place)
        # The next axis is one of what this one leaves, which is nothing on a line.
        cloud = cloud - place * axis.mT
    plane = torch.cat(places, -1)
    plane = plane - plane.amin(1, keepdim=True)
    side = plane.amax((1, 2), keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    # Particles that have run away have no place.
    i, j = (plane / side * (2**BITS - 1)).nan_to_num(0.0).long().unbind(-1)
    return hilbert(BITS, x.device)[i, j].sort(dim=-1, stable=True).indices


@cache
def hilbert(bits: int, device: torch.device) -> Tensor:
    """The place of each of `2^bits` times `2^bits` cells on the Hilbert curve through them (Hilbert, 1891)."""
    place = torch.zeros(1, 1, dtype=torch.int32, device=device)
    for _ in range(bits):
        # The curve through a lower quarter is turned, and through the right one reversed as well.
        left, right = place.mT, place.mT.flip(0, 1) + 3 * place.numel()
        upper = [place + place.numel(), place + 2 * place.numel()]
        place = torch.cat([torch.cat([left, upper[0]], 1), torch.cat([right, upper[1]], 1)])
    return place
