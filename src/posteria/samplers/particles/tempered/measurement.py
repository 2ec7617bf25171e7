"""The measurement of the tempered sampler: a Gaussian whose noise grows in the signal's space, and its state."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ....core.rng import Rng
from ....operators.base import SVDOperator
from ....target import OfPrior
from ..population import ParticleState

# Share of fresh noise in a z that lies opposite to the one before.
FRESH = 0.4
# One leading direction of what is measured for so many particles, and for so many measurements, has no noise.
PER_PARTICLES, PER_MEASURED = 8, 3


@dataclass(frozen=True, kw_only=True)
class TemperedState(ParticleState):
    """Where populations stand.

    Args:
        tau: Variance of the signal's noise in the tempered measurement, `[populations]` in float64.
        noise: The standard normal noise of the measurement, in the operator's basis, `[populations, 1, rank]`.
        reach: The highest level of reflections.
    """

    tau: Tensor
    noise: Tensor
    reach: float


@dataclass(frozen=True, eq=False)
class Tempering(OfPrior):
    """A linear measurement of populations in the basis of its operator, `A = U diag(s) V^T`.

    Attributes:
        prior: The prior.
        operator: A, or A in units of the noise.
        y: `U^T y`, `[populations or 1, 1, rank]` in float64.
        s: Singular values, `[rank]` in float64.
        std: The noise level.
        constant: Log-density of what y has outside of the range of A, `[populations or 1]`.
    """

    operator: SVDOperator
    y: Tensor
    s: Tensor
    std: float
    constant: Tensor

    @property
    def floor(self) -> float:
        """The noise variance of the signal that is as large as that of the measurement where it is most precise."""
        return (self.std / float(self.s.max())) ** 2

    def measured(self, x: Tensor) -> Tensor:
        """`diag(s) V^T x`, `[*batch, rank]` in float64."""
        return self.s * self.operator.vt_seen(x).double()

    def noised(self, state: TemperedState) -> Tensor:
        """`U^T y` with the noise of the level, `[populations, 1, rank]`."""
        return self.y + _column(state.tau).sqrt() * self.s * state.noise

    def quiet(self, noise: Tensor, x: Tensor) -> Tensor:
        """Noise of the measurement without what it has along the leading principal directions of measured particles.

        Args:
            noise: As in the state.
            x: Draws of the prior.
        """
        seen = self.measured(x)
        seen = seen - seen.mean(1, keepdim=True)
        size = min(x.shape[1] // PER_PARTICLES, seen.shape[-1] // PER_MEASURED)
        # Of the two matrices that have these directions, the smaller one.
        few = x.shape[1] < seen.shape[-1]
        values, vectors = torch.linalg.eigh(seen @ seen.mT if few else seen.mT @ seen)
        first = values.shape[-1] - size
        values, vectors = values[:, None, first:], vectors[..., first:]
        # A direction in which draws hardly differ is one of rounding.
        known = torch.finfo(values.dtype).eps * values[..., -1:] < values
        axes: Tensor = vectors.mT @ seen if few else vectors.mT
        scale = torch.where(known, values if few else 1.0, math.inf)
        leading: Tensor = noise @ axes.mT / scale @ axes
        return noise - leading

    def log_prob(self, gaps: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
        """Log-density of the noised measurement, `[populations, particles]`.

        Args:
            gaps: Of particles, from `gaps`.
            noise: As in the state.
            tau: `[populations]`.
        """
        root = _column(tau).sqrt()
        shift, variance = root * noise, self.std**2 + (root * self.s).square()
        known = (self.s * shift).square() / variance + (2 * math.pi * variance).log()
        factors = torch.cat([variance.reciprocal(), 2 * shift / variance], -1)
        return -((gaps @ factors.mT)[..., 0] + known.sum(-1)) / 2

    def off(self, log_prob: Tensor, tau: Tensor) -> Tensor:
        """Root mean square residual in units of the noise, `[populations, particles]`, of a log-density as above."""
        variance = self.std**2 + tau[:, None] * self.s**2
        energy = -2 * log_prob - (2 * math.pi * variance).log().sum(-1, keepdim=True)
        return (energy.clamp(min=0) / len(self.s)).sqrt()

    def length(self, noise: Tensor, tau: Tensor) -> Tensor:
        """Lengths of steps along a way of tau, were particles as far from y as its noise, `[populations, points - 1]`.

        The variance changes, and y itself moves with the root of tau.

        Args:
            noise: As in the state.
            tau: `[populations, points]`.
        """
        middle = (tau[:, 1:] + tau[:, :-1])[..., None] / 2
        variance = self.std**2 + middle * self.s**2
        change = (tau.diff(dim=-1)[..., None] * self.s**2 / variance).square()
        shift = (tau.sqrt().diff(dim=-1)[..., None] * self.s * noise).square() / variance
        return (change + 2 * shift).sum(-1).sqrt()

    def gaps(self, x: Tensor) -> Tensor:
        """Squares of `y - A x` and its products with the noise's scale, `[populations, particles, 2 rank]`."""
        gap = self.y - self.measured(x)
        return torch.cat([gap.square(), gap * self.s], -1)

    def couple(
        self,
        x: Tensor,
        y: Tensor,
        tau: Tensor,
        variance: Tensor,
        rng: Rng,
        before: Tensor | None = None,
    ) -> Tensor:
        """A draw of `z = x + sqrt(variance) * noise` given x and the noised measurement, whose noise it shares.

        Args:
            x: Particles.
            y: The noised measurement, as `noised` gives it.
            tau: `[populations]`.
            variance: `[populations]`, at most tau and what `floor` is.
            rng: One stream a population.
            before: A z of that law to which the new one lies opposite, up to `FRESH` (Adler, 1981,
                doi:10.1103/PhysRevD.23.2901).
        """
        tau, variance = _column(tau), _column(variance)
        left = (self.std**2 + (tau - variance) * self.s**2).clamp(min=0)
        gain = variance * self.s / (self.std**2 + tau * self.s**2)
        scale = variance.sqrt().reshape(-1, *(1,) * (x.ndim - 1)).to(x)
        back = 0.0 if before is None else math.sqrt(1 - FRESH**2)
        new = 1.0 if before is None else FRESH
        # In place: a pass over the particles costs as much as an evaluation of a small prior.
        z = rng.normal_like(x).mul_(new * scale).add_(x, alpha=1 + back)
        seen = self.operator.vt_seen(z)
        pull = (
            rng.normal_like(seen) * (new * left.sqrt()) + (1 + back) * y - self.s * seen.double()
        )
        z += self.operator.v_seen((gain * pull).to(x))
        return z if before is None else z.sub_(before, alpha=back)


def _column(values: Tensor) -> Tensor:
    return values[:, None, None]
