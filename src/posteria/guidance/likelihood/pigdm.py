"""PiGDM: pseudoinverse-guided diffusion."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from ...diffusion.scale import measured_std, spread_given
from ...linear_gaussian import Linear, LinearProblem, decomposed, innovation, linear_problem
from ...target import Posterior
from ..base import Estimate, LikelihoodRule, Memory, StepInfo


@dataclass(frozen=True, kw_only=True)
class PiGDM(LikelihoodRule):
    """Pseudoinverse guidance (Song et al., 2023, ICLR, OpenReview 9_gsMA8MRKQ), algorithm 1.

    Given x, the signal is taken for a Gaussian around `D(x)` with the variance `r^2` of a white
    Gaussian prior. The estimate is its mean given `y` as well, which is exact for white Gaussian priors.

    One evaluation and one vjp.

    Args:
        prior_std: Standard deviation of an entry of the signal; None measures it once a prior. The paper has 1.
        strength: None guides the estimate. A number (1 is the paper's update) leaves it and pushes the
            iterate, after the step, by so many times `r^2` times the guidance, however long the step was.
    """

    prior_std: float | None = None
    strength: float | None = None

    needs: ClassVar[str] = "linear operator, Gaussian noise"
    floored: ClassVar[bool] = True
    limits: ClassVar = {"prior_std": "(0, inf)", "strength": "[0, inf)"}

    @override
    def check(self, target: Posterior) -> None:
        # Without the decomposition, which is work.
        linear_problem(target, by=self)

    @override
    def arrange(self, target: Posterior) -> LinearProblem:
        return linear_problem(decomposed(target), by=self)

    @override
    def __call__(
        self, target: LinearProblem, x: Tensor, info: StepInfo, memory: Memory
    ) -> Estimate:
        sigma = info.sigma
        variance = spread_given(sigma, measured_std(target.prior, self.prior_std)) ** 2
        x0, guidance = guided(target, x, sigma, variance)
        if self.strength is None:
            return Estimate(x0 + sigma**2 * guidance, memory)
        return Estimate(x0, memory, self.strength * variance * guidance)


def guided(
    problem: LinearProblem, x: Tensor, sigma: float, variance: float
) -> tuple[Tensor, Tensor]:
    """`D(x)` and the gradient of the log of `N(y; A D(x), std^2 + variance A A^T)` in its mean."""
    operator = problem.operator
    x0, denoiser_vjp = problem.prior.vjp_once(x, sigma)
    residual = problem.y - operator(x0)
    solved = innovation(Linear(operator, problem.std), residual, variance)
    return x0, denoiser_vjp(operator.adjoint(solved))
