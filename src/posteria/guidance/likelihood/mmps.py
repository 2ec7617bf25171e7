"""MMPS: moment matching posterior sampling."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...linear_gaussian import GaussianProblem, cell_problem
from ...target import Posterior
from ..base import Estimate, LikelihoodRule, Memory, StepInfo


@dataclass(frozen=True, kw_only=True)
class MMPS(LikelihoodRule):
    """Moment matching (Rozet et al., 2024, arXiv:2405.13712).

    Given x, the signal is taken for a Gaussian with its exact moments, the mean `D(x)` and the
    covariance `sigma^2 J` of Tweedie's formulas; the estimate is its mean given `y` as well, exact for
    Gaussian priors and linear operators (others are linearised at `D(x)`). The solve is by conjugate
    gradients with the transposed Jacobian in place of the Jacobian, which is symmetric for an exact
    denoiser. Where values were rounded or clipped the measurement is that of their cells (`Operator.rounded`),
    since rounding has no derivative. One evaluation and `iterations` vjps, but no more vjps than `y` has entries.

    Args:
        iterations: Conjugate gradient iterations.
        tolerance: Relative residual at which a sample's solve ends.
    """

    iterations: int = 5
    tolerance: float = 1e-6

    needs: ClassVar[str] = "Gaussian noise"
    limits: ClassVar = {"iterations": "[1, inf)", "tolerance": "[0, 1)"}

    @override
    def arrange(self, target: Posterior) -> GaussianProblem:
        return cell_problem(target, by=self)

    @override
    def evaluations(self, target: Posterior) -> int:
        return 1 + min(self.iterations, self.arrange(target).operator.codomain.size)

    @override
    def __call__(
        self, target: GaussianProblem, x: Tensor, info: StepInfo, memory: Memory
    ) -> Estimate:
        """E[x_0 | x, y] by conjugate gradients on `std^2 + sigma^2 A J A^T`."""
        problem, sigma = target, info.sigma
        operator, variance = problem.operator, problem.std**2
        domain, codomain = operator.domain, operator.codomain
        x0, denoiser_vjp = problem.prior.vjp(x, sigma)
        ax0, operator_vjp = operator.vjp(x0)

        residual = direction = problem.y - ax0
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
        return Estimate(guided, memory)
