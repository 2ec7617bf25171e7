"""TMPD: Tweedie moment projected diffusion."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core import linalg
from ...linear_gaussian import LinearProblem, linear_problem
from ...target import Posterior
from ..base import Estimate, LikelihoodRule, Memory, StepInfo


@dataclass(frozen=True, kw_only=True)
class TMPD(LikelihoodRule):
    """Tweedie moment projection (Boys et al., 2023, arXiv:2310.06721), with a diagonal covariance.

    Given x, the signal is taken for a Gaussian around `D(x)` whose entries are independent with the
    variances `sigma^2 J 1`, the row sums of Tweedie's covariance (the paper's code sums rows of
    `A J A^T`). The estimate is its mean given `y` as well, exact for Gaussian priors of independent
    entries. One evaluation and two vjps, and a solve that asks nothing of the prior.
    """

    needs: ClassVar[str] = "linear operator, Gaussian noise"
    floored: ClassVar[bool] = True

    @override
    def arrange(self, target: Posterior) -> LinearProblem:
        return linear_problem(target, by=self)

    @override
    def evaluations(self, target: Posterior) -> int:
        return 3

    @override
    def __call__(
        self, target: LinearProblem, x: Tensor, info: StepInfo, memory: Memory
    ) -> Estimate:
        operator, std, sigma = target.operator, target.std, info.sigma
        x0, denoiser_vjp = target.prior.vjp(x, sigma)
        variance = sigma**2 * denoiser_vjp(torch.ones_like(x))
        # Rows of correlations of both signs can sum to less than 0. The mean of all rows cannot,
        # for a covariance; it stands in for them.
        mean = target.space.sum(variance).clamp(min=0) / target.space.size
        variance = torch.where(variance > 0, variance, mean)

        def covariance(z: Tensor) -> Tensor:
            return std**2 * z + operator(variance * operator.adjoint(z))

        z = linalg.conjugate_gradient(
            covariance,
            target.y - operator(x0),
            operator.codomain,
            iterations=operator.iterations,
            tolerance=operator.tolerance,
        )
        return Estimate(x0 + sigma**2 * denoiser_vjp(operator.adjoint(z)), memory)
