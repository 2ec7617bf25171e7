"""DPS: diffusion posterior sampling."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from ...linear_gaussian import GaussianProblem, gaussian_problem
from ...target import Posterior
from ..base import Estimate, LikelihoodRule, Memory, StepInfo


@dataclass(frozen=True, kw_only=True)
class DPS(LikelihoodRule):
    """The gradient of the residual's norm (Chung et al., 2023, arXiv:2209.14687), algorithm 1.

    It leaves the estimate and pushes the iterate after the step. One evaluation and one vjp; the last
    step is a plain denoising.

    Args:
        zeta: Step size of the data term in the units of the paper, which has 0.3 to 1; 0.2 comes
            nearest to exact posteriors.
    """

    zeta: float = 0.2

    needs: ClassVar[str] = "Gaussian noise"
    fewest: ClassVar[int] = 2
    limits: ClassVar = {"zeta": "[0, inf)"}

    @override
    def arrange(self, target: Posterior) -> GaussianProblem:
        return gaussian_problem(target, by=self)

    @override
    def last(self, target: Posterior) -> int:
        return 1

    @override
    def __call__(
        self, target: GaussianProblem, x: Tensor, info: StepInfo, memory: Memory
    ) -> Estimate:
        sigma, sigma_next = info.sigma, info.sigma_next
        if sigma_next == 0:
            return Estimate(target.prior(x, sigma), memory)
        operator, std = target.operator, target.std
        x0, denoiser_vjp = target.prior.vjp_once(x, sigma)
        ax0, operator_vjp = operator.vjp(x0)

        direction = operator.codomain.unit(weighted(target.y - ax0, std))
        descent = denoiser_vjp(operator_vjp(weighted(direction, std)))

        # The iterate of the paper is x / sqrt(1 + sigma^2): its step picks up both factors.
        zeta = self.zeta * math.sqrt((1 + sigma**2) * (1 + sigma_next**2))
        return Estimate(x0, memory, zeta * descent)


def weighted(residual: Tensor, std: float | Tensor) -> Tensor:
    """Entries weighted by their precision relative to the typical one; one noise level leaves them as they are."""
    if not isinstance(std, Tensor) or std.ndim == 0:
        return residual
    return residual * ((std**2).mean().sqrt() / std)
