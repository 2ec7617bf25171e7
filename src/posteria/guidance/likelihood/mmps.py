"""MMPS: moment matching posterior sampling."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from ...core.linalg import LinearMap
from ...core.space import Space
from ...linear_gaussian import GaussianProblem, cell_problem, entry_cells, of_cells
from ...target import Posterior
from ..base import Estimate, LikelihoodRule, Memory, StepInfo

# Pixels to each side over which the diagonal of a Jacobian is averaged, and the share of its mean that it has at least.
NEAR, LEAST = 4, 0.1
Product = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class MMPS(LikelihoodRule):
    """Moment matching (Rozet et al., 2024, arXiv:2405.13712).

    Given x, the signal is taken for a Gaussian with its exact moments, the mean `D(x)` and the
    covariance `sigma^2 J` of Tweedie's formulas; the estimate is its mean given `y` as well, exact for
    Gaussian priors and linear operators (others are linearised at `D(x)`). The solve is by conjugate
    gradients with the transposed Jacobian in place of the Jacobian, which is symmetric for an exact
    denoiser. Where coefficients were rounded the measurement is that of their cells (`Operator.rounded`),
    since rounding has no derivative; where each entry was rounded or clipped, what the cells say at the variance of an
    entry given x, which is the diagonal of `sigma^2 J` by one random product with it, averaged over `NEAR` pixels to
    each side. One evaluation and `iterations` vjps, but no more vjps than `y` has entries, and one more for such cells.

    The Jacobian of a network is not symmetric, and conjugate gradients may then run away. `solver="gmres"` takes the
    combination with the least residual of the same products (Saad and Schultz, 1986, doi:10.1137/0907058), symmetric or
    not; it stores a tensor like `y` for each product.

    Args:
        iterations: Products with the covariance a solve.
        tolerance: Relative residual at which a sample's solve ends.
        solver: `cg`, the paper's conjugate gradients, or `gmres`.
    """

    iterations: int = 5
    tolerance: float = 1e-6
    solver: Literal["cg", "gmres"] = "cg"

    needs: ClassVar[str] = "Gaussian noise"
    floored: ClassVar[bool] = True
    limits: ClassVar = {"iterations": "[1, inf)", "tolerance": "[0, 1)"}

    @override
    def arrange(self, target: Posterior) -> GaussianProblem:
        return cell_problem(target, by=self)

    @override
    def evaluations(self, target: Posterior) -> int:
        problem = self.arrange(target)
        probe = entry_cells(problem) is not None
        return 1 + min(self.iterations, problem.operator.codomain.size) + probe

    @override
    def __call__(
        self, target: GaussianProblem, x: Tensor, info: StepInfo, memory: Memory
    ) -> Estimate:
        """E[x_0 | x, y] by a solve with `std^2 + sigma^2 A J A^T`."""
        problem, sigma = target, info.sigma
        x0, denoiser_vjp = problem.prior.vjp(x, sigma)
        cells = entry_cells(problem)
        if cells is not None:
            share = _diagonal(denoiser_vjp, x0, info.index)
            problem = of_cells(problem, cells.matched(x0, sigma**2 * share))
        operator = problem.operator
        ax0, operator_vjp = operator.vjp(x0)

        def product(z: Tensor) -> tuple[Tensor, Tensor]:
            """`sigma^2 J A^T z`, and of that the measurement."""
            signal = sigma**2 * denoiser_vjp(operator_vjp(z))
            return signal, operator.jvp(x0, signal)

        solve = self._least_residual if self.solver == "gmres" else self._conjugate
        return Estimate(solve(product, x0, problem.y - ax0, problem), memory)

    def _conjugate(
        self, product: Product, x0: Tensor, residual: Tensor, problem: GaussianProblem
    ) -> Tensor:
        variance, domain, codomain = (
            problem.std**2,
            problem.operator.domain,
            problem.operator.codomain,
        )
        direction = residual
        rr = codomain.flatten(residual).square().sum(-1)
        floor = rr * max(self.tolerance, torch.finfo(rr.dtype).eps) ** 2
        active, guided = rr > floor, x0
        # No early end: all samples cost the same, and those that have converged are left alone.
        for _ in range(min(self.iterations, codomain.size)):
            signal, image = product(direction)
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

    def _least_residual(
        self, product: Product, x0: Tensor, residual: Tensor, problem: GaussianProblem
    ) -> Tensor:
        """By Arnoldi's orthonormal directions, of which the combination with the least residual is taken."""
        space, count = (
            problem.operator.codomain,
            min(self.iterations, problem.operator.codomain.size),
        )
        norm = space.flatten(residual).norm(dim=-1)
        directions, signals = [_over(space, residual, norm)], []
        upper = residual.new_zeros(len(x0), count + 1, count, dtype=torch.float64)
        least = max(self.tolerance, torch.finfo(residual.dtype).eps)
        for j in range(count):
            signal, image = product(directions[j])
            image = image + problem.std**2 * directions[j]
            whole = space.flatten(image).norm(dim=-1)
            for i, direction in enumerate(directions):
                share = space.flatten(image * direction).sum(-1)
                upper[:, i, j] = share
                image = image - space.per_sample(share) * direction
            rest = space.flatten(image).norm(dim=-1)
            # A sample whose solve has ended goes on with nothing.
            upper[:, j + 1, j] = rest = torch.where(rest > least * whole, rest, 0)
            signals.append(signal)
            directions.append(_over(space, image, rest))
        # The first column of the inverse times the residual, whose only share is along the first direction.
        # A sample that has run away is nan by its norm or its signals, and does not end the others.
        inverse = torch.linalg.pinv(upper.nan_to_num(0.0, 0.0, 0.0))
        weights = (inverse[:, :, 0] * norm[:, None]).to(x0.dtype)
        domain = problem.operator.domain
        return sum((domain.per_sample(weights[:, j]) * signals[j] for j in range(count)), x0)


def _over(space: Space, x: Tensor, norm: Tensor) -> Tensor:
    """Of the norm 1, or 0 where there is none."""
    return x / space.per_sample(torch.where(norm > 0, norm, torch.inf))


def _diagonal(vjp: LinearMap, x: Tensor, index: int) -> Tensor:
    """The diagonal of a Jacobian at `x`, `[n, *event]`: of pictures near each pixel, over all channels.

    By Hutchinson's estimate with one sign an entry, the same for all samples.
    """
    rng = torch.Generator().manual_seed(index)
    signs = torch.randint(2, x.shape[1:], generator=rng).to(x) * 2 - 1
    found = signs * vjp(signs.expand(x.shape))
    if x.ndim == 4:
        of_pixels = found.mean(1, keepdim=True)
        found = torch.nn.functional.avg_pool2d(
            of_pixels, 2 * NEAR + 1, 1, NEAR, count_include_pad=False
        ).expand(x.shape)
    least = LEAST * found.flatten(1).mean(1).clamp(min=1e-8)
    return found.maximum(least.reshape(-1, *(1,) * (x.ndim - 1)))
