"""DAPS: decoupled annealing posterior sampling."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from ...core.errors import expect
from ...core.rng import Rng
from ...core.state import State
from ...diffusion.kernel import reverse_step
from ...diffusion.scale import ScaledState, measured_std, spread_given
from ...diffusion.schedule import Karras, LogLinear, Schedule
from ...likelihood import GaussianLikelihood
from ...target import Posterior
from ..posterior import PosteriorSampler
from .langevin import Langevin, draw_near


@dataclass(frozen=True, kw_only=True)
class DAPS(PosteriorSampler[ScaledState]):
    """Decoupled annealing posterior sampling (Zhang et al., 2024, arXiv:2407.01521), algorithm 1.

    At each level: an estimate of the clean signal, a draw of the signal near the estimate and the
    measurement, and noise of the next level on it. A step costs `ode` evaluations and no vjp, and
    gradients of the likelihood where the draw is not exact.

    Args:
        schedule: The noise levels.
        ode: Euler steps of the probability flow ODE for the estimate. 1 is the posterior mean; more, as
            in the paper, spread the samples.
        lowest: Where the ODE's last step starts, in data units.
        prior_std: The spread s of the prior; by default it is measured.
        exact: Draw exactly where the measurement is linear with Gaussian noise.
        langevin: How to draw otherwise.
        decay: Factor that the step size of `langevin` has at the last level, and 1 at the first.
        tau: Noise level to use in place of the likelihood's; the papers' code has 0.01 always.
        as_published: What is done as in the paper:

            - `spread`: the draw is within `sigma` of the estimate, and not as near as the signal is to its
              posterior mean under a Gaussian prior of spread s, `s sigma / sqrt(s^2 + sigma^2)`.
    """

    schedule: Schedule = field(
        default_factory=lambda: LogLinear(steps=900, sigma_min=0.01, sigma_max=80.0)
    )
    ode: int = 1
    lowest: float = 0.01
    prior_std: float | None = None
    exact: bool = True
    langevin: Langevin = field(default_factory=Langevin)
    decay: float = 1.0
    tau: float | None = None
    as_published: tuple[str, ...] = ()
    switches: ClassVar = {"spread": ("matched", False)}
    state_type: ClassVar[type[State]] = ScaledState
    limits: ClassVar = {
        "ode": "[1, inf)",
        "lowest": "(0, inf)",
        "decay": "(0, 1]",
        "prior_std": "(0, inf)",
        "tau": "(0, inf)",
    }

    @property
    @override
    def solves(self) -> bool:
        return self.exact

    @classmethod
    def presets(cls) -> dict[str, "DAPS"]:
        """The settings of the official code (arXiv:2407.01521) for pictures in [-1, 1]: 1000 evaluations.

        `images` is for inpainting, blur and phase retrieval. Each of 200 levels has 100 Langevin
        steps. Those that begin with `ldm` are for latents, of LDM's FFHQ: 100 evaluations, damped Hamiltonian steps.
        """
        paper = partial(
            cls,
            schedule=Karras(steps=200, sigma_min=0.1, sigma_max=100.0),
            ode=5,
            as_published=("spread",),
            prior_std=1.0,
            exact=False,
            decay=0.01,
            tau=0.01,
        )
        lrs = {"images": 5e-5, "super_resolution": 1e-4, "high_dynamic_range": 2e-5}
        # Steps, step size, its share at the end, momentum.
        latents = {
            "ldm_inpainting": (15, 9.02e-6, 0.13, 0.74),
            "ldm_blur": (35, 2.7e-6, 0.95, 0.95),
            "ldm_super_resolution": (24, 1.35e-4, 0.023, 0.86),
            "ldm_high_dynamic_range": (38, 4.52e-6, 0.015, 0.58),
            "ldm_phase_retrieval": (65, 2.1e-5, 0.12, 0.41),
        }
        levels = Karras(steps=50, sigma_min=0.1, sigma_max=10.0)
        return {
            name: paper(langevin=Langevin(steps=100, lr=lr, adaptive=False))
            for name, lr in lrs.items()
        } | {
            name: paper(
                schedule=levels,
                ode=2,
                decay=decay,
                langevin=Langevin(steps=steps, lr=lr, adaptive=False, momentum=kept),
            )
            for name, (steps, lr, decay, kept) in latents.items()
        }

    @override
    def narrow(self, posterior: Posterior) -> Posterior:
        if self.tau is not None:
            expect(posterior.likelihood, GaussianLikelihood, by=self)
        return posterior

    @override
    def arrange(self, target: Posterior, seeds: Sequence[int]) -> tuple[Any, Rng]:
        if self.tau is not None:
            # Before the operator is decomposed in units of the noise.
            likelihood = expect(target.likelihood, GaussianLikelihood, by=self)
            target = replace(target, likelihood=replace(likelihood, std=self.tau))
        return super().arrange(target, seeds)

    @override
    def evaluations(self, target: Posterior) -> int:
        return self.schedule.steps * self.ode

    @override
    def carried(self, target: Posterior, x: Tensor) -> dict[str, Any]:
        return {"prior_std": measured_std(target.prior, self.prior_std)}

    @override
    def step(
        self, target: Posterior, state: ScaledState, sigma: float, sigma_next: float, rng: Rng
    ) -> ScaledState:
        x0 = self._estimate(target, state.x, sigma, rng)
        near = "spread" not in self.as_published
        radius = spread_given(sigma, state.prior_std) if near else sigma
        behind = state.count / max(self.schedule.steps - 1, 1)
        x = draw_near(
            target,
            x0,
            radius**2,
            rng,
            langevin=self.langevin,
            exact=self.exact,
            decay=1 - behind * (1 - self.decay),
        )
        if sigma_next > 0:
            x = x + sigma_next * rng.normal_like(x)
        return replace(state, x=x, x0=x0, sigma=sigma, count=state.count + 1)

    def _estimate(self, target: Posterior, x: Tensor, sigma: float, rng: Rng) -> Tensor:
        """The end of the probability flow ODE from `x`."""
        levels = Karras(
            steps=self.ode, sigma_min=min(self.lowest, sigma / 2), sigma_max=sigma
        ).levels()
        for level, level_next in pairwise(levels):
            x = reverse_step(x, target.prior(x, level), level, level_next, 0.0, rng)
        return x
