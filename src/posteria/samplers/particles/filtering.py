"""What particle filters share that see a measurement entry by entry, in the basis of its operator."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from ...core.rng import Rng
from ...diffusion.schedule import Schedule, levels_of
from ...linear_gaussian import spectral
from ...operators.base import SVDOperator
from ...target import Observed, OfPrior, Posterior
from .population import P, PopulationSampler


class Coordinates(NamedTuple):
    """A measurement of single entries of `V^T x`, where `A = U diag(s) V^T`, in data units.

    The noise of entry i is that of the diffusion at level `sigma_i = std / s_i`: what is measured
    of entry i has the law of `V^T x` at that level.

    Attributes:
        operator: A.
        y: `U^T y / s`, `[*batch, size]`; 0 where nothing is measured.
        noise: `sigma_i`, `[size]` in float64; infinite where nothing is measured.
        anchor: The highest level of the schedule that is not above `sigma_i`, infinite likewise.
        log_constant: Log p(y) minus the log-density of the entries, `[*batch]`.
    """

    operator: SVDOperator
    y: Tensor
    noise: Tensor
    anchor: Tensor
    log_constant: Tensor


@dataclass(frozen=True, eq=False)
class EntryProblem(OfPrior):
    """A posterior of populations, measured entry by entry, narrowed once a run."""

    seen: Coordinates


@dataclass(frozen=True, kw_only=True)
class EntryFilter(PopulationSampler[P], Generic[P]):
    """A fully adapted particle filter of single entries: one evaluation a step for each particle, and no vjp."""

    each: ClassVar[int] = 1
    floored: ClassVar[bool] = True
    needs: ClassVar[str] = "linear operator with an SVD, one level of Gaussian noise"

    @override
    def narrow(self, posterior: Posterior) -> Posterior:
        spectral(posterior, by=self)
        return posterior

    @override
    def arrange(self, target: Posterior, seeds: Sequence[int]) -> tuple[EntryProblem, Rng]:
        populations, rng = super().arrange(target, seeds)
        return EntryProblem(target.prior, coordinates(populations, self.schedule, self)), rng


def coordinates(target: Observed, schedule: Schedule, by: object) -> Coordinates:
    """The measurement of a target entry by entry.

    Raises:
        CapabilityError: If the operator has no decomposition or the noise several levels.
    """
    measurement = spectral(target, by=by)
    s, measured = measurement.s.double(), measurement.seen
    divisor = torch.where(measured, s, 1.0)
    noise = torch.where(measured, measurement.std / divisor, torch.inf)
    levels = torch.tensor(levels_of(schedule)[::-1], dtype=torch.float64, device=s.device)
    anchor = levels[torch.searchsorted(levels, noise, right=True) - 1]
    anchor = torch.where(measured, anchor, torch.inf)
    y = torch.where(measured, measurement.measured(target.y) / divisor.to(target.y), 0.0)

    coefficients = measurement.operator.ut(target.y).double()
    blind = torch.ones(coefficients.shape[-1], dtype=torch.bool, device=s.device)
    rank = min(len(blind), len(measured))
    blind[:rank] = ~measured[:rank]
    rest = log_normal(coefficients, 0.0, torch.full_like(coefficients, measurement.std**2), blind)
    return Coordinates(measurement.operator, y, noise, anchor, rest - divisor.log().sum())


def log_normal(x: Tensor, mean: Tensor | float, variance: Tensor, where: Tensor) -> Tensor:
    """Log-density of the entries of `x` for which `where` holds, summed, `[*batch]` in float64."""
    variance = torch.where(where, variance.double(), 1.0)
    z = (x - mean).double()
    terms = -(z**2 / variance + variance.log() + math.log(2 * math.pi)) / 2
    return torch.where(where, terms, 0.0).sum(-1)


def draw_given(
    mean: Tensor, prior: float | Tensor, y: Tensor, noise: Tensor, where: Tensor, rng: Rng
) -> Tensor:
    """Draw `z ~ N(mean, prior)`, given `y ~ N(z, noise)` for the entries for which `where` holds; variances."""
    total = torch.where(where, prior + noise, 1.0)
    gain = torch.where(where, prior / total, 0.0)
    std = torch.where(where, prior * noise / total, prior).clamp(min=0).sqrt()
    return mean + gain.to(mean) * (y - mean) + std.to(mean) * rng.normal_like(mean)
