"""DPS: diffusion posterior sampling."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import expect, require
from ..core.rng import Rng
from ..diffusion.kernel import reverse_step
from ..diffusion.schedule import Schedule, Table, levels_of
from ..diffusion.solver import State
from ..likelihood import GaussianLikelihood
from ..target import Posterior
from .posterior import PosteriorSampler


@dataclass(frozen=True, kw_only=True)
class DPS(PosteriorSampler[State]):
    """Diffusion posterior sampling (Chung et al., 2023, arXiv:2209.14687), algorithm 1.

    One evaluation and one vjp a step; the last step is a plain denoising.

    Args:
        schedule: The noise levels; the papers' grid of 1000 by default.
        zeta: Step size of the data term in the units of the paper, where the gradient is that of
            the norm of the residual. The paper has 0.3 to 1; 0.2 comes nearest to exact
            posteriors.
        eta: Stochasticity of the reverse step; 1 is the paper's ancestral sampler.
    """

    schedule: Schedule = field(default_factory=lambda: Table(steps=999))
    zeta: float = 0.2
    eta: float = 1.0
    needs: ClassVar[str] = "Gaussian noise"

    def __post_init__(self) -> None:
        require(
            0 <= self.zeta < math.inf, f"DPS needs a step size of at least 0; zeta={self.zeta}."
        )
        require(0 <= self.eta <= 1, f"eta is from 0 to 1; {self.eta} is not.")

    @classmethod
    def presets(cls) -> dict[str, "DPS"]:
        """Settings with which MGPS and MGDM compared DPS, 999 evaluations.

        Their code differentiates the squared norm and divides by the norm, so that its `gamma` is
        `zeta / 2`.
        """
        return {
            "gmm": cls(zeta=0.2),
            "inpainting": cls(zeta=2.0),
            "super_resolution": cls(zeta=2.0),
            "blur": cls(zeta=0.6),
            "phase_retrieval": cls(zeta=0.8),
            "nonlinear_blur": cls(zeta=0.2),
            "high_dynamic_range": cls(zeta=0.14),
            "jpeg2": cls(zeta=0.4),
        }

    def check_likelihood(self, posterior: Posterior) -> None:
        """See `PosteriorSampler`."""
        expect(posterior.likelihood, GaussianLikelihood, by=self)

    @override
    def evaluations(self, target: Posterior) -> int:
        return 2 * self.schedule.steps - 1

    def init(self, target: Posterior, rng: Rng) -> State:
        """See `Sampler`."""
        x = levels_of(self.schedule)[0] * rng.normal(target.space)
        return State(x=x, x0=x)

    def step(
        self, target: Posterior, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        """See `Sampler`."""
        if sigma_next == 0:
            x0 = target.prior(state.x, sigma)
            return State(x=x0, x0=x0, sigma=sigma, count=state.count + 1)
        likelihood = expect(target.likelihood, GaussianLikelihood, by=self)
        operator = likelihood.operator
        x0, denoiser_vjp = target.prior.vjp(state.x, sigma)
        ax0, operator_vjp = operator.vjp(x0)

        residual = _weighted(target.y - ax0, likelihood.std)
        norm = operator.codomain.norm(residual)
        # A residual of exactly 0 has no direction; the step is then 0 and not nan.
        direction = residual / norm.clamp(min=torch.finfo(norm.dtype).tiny)
        descent = denoiser_vjp(operator_vjp(_weighted(direction, likelihood.std)))

        # The iterate of the paper is x / sqrt(1 + sigma^2): its step picks up both factors.
        zeta = self.zeta * math.sqrt((1 + sigma**2) * (1 + sigma_next**2))
        x = reverse_step(state.x, x0, sigma, sigma_next, self.eta, rng)
        return State(x=x + zeta * descent, x0=x0, sigma=sigma, count=state.count + 1)


def _weighted(residual: Tensor, std: float | Tensor) -> Tensor:
    """Entries weighted by their precision relative to the typical one; one noise level leaves them as they are."""
    if not isinstance(std, Tensor) or std.ndim == 0:
        return residual
    return residual * ((std**2).mean().sqrt() / std)
