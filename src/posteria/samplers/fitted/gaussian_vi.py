"""The inner fit that MGPS, MGDM and DCPS share: a mean-field Gaussian for a Gaussian times a potential."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ...core.errors import whole
from ...core.level import Level, tensor
from ...core.rng import Rng
from ...core.settings import Settings
from ...target import Posterior


class Normal(NamedTuple):
    """`N(mean, diag(std^2))`."""

    mean: Tensor
    std: Level

    def draw(self, rng: Rng) -> Tensor:
        """One draw a sample."""
        return self.mean + self.std * rng.normal_like(self.mean)


@dataclass(frozen=True)
class InnerSteps(metaclass=Settings):
    """How many optimiser steps each level gets. The first rule that applies wins, from top to bottom.

    The index of a level counts from the clean end, 0 for the level 0.

    Args:
        default: Where no rule applies.
        last: `(index, steps)`: levels up to this index.
        first: `(levels, steps)`: so many levels at the noisy end.
        every: `(period, remainder, steps)`: levels whose index leaves this remainder.
    """

    default: int = 10
    last: tuple[int, int] | None = None
    first: tuple[int, int] | None = None
    every: tuple[int, int, int] | None = None
    limits: ClassVar = {"default": "[0, inf)"}

    def __post_init__(self) -> None:
        for name, least in {"last": (0, 0), "first": (0, 0), "every": (1, 0, 0)}.items():
            for number, low in zip(getattr(self, name) or (), least, strict=False):
                whole(number, f"Each number of {name} of InnerSteps", low)

    def __call__(self, index: int, highest: int) -> int:
        """The steps of a level, where the noisiest has the index `highest`."""
        if self.last and index <= self.last[0]:
            return self.last[1]
        if self.first and index > highest - self.first[0]:
            return self.first[1]
        if self.every and index % self.every[0] == self.every[1]:
            return self.every[2]
        return self.default


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015, arXiv:1412.6980) as a pure function of its moments, each entry by itself."""

    lr: Level
    eps: float = 1e-8
    beta1: float = 0.9
    beta2: float = 0.999

    def step(self, gradient: Tensor, moments: list[Tensor], count: int) -> Tensor:
        """The step to subtract; `moments` is updated in place."""
        first, second = moments
        first.lerp_(gradient, 1 - self.beta1)
        second.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        root = (second / (1 - self.beta2**count)).sqrt_().add_(self.eps)
        return (first / root).mul_(self.lr / (1 - self.beta1**count))


def through(target: Posterior, level: Level) -> Callable[[Tensor], Tensor]:
    """The gradient of the log-likelihood of the estimate of x_0, in a signal at a level."""
    prior, likelihood, y = target.prior, target.likelihood, target.y

    def score(u: Tensor) -> Tensor:
        denoised, pullback = prior.vjp_once(u, level)
        return pullback(likelihood.score(y, denoised))

    return score


def fit(
    potential_score: Callable[[Tensor], Tensor],
    reference: Normal,
    start: Normal,
    rng: Rng,
    *,
    steps: int,
    lr: float,
    scale: Level = 1.0,
    sampled_kl: bool = False,
) -> Normal:
    """Minimise `KL(q | reference * potential)` over mean-field Gaussians q, with one draw a step.

    Args:
        potential_score: Gradient of the log-potential, `[n, *event]` to itself, each sample by itself.
        reference: The Gaussian factor.
        start: Where q starts.
        rng: One stream a sample.
        steps: Optimiser steps.
        lr: Step size of the log-standard deviations, and of the means in units of `scale`.
        scale: Unit of the means, a number or one a sample.
        sampled_kl: Take the reference's part of the gradient at the draw as well, not in closed form.
    """
    mean, log_std = start.mean, tensor(start.std, start.mean).log().expand_as(start.mean)
    mean_moments = [torch.zeros_like(mean), torch.zeros_like(mean)]
    log_std_moments = [torch.zeros_like(mean), torch.zeros_like(mean)]
    adam, precision = Adam(lr), 1 / tensor(reference.std, mean) ** 2
    for count in range(1, steps + 1):
        noise = rng.normal_like(mean)
        spread = log_std.exp()
        u = mean + spread * noise
        pull = (u if sampled_kl else mean) - reference.mean
        slope = -potential_score(u)
        if sampled_kl:
            slope = slope + pull * precision
            mean_slope, log_std_slope = slope, slope * noise * spread - 1
        else:
            mean_slope = slope + pull * precision
            log_std_slope = (slope * noise + spread * precision) * spread - 1
        mean = mean - scale * adam.step(mean_slope * scale, mean_moments, count)
        log_std = log_std - adam.step(log_std_slope, log_std_moments, count)
    return Normal(mean, log_std.exp())
