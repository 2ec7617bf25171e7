"""RED-diff: regularisation by a denoising diffusion, an optimiser."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import expect, unknown
from ...core.level import Level, like, spread
from ...core.linalg import outside_inference
from ...core.rng import Rng
from ...core.state import State
from ...diffusion.scale import ScaledState, prior_scale
from ...diffusion.schedule import LogLinear, Schedule, Table, levels_of
from ...likelihood import GaussianLikelihood
from ...linear_gaussian import linear
from ...target import Posterior
from ..fitted.gaussian_vi import Adam
from ..posterior import PosteriorSampler

# The weight of a level, where t is the level in units of the prior's standard deviation.
WEIGHTINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "sqrt": math.sqrt,
    "square": lambda t: t**2,
    "log": math.log1p,
    "clipped": lambda t: min(t, 1.0),
    "two_thirds": lambda t: math.pow(t, 2 / 3),
    "constant": lambda t: 1.0,
}


@dataclass(frozen=True, kw_only=True)
class REDDiffState(ScaledState):
    """Where the optimiser stands: `x` is the point, with Adam's moments of it."""

    first: Tensor
    second: Tensor


@dataclass(frozen=True, kw_only=True)
class REDDiff(PosteriorSampler[REDDiffState]):
    """RED-diff (Mardani et al., 2023, arXiv:2305.04391), algorithm 1.

    It returns a point and not a sample of the posterior: Adam, for each sample by itself, on the
    log-likelihood and a weighted average over noise levels of the divergence from the noised prior.
    Seeds differ by the noise of the optimiser only. One evaluation a step and no vjp.

    Args:
        schedule: The noise levels, one a step.
        order: `descending` visits each level once from the highest on, as the paper; `random` draws
            a level for each sample and step, with which the objective's optimum is reached.
        weighting: Weight of a level: one of `WEIGHTINGS`, in its ratio to the prior's spread.
        weight: Weight lambda of the prior's term; by default the one that is right for a Gaussian
            prior of independent entries.
        lr: Step size of Adam, in units of the prior's spread.
        cosine: Let the step size fall to 0 along a cosine, so that the noise of the optimiser ends.
        beta2: Adam's memory of squared gradients.
        spread: Standard deviation sigma_x0, in data units, of the Gaussian whose mean is optimised.
        prior_std: The prior's spread; by default it is measured.
        averaged: Average the terms over entries and leave the noise level of the measurement out,
            as the paper's code does; it needs Gaussian noise.
        pinv: Start at the pseudo-inverse of the measurement, as the paper does for linear
            operators, and not at the prior's mean (0 if `prior_std` is given).
    """

    schedule: Schedule = field(
        default_factory=lambda: LogLinear(steps=900, sigma_min=0.02, sigma_max=80.0)
    )
    order: Literal["descending", "random"] = "descending"
    weighting: str = "constant"
    weight: float | None = None
    lr: float = 0.05
    cosine: bool = True
    beta2: float = 0.99
    spread: float = 0.0
    prior_std: float | None = None
    averaged: bool = False
    pinv: bool = False
    state_type: ClassVar[type[State]] = REDDiffState
    each: ClassVar[int] = 1
    limits: ClassVar = {
        "lr": "(0, inf)",
        "beta2": "[0, 1)",
        "spread": "[0, inf)",
        "weight": "[0, inf)",
        "prior_std": "(0, inf)",
    }

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS:
            raise unknown("weighting", self.weighting, WEIGHTINGS)

    @classmethod
    def presets(cls) -> dict[str, "REDDiff"]:
        """The settings of the official code (arXiv:2305.04391) for pictures in [-1, 1] and linear operators.

        `images` has 100 evaluations, `inverse_problems` the 999 of the comparisons of MGPS and MGDM.
        """

        def paper(steps: int) -> "REDDiff":
            return cls(
                schedule=Table(steps=steps),
                weighting="linear",
                weight=0.25,
                lr=0.1,
                cosine=False,
                prior_std=1.0,
                averaged=True,
                pinv=True,
            )

        return {"images": paper(100), "inverse_problems": paper(999)}

    @override
    def narrow(self, posterior: Posterior) -> Posterior:
        if self.averaged:
            expect(posterior.likelihood, GaussianLikelihood, by=self)
        if self.pinv:
            linear(posterior, by=self)
        return posterior

    @override
    def init(self, target: Posterior, rng: Rng) -> REDDiffState:
        x, std = target.space.zeros(len(rng)), self.prior_std
        if std is None:
            scale = prior_scale(target.prior)
            x, std = x + scale.mean, scale.std
        if self.pinv:
            x = target.space.zeros(len(rng)) + linear(target, by=self).operator.pinv(target.y)
        zeros = torch.zeros_like(x)
        return REDDiffState(x=x, x0=x, first=zeros, second=zeros, prior_std=std)

    @override
    def step(
        self, target: Posterior, state: REDDiffState, sigma: float, sigma_next: float, rng: Rng
    ) -> REDDiffState:
        mean, std, count = state.x, state.prior_std, state.count + 1
        near = mean + self.spread * rng.normal_like(mean) if self.spread else mean
        level, weight = self._level(sigma, std, rng)
        size, factor = (spread(value, target.space, mean) for value in (level, weight))
        x0 = target.prior(near + size * rng.normal_like(mean), like(level, mean))

        gradient = self._data_term(target, near) + factor * (near - x0)
        # Adam's moments are updated in place, and a state never changes.
        moments = [state.first.clone(), state.second.clone()]
        lr = self.lr
        if self.cosine:
            lr *= (1 + math.cos(math.pi * state.count / self.schedule.steps)) / 2
        step = Adam(lr * std, beta2=self.beta2).step(std * gradient, moments, count)
        return REDDiffState(
            x=mean - step,
            x0=x0,
            sigma=sigma,
            count=count,
            first=moments[0],
            second=moments[1],
            prior_std=std,
        )

    def _level(self, sigma: float, std: float, rng: Rng) -> tuple[Level, Level]:
        """The level of a step, and what the pull to the denoised signal is multiplied by."""
        weights = (self.weighting, self.weight, std)
        if self.order == "descending":
            place = self.levels.index(sigma)
            return sigma, _factors(self.schedule, *weights)[place]
        levels, factors = _table(rng.device, self.schedule, *weights)
        index = (rng.uniform() * len(factors)).long()
        return levels[index], factors[index]

    def _data_term(self, target: Posterior, x: Tensor) -> Tensor:
        """The gradient of the negative log-likelihood; of the paper's code's data term if `averaged`."""
        if not self.averaged:
            return -target.likelihood.score(target.y, x)
        operator = expect(target.likelihood, GaussianLikelihood, by=self).operator
        ax, pullback = operator.vjp(x)
        # Adam does not see a common factor: both terms are multiplied by the size of the signal.
        return pullback(ax - target.y) * (operator.domain.size / operator.codomain.size)


@lru_cache(maxsize=64)
def _table(device: torch.device, schedule: Schedule, *weights: Any) -> Tensor:
    """The levels above 0 and their factors, `[2, levels]`."""
    with outside_inference():
        rows = (levels_of(schedule)[:-1], _factors(schedule, *weights))
        return torch.tensor(rows, dtype=torch.float64, device=device)


@lru_cache(maxsize=64)
def _factors(
    schedule: Schedule, weighting: str, weight: float | None, std: float
) -> tuple[float, ...]:
    """What the pull to the denoised signal is multiplied by, at each level above 0."""
    rate, ratios = WEIGHTINGS[weighting], [level / std for level in levels_of(schedule)[:-1]]
    if weight is None:
        # With it the prior's term has the curvature 1 / std^2 of a Gaussian prior of that spread.
        weight = len(ratios) / sum(rate(t) * t / (1 + t**2) for t in ratios)
    return tuple(weight * rate(t) / (std**2 * t) for t in ratios)
