"""DDNM+: the denoising diffusion null-space model for noisy measurements."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.rng import Rng
from ...core.state import State
from ...diffusion.kernel import bridge
from ...diffusion.schedule import Karras, Schedule, Table
from ...linear_gaussian import SpectralProblem, spectral_problem
from ...target import Posterior
from ..posterior import PosteriorSampler


@dataclass(frozen=True, kw_only=True)
class DDNM(PosteriorSampler[State]):
    """The denoising diffusion null-space model, DDNM+ (Wang et al., 2023, arXiv:2212.00490), equation 17.

    The clean estimate is moved to the measurement in each singular direction, all the way or as far
    as the noise of the measurement fits into the noise of the reverse step, which is made smaller by
    as much. One evaluation for each visit of a level and no vjp; the last step is a plain denoising.

    The noise of `y` counts as drawn anew in every step: many steps reproduce `y`, noise and all, and
    few levels with several visits are better. (The paper's official code runs
    `DDRM(eta=0.85, eta_c=0.85)` in all but its first iterate.)

    Args:
        schedule: The noise levels.
        eta: Stochasticity of the reverse step; 1 is ancestral, as in the paper. Its noise is what makes room for the
            measurement: near 0 there is none, and samples are of the prior.
        travel: Visits of each level: after all but the last one, noise takes the iterate back up
            (the paper's time travel with a length of 1). 1 is none.
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=20))
    eta: float = 0.3
    travel: int = 30
    needs: ClassVar[str] = "linear operator with an SVD, one level of Gaussian noise"
    fewest: ClassVar[int] = 2
    limits: ClassVar = {"eta": "(0, 1]", "travel": "[1, inf)"}

    @classmethod
    def presets(cls) -> dict[str, "DDNM"]:
        """The paper's 100 steps without time travel (arXiv:2212.00490), for images in [-1, 1]; 100 evaluations."""
        return {"images": cls(schedule=Table(steps=100), eta=1.0, travel=1)}

    @override
    def narrow(self, posterior: Posterior) -> SpectralProblem:
        return spectral_problem(posterior, by=self)

    @override
    def evaluations(self, target: Posterior) -> int:
        return (self.schedule.steps - 1) * self.travel + 1

    @override
    def step(
        self, target: SpectralProblem, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        x, x0 = self._down(target, state.x, sigma, sigma_next, rng)
        climb = math.sqrt(sigma**2 - sigma_next**2)
        for _ in range(self.travel - 1 if sigma_next > 0 else 0):
            x = x + climb * rng.normal_like(x)
            x, x0 = self._down(target, x, sigma, sigma_next, rng)
        return State(x=x, x0=x0, sigma=sigma, count=state.count + 1)

    def _down(
        self, target: SpectralProblem, x: Tensor, sigma: float, sigma_next: float, rng: Rng
    ) -> tuple[Tensor, Tensor]:
        """The iterate at `sigma_next` and the corrected clean estimate that it was made of."""
        x0 = target.prior(x, sigma)
        if sigma_next == 0:
            return x0, x0
        operator, s, std = measurement = target.measurement
        weight, spread = bridge(0.0, sigma_next, sigma, self.eta)
        gain = 1 - weight
        # The paper's lambda over s, which stays finite where s is small.
        safe = torch.where(measurement.seen, s, 1.0)
        pull = (1 / safe).clamp(max=spread / (gain * std)) * measurement.seen
        left = (spread**2 - (gain * pull * std) ** 2).clamp(min=0).sqrt()
        c, c0 = operator.vt(x), operator.vt(x0)
        c0 = c0 + pull * (measurement.measured(target.y) - s * c0)
        noise = left * target.space.flatten(rng.normal_like(x))
        return operator.v(c0 + weight * (c - c0) + noise), operator.v(c0)
