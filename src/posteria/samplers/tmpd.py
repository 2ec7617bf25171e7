"""TMPD: Tweedie moment projected diffusion."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ..core import linalg
from ..core.rng import Rng
from ..diffusion.schedule import Karras, Schedule, Table, levels_of
from ..diffusion.solver import State
from ..linear_gaussian import linear
from ..target import Posterior
from .posterior import PosteriorSampler
from .reverse import advance, check_reverse


@dataclass(frozen=True, kw_only=True)
class TMPD(PosteriorSampler[State]):
    """Tweedie moment projected diffusion (Boys et al., 2023, arXiv:2310.06721), with a diagonal covariance.

    Given x, the signal is taken for a Gaussian around `D(x)` whose entries are independent with
    the variances `sigma^2 J 1`, the row sums of Tweedie's covariance. Its mean given `y` as well
    takes the place of `D(x)` in the reverse process. Exact for Gaussian priors of independent
    entries. The paper's code sums rows of `A J A^T`; sums of J do not depend on how measurements
    are rotated.

    One evaluation and two vjps a step, and a solve by conjugate gradients that asks nothing of
    the prior.

    Args:
        schedule: The noise levels.
        eta: Stochasticity of the reverse step; 0 is deterministic and 1 is ancestral.
        order: 2 extrapolates the estimate to the middle of a step, 1 does not (the paper).
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=200))
    eta: float = 1.0
    order: int = 2

    needs: ClassVar[str] = "linear operator, Gaussian noise"

    def __post_init__(self) -> None:
        check_reverse(self.eta, self.order)

    @classmethod
    def presets(cls) -> dict[str, "TMPD"]:
        """The official code's variance preserving sampler of images: 999 evaluations and 1998 vjps."""
        return {"paper": cls(schedule=Table(steps=999), order=1)}

    def check_likelihood(self, posterior: Posterior) -> None:
        """See `PosteriorSampler`."""
        linear(posterior, by=self)

    @override
    def evaluations(self, target: Posterior) -> int:
        return 3 * self.schedule.steps

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
        """E[x_0 | x, y], `[*batch, *event]`, with the row sums for a covariance."""
        operator, std = linear(target, by=self)
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
        return x0 + sigma**2 * denoiser_vjp(operator.adjoint(z))
