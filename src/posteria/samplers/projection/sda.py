"""SDA: score-based data assimilation."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from ...core.rng import Rng
from ...core.state import State
from ...diffusion.betas import CosineBetas
from ...diffusion.schedule import Karras, Schedule, Table
from ...linear_gaussian import GaussianProblem, gaussian_problem
from ...target import Posterior
from ..posterior import PosteriorSampler


@dataclass(frozen=True, kw_only=True)
class SDAState(State):
    """With the running mean of the squared score over entries, in units of `1 / sigma^2`, `[n, 1, ...]`."""

    energy: Tensor


class Guidance(NamedTuple):
    """How the measurement moves the clean estimate: `gain` is the share of the residual that `shift` takes away."""

    shift: Tensor
    gain: Tensor

    def over(self, step: float | Tensor) -> Tensor:
        """The shift, made shorter where a share `step` of it would overshoot the measurement."""
        return self.shift / (step * self.gain).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class SDA(PosteriorSampler[SDAState]):
    """Score-based data assimilation (Rozet and Louppe, 2023, arXiv:2306.10574), algorithms 3 and 4.

    The likelihood of an iterate is `N(y; A(D(x)), std^2 + gamma sigma^2)`, whose gradient shifts the
    clean estimate. A deterministic reverse step (the predictor) is followed by Langevin steps (the
    corrector). With n steps and C corrections it costs `n + C (n - 1)` evaluations and as many vjps.

    Two changes, both by sample: a shift that would overshoot the measurement is cut at it, and the
    size of a Langevin step follows a running mean of the squared score (docs/samplers.md).

    Args:
        schedule: The noise levels.
        gamma: Variance of the measured clean estimate, in units of `sigma^2`, for an operator of norm
            about 1: it grows with the square of the norm. 0 takes the estimate for the signal, as
            DPS does.
        corrections: Langevin steps at each level.
        tau: Their size, relative to entries over squared length of the score.
        memory: Share of the past in the running mean of the squared score; 0 is the paper's.
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=500))
    gamma: float = 0.01
    corrections: int = 1
    tau: float = 0.25
    memory: float = 0.95
    needs: ClassVar[str] = "Gaussian noise"
    state_type: ClassVar[type[State]] = SDAState
    limits: ClassVar = {
        "gamma": "[0, inf)",
        "corrections": "[0, inf)",
        "tau": "(0, inf)",
        "memory": "[0, 1)",
    }

    @classmethod
    def presets(cls) -> dict[str, "SDA"]:
        """Settings of the official code (arXiv:2306.10574), for data of unit variance; 511 evaluations and vjps.

        256 steps with 1 correction; Lorenz '63 was run with 0 to 16. On DDPM's cosine table, which
        is not quite the paper's.
        """
        paper = partial(cls, schedule=Table(steps=256, betas=CosineBetas()), memory=0.0)
        return {"lorenz": paper(tau=0.25), "kolmogorov": paper(tau=0.5)}

    @override
    def narrow(self, posterior: Posterior) -> GaussianProblem:
        return gaussian_problem(posterior, by=self)

    @override
    def evaluations(self, target: Posterior) -> int:
        return 2 * (self.schedule.steps + (self.schedule.steps - 1) * self.corrections)

    @override
    def carried(self, target: GaussianProblem, x: Tensor) -> dict[str, Any]:
        return {"energy": torch.ones_like(target.space.sum(x))}

    @override
    def step(
        self, target: GaussianProblem, state: SDAState, sigma: float, sigma_next: float, rng: Rng
    ) -> SDAState:
        denoised, guidance = self._guided(target, state.x, sigma)
        x0 = denoised + guidance.over(1 - sigma_next / sigma)
        x, energy, space = x0 + sigma_next / sigma * (state.x - x0), state.energy, target.space
        for _ in range(self.corrections if sigma_next > 0 else 0):
            denoised, guidance = self._guided(target, x, sigma_next)
            drift = denoised + guidance.shift - x
            fresh = space.dot(drift, drift) / (space.size * sigma_next**2)
            energy = self.memory * energy + (1 - self.memory) * fresh
            # In units of sigma_next^2.
            step = self.tau / energy.clamp(min=torch.finfo(x.dtype).tiny)
            drift = denoised + guidance.over(step) - x
            x = x + step * drift + sigma_next * (2 * step).sqrt() * rng.normal_like(x)
        return SDAState(x=x, x0=x0, sigma=sigma, count=state.count + 1, energy=energy)

    def _guided(self, target: GaussianProblem, x: Tensor, sigma: float) -> tuple[Tensor, Guidance]:
        """The clean estimate under the prior, and how the measurement moves it."""
        operator, space = target.operator, target.space
        x0, denoiser_vjp = target.prior.vjp_once(x, sigma)
        ax0, operator_vjp = operator.vjp(x0)
        residual = target.y - ax0
        weighted = residual / (target.std**2 + self.gamma * sigma**2)
        shift = sigma**2 * denoiser_vjp(operator_vjp(weighted))
        # With G the Jacobian of A(D), shift = sigma^2 G^T weighted, and <weighted, G shift> is this
        # square over sigma^2.
        square = space.dot(shift, shift)
        loss = sigma**2 * operator.codomain.dot(residual, weighted).reshape(square.shape)
        return x0, Guidance(shift, square / loss.clamp(min=torch.finfo(x.dtype).tiny))
