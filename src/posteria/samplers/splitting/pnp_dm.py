"""PnP-DM: plug-and-play diffusion models, a split Gibbs sampler."""

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from ...core.rng import Rng
from ...core.state import State
from ...diffusion.kernel import reverse_step
from ...diffusion.scale import ScaledState, measured_std, spread_given
from ...diffusion.schedule import Karras, LogLinear, Schedule
from ...target import Posterior
from ..posterior import PosteriorSampler
from .langevin import Langevin, draw_near

# Where the prior step leaves for 0, as a share of the level at which it begins.
LAST = 0.2


@dataclass(frozen=True, kw_only=True)
class PnPDM(PosteriorSampler[ScaledState]):
    """Plug-and-play diffusion models (Wu et al., 2024, arXiv:2405.18782), algorithm 1.

    A Gibbs sampler of the signal x and a copy `z = x + rho * noise`, which alone is measured: z is
    drawn given x and the measurement, and x given z by the reverse diffusion from the level rho. Its
    law has the noise covariance `std^2 I + rho^2 A A^T`. A step costs `points` evaluations and no vjp,
    and gradients of the likelihood where z is not drawn exactly.

    Args:
        schedule: The couplings rho, one Gibbs sweep for each; a geometric decay by default.
        points: Evaluations of a reverse diffusion, at levels between rho and a fifth of it.
        ladder: Other levels for it to visit: those of this schedule that are below rho, and rho.
        prior_std: The prior's spread s, measured by default. A reverse move draws the clean signal with
            the spread `s sigma / sqrt(s^2 + sigma^2)` that it has under a Gaussian prior; a run of its
            means would be too narrow.
        last: Sweeps at the lowest coupling.
        exact: Draw z exactly where the measurement is linear with Gaussian noise.
        langevin: How to draw otherwise.
    """

    schedule: Schedule = field(
        default_factory=lambda: LogLinear(steps=300, sigma_min=0.02, sigma_max=80.0)
    )
    points: int = 3
    ladder: Schedule | None = None
    prior_std: float | None = None
    last: int = 1
    exact: bool = True
    langevin: Langevin = field(default_factory=Langevin)
    state_type: ClassVar[type[State]] = ScaledState
    limits: ClassVar = {"points": "[1, inf)", "last": "[1, inf)", "prior_std": "(0, inf)"}

    @property
    @override
    def solves(self) -> bool:
        return self.exact

    @classmethod
    def presets(cls) -> dict[str, "PnPDM"]:
        """The settings of the official code (arXiv:2405.18782) for pictures in [-1, 1], 100 sweeps.

        The coupling is 10 * 0.9^k and at least 0.3 (`images`, linear: 3688 evaluations) or 0.1
        (`phase_retrieval`: 3132), and the reverse diffusion has the levels of EDM's grid of 100
        below it.
        """
        paper = partial(cls, ladder=Karras(steps=100), prior_std=1.0)
        plain = Langevin(steps=100, lr=1e-4, adaptive=False)
        return {
            "images": paper(schedule=LogLinear(steps=35, sigma_min=0.3, sigma_max=10.0), last=66),
            "phase_retrieval": paper(
                schedule=LogLinear(steps=45, sigma_min=0.1, sigma_max=10.0),
                last=56,
                langevin=plain,
            ),
        }

    @override
    def evaluations(self, target: Posterior) -> int:
        levels = self.levels[:-1]
        runs = [len(self._levels(rho)) - 1 for rho in levels]
        return sum(runs) + (self.last - 1) * runs[-1]

    @override
    def init(self, target: Posterior, rng: Rng) -> ScaledState:
        # In a state, x0 stands for the copy z.
        x = target.space.zeros(len(rng))
        return ScaledState(x=x, x0=x, prior_std=measured_std(target.prior, self.prior_std))

    @override
    def step(
        self, target: Posterior, state: ScaledState, sigma: float, sigma_next: float, rng: Rng
    ) -> ScaledState:
        x, z = state.x, state.x0
        for _ in range(1 if sigma_next > 0 else self.last):
            z = draw_near(target, x, sigma**2, rng, langevin=self.langevin, exact=self.exact)
            x = self._clean(target, z, sigma, state.prior_std, rng)
        return replace(state, x=x, x0=z, sigma=sigma, count=state.count + 1)

    def _clean(self, target: Posterior, z: Tensor, rho: float, std: float, rng: Rng) -> Tensor:
        """Draw the clean signal given a copy at the level `rho`."""
        levels = self._levels(rho)
        x = z
        for level, level_next in pairwise(levels):
            mean = target.prior(x, level)
            x0 = mean + spread_given(level, std) * rng.normal_like(x)
            x = reverse_step(x, x0, level, level_next, 1.0, rng)
        return x

    def _levels(self, rho: float) -> list[float]:
        if self.ladder is None:
            return Karras(steps=self.points, sigma_min=LAST * rho, sigma_max=rho).levels()
        return [rho, *(level for level in self.ladder.levels() if level < rho)]
