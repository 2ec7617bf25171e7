"""DCPS: divide-and-conquer posterior sampling."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import require
from ...core.rng import Rng
from ...core.space import Space
from ...core.state import State
from ...diffusion.kernel import bridge
from ...diffusion.scale import ScaledState, measured_std
from ...diffusion.schedule import Schedule, Table
from ...likelihood import GaussianLikelihood
from ...linear_gaussian import LinearProblem, linear_problem
from ...target import Posterior
from ..posterior import PosteriorSampler
from .gaussian_vi import Normal, fit

Score = Callable[[Tensor], Tensor]
# Keeps a step along a gradient of length 0 from dividing by it.
EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class DCPS(PosteriorSampler[ScaledState]):
    """Divide-and-conquer posterior sampling (Janati et al., 2024, arXiv:2403.11407), algorithm 1.

    The levels are cut into blocks. The signal at the level tau where a block ends is taken to be
    measured with the noise level `std sqrt(1 + tau^2 / s^2)`, where s is the prior's spread (the form
    for data of another spread than the paper's 1 is derived here). A block begins with tamed Langevin
    steps; each of its steps draws from a Gaussian that is fitted to the reverse transition times the
    likelihood of a jump (DDPM) to the block's end. The last step denoises; the paper's code stops
    before it.

    A step costs 1 + G evaluations and G vjps for G optimiser steps, but 1 and none where it reaches
    the end of a block; a block costs one of each for each Langevin step, and the step to 0 one
    evaluation.

    Args:
        schedule: The noise levels.
        blocks: Number of blocks, of about equally many steps.
        langevin: Langevin steps at the beginning of a block.
        gamma: Their size, in units of the variance of the noised prior, `s^2 + sigma^2`.
        inner: Optimiser steps of a fit.
        lr: Step size of a fit.
        adam: Fit with Adam, means in units of the reverse transition's spread. Otherwise, as in the
            paper, with steps along the gradients of length `lr`, means in units of the
            noised prior's spread.
        prior_std: The prior's spread s; by default it is measured.
    """

    schedule: Schedule = field(default_factory=lambda: Table(steps=60))
    blocks: int = 3
    langevin: int = 5
    gamma: float = 0.01
    inner: int = 14
    lr: float = 0.2
    adam: bool = True
    prior_std: float | None = None

    needs: ClassVar[str] = "linear operator, Gaussian noise"
    state_type: ClassVar[type[State]] = ScaledState
    fewest: ClassVar[int] = 2
    limits: ClassVar = {
        "blocks": "[1, inf)",
        "langevin": "[0, inf)",
        "inner": "[0, inf)",
        "gamma": "(0, inf)",
        "lr": "(0, inf)",
        "prior_std": "(0, inf)",
    }

    def __post_init__(self) -> None:
        require(
            self.blocks <= self.schedule.steps,
            f"blocks is from 1 to the number of steps; {self.blocks} is not.",
        )

    @classmethod
    def presets(cls) -> dict[str, "DCPS"]:
        """The settings of the official code (arXiv:2403.11407) for pictures in [-1, 1].

        300 steps; 909 evaluations and 609 vjps.
        """
        return {
            "images": cls(
                schedule=Table(steps=300), gamma=1e-3, inner=2, lr=1.5, adam=False, prior_std=1.0
            )
        }

    @override
    def narrow(self, posterior: Posterior) -> LinearProblem:
        return linear_problem(posterior, by=self)

    @override
    def evaluations(self, target: Posterior) -> int:
        return 1 + sum(map(self._of_step, range(self.schedule.steps - 1)))

    def _of_step(self, count: int) -> int:
        """Evaluations and vjps of a step above the lowest level."""
        tau, begins = self._block(count)
        jumps = self.levels[count + 1] > tau
        return 1 + 2 * self.langevin * begins + 2 * self.inner * jumps

    def _block(self, count: int) -> tuple[float, bool]:
        """The level at which the block of a step ends, and whether it begins with the step."""
        # Where blocks end, as indices of levels; 0 is where the first begins.
        ends = [self.schedule.steps * k // self.blocks for k in range(self.blocks + 1)]
        return self.levels[min(end for end in ends if end > count)], count in ends

    @override
    def carried(self, target: LinearProblem, x: Tensor) -> dict[str, Any]:
        return {"prior_std": measured_std(target.prior, self.prior_std)}

    @override
    def step(
        self, target: LinearProblem, state: ScaledState, sigma: float, sigma_next: float, rng: Rng
    ) -> ScaledState:
        x, std, count = state.x, state.prior_std, state.count + 1
        if sigma_next == 0:
            x0 = target.prior(x, sigma)
            return replace(state, x=x0, x0=x0, sigma=sigma, count=count)
        tau, begins = self._block(state.count)
        score = self._score(target, tau, std)
        if begins:
            for _ in range(self.langevin):
                x = self._langevin(target, x, score, (tau, sigma), std, rng)

        x0 = target.prior(x, sigma)
        weight, spread = bridge(0.0, sigma_next, sigma)
        reference = Normal(x0 + weight * (x - x0), spread)

        def potential(u: Tensor) -> Tensor:
            return _jump(target, u, score, (tau, sigma_next), rng)

        if self.adam:
            fitted = fit(
                potential, reference, reference, rng, steps=self.inner, lr=self.lr, scale=spread
            )
        else:
            unit = math.hypot(std, sigma_next)
            fitted = self._descend(potential, reference.mean, spread, unit, target.space, rng)
        return replace(state, x=fitted.draw(rng), x0=x0, sigma=sigma, count=count)

    def _score(self, target: LinearProblem, tau: float, std: float) -> Score:
        """The score of the block's measurement, of the signal at the level `tau`."""
        likelihood = GaussianLikelihood(target.operator, target.std * math.hypot(1, tau / std))
        return lambda x: likelihood.score(target.y, x)

    def _langevin(
        self,
        target: LinearProblem,
        x: Tensor,
        score: Score,
        levels: tuple[float, float],
        std: float,
        rng: Rng,
    ) -> Tensor:
        """A tamed Langevin step on the noised prior times the likelihood of the mean of the jump."""
        tau, sigma = levels
        x0, pullback = target.prior.vjp_once(x, sigma)
        weight, _ = bridge(0.0, tau, sigma)
        pull = score(x0 + weight * (x - x0))
        gradient = (x0 - x) / sigma**2 + weight * pull + (1 - weight) * pullback(pull)
        unit = math.hypot(std, sigma)
        tamed = self.gamma * unit * gradient
        tamed = tamed / (1 + target.space.norm(tamed))
        return x + unit * (tamed + math.sqrt(2 * self.gamma) * rng.normal_like(x))

    def _descend(
        self, score: Score, center: Tensor, std: float, unit: float, space: Space, rng: Rng
    ) -> Normal:
        """Fit a Gaussian to `N(center, std^2 I)` times a potential by steps of the length `lr`."""
        mean, log_std = center, torch.full_like(center, math.log(std))
        for _ in range(self.inner):
            noise, spread = rng.normal_like(mean), log_std.exp()
            slope = -score(mean + spread * noise)
            mean_slope = slope + (mean - center) / std**2
            log_std_slope = (slope * noise + spread / std**2) * spread - 1
            mean = mean - self.lr * unit * mean_slope / (space.norm(mean_slope) + EPS)
            log_std = log_std - self.lr * log_std_slope / (space.norm(log_std_slope) + EPS)
        return Normal(mean, log_std.exp())


def _jump(
    target: LinearProblem, u: Tensor, score: Score, levels: tuple[float, float], rng: Rng
) -> Tensor:
    """The score in `u`, at the second level, of the likelihood of one jump from it to the first."""
    tau, sigma = levels
    if tau == sigma:
        return score(u)
    x0, pullback = target.prior.vjp_once(u, sigma)
    weight, std = bridge(0.0, tau, sigma)
    x = x0 + weight * (u - x0)
    if std:
        x = x + std * rng.normal_like(x)
    pull = score(x)
    return weight * pull + (1 - weight) * pullback(pull)
