"""Draws from a Gaussian around an estimate times the likelihood, exact or by Langevin steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...core.errors import require
from ...core.rng import Rng
from ...core.settings import Settings
from ...core.space import Space
from ...likelihood import GaussianLikelihood, Likelihood
from ...linear_gaussian import Linear, posterior_draw
from ...operators.base import LinearOperator
from ...target import Posterior

POWER_ITERATIONS = 4


@dataclass(frozen=True, kw_only=True)
class Langevin(metaclass=Settings):
    """Unadjusted Langevin steps on a Gaussian times a likelihood; no evaluation of the prior.

    Args:
        steps: Number of steps, one gradient of the log-likelihood each.
        lr: Step size.
        adaptive: Steps of `lr` over the largest curvature met so far, with the noise of a step averaged
            with that of the next, which has no discretisation error on a Gaussian (Leimkuhler and
            Matthews, 2012, arXiv:1203.5428). Otherwise, as in the papers' code, plain steps of `lr` in
            squared data units.
        momentum: Of plain steps, the share of its velocity that each keeps: 0 for Langevin's, more for the damped
            Hamiltonian steps of the code of arXiv:2407.01521.
    """

    steps: int = 20
    lr: float = 0.5
    adaptive: bool = True
    momentum: float = 0.0
    limits: ClassVar = {"steps": "[1, inf)", "lr": "(0, inf)", "momentum": "[0, 1)"}

    def __post_init__(self) -> None:
        require(
            self.lr <= 1 or not self.adaptive,
            f"The step size of adaptive Langevin steps is at most 1; lr={self.lr}.",
        )
        require(
            self.momentum == 0 or not self.adaptive,
            "Adaptive Langevin steps have no momentum; it goes with adaptive=False.",
        )

    def draw(
        self,
        likelihood: Likelihood,
        y: Tensor,
        mean: Tensor,
        variance: float,
        space: Space,
        rng: Rng,
        decay: float = 1.0,
    ) -> Tensor:
        """Draw from about `N(x; mean, variance I) p(y | x)`, with a step size of `decay * lr`."""
        lr = decay * self.lr

        def score(x: Tensor) -> Tensor:
            return likelihood.score(y, x)

        if not self.adaptive:
            x, kept = mean, self.momentum
            velocity = math.sqrt(lr) * rng.normal_like(x) if kept else torch.zeros_like(x)
            for _ in range(self.steps):
                drift = score(x) + (mean - x) / variance
                noise = math.sqrt(2 * (1 - kept) * lr) * rng.normal_like(x)
                pushed = kept * velocity + lr * drift
                x, velocity = x + pushed + noise, pushed + noise
            return x

        slope = _slope(score, mean, math.sqrt(variance), space, rng)
        noise, step = rng.normal_like(mean), lr / (1 / variance + slope)
        # Only a part of this draw is the noise that the first step shares with it, so that a
        # direction in which nothing is measured has its exact variance after every step.
        x = mean + (variance - step / 2).sqrt() * rng.normal_like(mean)
        x = x + (step / 2).sqrt() * noise
        gradient = score(x)
        for left in range(self.steps - 1, -1, -1):
            step, fresh = lr / (1 / variance + slope), rng.normal_like(x)
            move = step * (gradient + (mean - x) / variance) + (step / 2).sqrt() * (noise + fresh)
            x, noise = x + move, fresh
            if left:
                before, gradient = gradient, score(x)
                far = space.norm(move).clamp(min=torch.finfo(x.dtype).tiny)
                met = space.norm(gradient - before) / far
                slope = torch.maximum(slope, met)
        return x


def _slope(
    score: Callable[[Tensor], Tensor], x: Tensor, scale: float, space: Space, rng: Rng
) -> Tensor:
    """The largest curvature at `x`, by power iteration on differences of the score; one a sample."""
    # A hundredth of the spread in each entry: with less, single precision sees its own rounding.
    here, direction = score(x), rng.normal_like(x)
    h = 1e-2 * scale * math.sqrt(space.size)
    for _ in range(POWER_ITERATIONS):
        direction = (score(x + h * space.unit(direction)) - here) / h
    return space.norm(direction)


def draw_near(
    target: Posterior,
    mean: Tensor,
    variance: float,
    rng: Rng,
    *,
    langevin: Langevin,
    exact: bool,
    decay: float = 1.0,
) -> Tensor:
    """Draw from `N(x; mean, variance I) p(y | x)`; `exact` is without error where it is linear with Gaussian noise."""
    likelihood, y = target.likelihood, target.y
    if exact and isinstance(likelihood, GaussianLikelihood):
        operator = likelihood.operator
        if isinstance(operator, LinearOperator):
            return posterior_draw(Linear(operator, likelihood.std), y, mean, variance, rng)
    return langevin.draw(likelihood, y, mean, variance, target.space, rng, decay)
