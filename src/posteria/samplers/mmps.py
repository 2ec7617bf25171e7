"""MMPS: moment matching posterior sampling."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import expect, require
from ..core.rng import Rng
from ..diffusion.schedule import Karras, LogLinear, Schedule, levels_of
from ..diffusion.solver import State
from ..likelihood import GaussianLikelihood
from ..target import Posterior
from .posterior import PosteriorSampler
from .reverse import advance, check_reverse


@dataclass(frozen=True, kw_only=True)
class MMPS(PosteriorSampler[State]):
    """Moment matching posterior sampling (Rozet et al., 2024, arXiv:2405.13712).

    Given x, the signal is taken for a Gaussian with its exact moments, the mean `D(x)` and the
    covariance `sigma^2 J` of Tweedie's formulas; its mean given `y` as well takes the place of
    `D(x)` in the reverse process. That is exact for Gaussian priors and linear operators. The
    solve is by conjugate gradients with the transposed Jacobian in place of the Jacobian, which
    is symmetric for an exact denoiser and nearly so for a network. Other operators are linearised
    at `D(x)`.

    One evaluation and `iterations` vjps a step, but no more vjps than `y` has entries.

    Args:
        schedule: The noise levels.
        iterations: Conjugate gradient iterations.
        tolerance: Relative residual at which a sample's solve ends.
        eta: Stochasticity of the reverse step; 0 is deterministic and 1 is ancestral.
        order: 2 extrapolates the estimate to the middle of a step, 1 does not (the paper).
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=200))
    iterations: int = 5
    tolerance: float = 1e-6
    eta: float = 1.0
    order: int = 2

    needs: ClassVar[str] = "Gaussian noise"

    def __post_init__(self) -> None:
        require(
            self.iterations >= 1, f"MMPS needs at least 1 iteration; iterations={self.iterations}."
        )
        require(
            0 <= self.tolerance < 1,
            f"tolerance is at least 0 and below 1; {self.tolerance} is not.",
        )
        check_reverse(self.eta, self.order)

    @classmethod
    def presets(cls) -> dict[str, "MMPS"]:
        """The default of the official code (arXiv:2405.13712): 64 evaluations and 64 vjps."""
        schedule = LogLinear(steps=64, sigma_min=1e-3, sigma_max=100.0)
        return {"paper": cls(schedule=schedule, iterations=1, tolerance=1e-3, order=1)}

    def check_likelihood(self, posterior: Posterior) -> None:
        """See `PosteriorSampler`."""
        expect(posterior.likelihood, GaussianLikelihood, by=self)

    @override
    def evaluations(self, target: Posterior) -> int:
        measurement = expect(target.likelihood, GaussianLikelihood, by=self).operator.codomain
        return self.schedule.steps * (1 + min(self.iterations, measurement.size))

    def init(self, target: Posterior, rng: Rng) -> State:
        """See `Sampler`."""
        x = levels_of(self.schedule)[0] * rng.normal(target.space)
        return State(x=x, x0=x)

    def step(
        self, target: Posterior, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        """See `Sampler`."""
        x0 = self.guided(target, state.x, sigma)
        x = advance(state, x0, sigma, sigma_next, self.eta, self.order, rng)
        return State(x=x, x0=x0, sigma=sigma, count=state.count + 1)

    def guided(self, target: Posterior, x: Tensor, sigma: float) -> Tensor:
        """E[x_0 | x, y], `[*batch, *event]`, by conjugate gradients on `std^2 + sigma^2 A J A^T`."""
        likelihood = expect(target.likelihood, GaussianLikelihood, by=self)
        operator, variance = likelihood.operator, likelihood.std**2
        domain, codomain = operator.domain, operator.codomain
        x0, denoiser_vjp = target.prior.vjp(x, sigma)
        ax0, operator_vjp = operator.vjp(x0)

        residual = direction = target.y - ax0
        rr = codomain.flatten(residual).square().sum(-1)
        floor = rr * max(self.tolerance, torch.finfo(rr.dtype).eps) ** 2
        active, guided = rr > floor, x0
        # No early end: all samples cost the same, and those that have converged are left alone.
        for _ in range(min(self.iterations, codomain.size)):
            signal = sigma**2 * denoiser_vjp(operator_vjp(direction))
            image = operator.jvp(x0, signal)
            own = codomain.flatten(variance * direction**2).sum(-1)
            prior = codomain.flatten(direction * image).sum(-1)
            # A covariance has no negative variance, but the Jacobian of a network may. Its size
            # then bounds the step, which is the sample's last.
            length = torch.where(active, rr / torch.where(active, own + prior.abs(), 1), 0)
            guided = guided + domain.per_sample(length) * signal
            residual = residual - codomain.per_sample(length) * (variance * direction + image)
            rr, last = codomain.flatten(residual).square().sum(-1), rr
            active = active & (prior >= 0) & (rr > floor)
            turn = torch.where(active, rr / torch.where(active, last, 1), 0)
            direction = residual + codomain.per_sample(turn) * direction
        return guided
