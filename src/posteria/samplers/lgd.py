"""LGD: loss-guided diffusion by Monte Carlo."""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import require
from ..core.rng import Rng
from ..diffusion.scale import ScaledState, check_prior_std, measured_std, spread_given
from ..diffusion.schedule import Karras, Schedule, Table, levels_of
from ..diffusion.solver import State
from ..target import Posterior
from .posterior import PosteriorSampler
from .reverse import advance, check_reverse


@dataclass(frozen=True, kw_only=True)
class LGD(PosteriorSampler[ScaledState]):
    """Loss-guided diffusion by Monte Carlo, LGD-MC (Song et al., 2023, PMLR song23k).

    Given x, the signal is taken for a Gaussian around `D(x)` with the variance `r^2` of a white
    Gaussian prior. The likelihood of x is the mean likelihood of a few draws of it; the exact
    gradient of its log guides the reverse process. With many draws it is PiGDM for any
    likelihood; with few it is biased towards too much guidance.

    One evaluation and one vjp a step, and `points` evaluations of the likelihood; 23 evaluations,
    shared by all samples, measure the prior.

    Args:
        schedule: The noise levels.
        points: Draws of the signal a step. The paper has 10 to 100.
        prior_std: Standard deviation of an entry of the signal; None measures it. The paper has 1.
        reach: Farthest that the estimate is moved, in the root mean square of its entries over
            `r`; None for any distance (the paper), which diverges where `std` is far below `r`.
        eta: Stochasticity of the reverse step; 0 is deterministic and 1 is ancestral.
        order: 2 extrapolates the estimate to the middle of a step, 1 does not (the paper).
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=500))
    points: int = 32
    prior_std: float | None = None
    reach: float | None = 4.0
    eta: float = 1.0
    order: int = 2

    state_type: ClassVar[type[State]] = ScaledState

    def __post_init__(self) -> None:
        require(self.points >= 1, f"LGD needs at least 1 draw; points={self.points}.")
        check_prior_std(self.prior_std)
        require(
            self.reach is None or 0 < self.reach < math.inf,
            f"reach is None or above 0; {self.reach} is not.",
        )
        check_reverse(self.eta, self.order)

    @classmethod
    def presets(cls) -> dict[str, "LGD"]:
        """The fewest and the most draws of the paper, for data of unit scale: 999 evaluations and 999 vjps."""
        paper = partial(cls, schedule=Table(steps=999), prior_std=1.0, reach=None, order=1)
        return {"mc10": paper(points=10), "mc100": paper(points=100)}

    @override
    def evaluations(self, target: Posterior) -> int:
        return 2 * self.schedule.steps

    def init(self, target: Posterior, rng: Rng) -> ScaledState:
        """See `Sampler`."""
        x = levels_of(self.schedule)[0] * rng.normal(target.space)
        return ScaledState(x=x, x0=x, prior_std=measured_std(target.prior, self.prior_std))

    def step(
        self, target: Posterior, state: ScaledState, sigma: float, sigma_next: float, rng: Rng
    ) -> ScaledState:
        """See `Sampler`."""
        r = spread_given(sigma, state.prior_std)
        x0, denoiser_vjp = target.prior.vjp(state.x, sigma)
        moved = sigma**2 * denoiser_vjp(self.score(target, x0, r, rng))
        if self.reach is not None:
            space = target.space
            length = space.norm(moved).clamp(min=torch.finfo(moved.dtype).tiny)
            moved = moved * (self.reach * r * math.sqrt(space.size) / length).clamp(max=1)
        x0 = x0 + moved
        x = advance(state, x0, sigma, sigma_next, self.eta, self.order, rng)
        return replace(state, x=x, x0=x0, sigma=sigma, count=state.count + 1)

    def score(self, target: Posterior, x0: Tensor, r: float, rng: Rng) -> Tensor:
        """The gradient in `x0` `[n, *event]` of the log of the mean likelihood of draws around it."""
        space, likelihood = target.space, target.likelihood
        x = (x0[:, None] + r * rng.normal(space, self.points)).flatten(0, 1)
        y, measurement = target.y, likelihood.measurement
        if measurement is not None and measurement.batch(y).numel() > 1:
            y = y.repeat_interleave(self.points, 0)
        shape = (len(x0), self.points)
        weight = likelihood.log_prob(y, x).reshape(shape).softmax(-1)
        scores = likelihood.score(y, x).reshape(*shape, *space.shape)
        return (space.per_sample(weight) * scores).sum(1)
