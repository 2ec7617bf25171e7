"""MGPS: midpoint guidance posterior sampling."""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from ...core.level import Level
from ...core.rng import Rng
from ...core.state import State
from ...diffusion.betas import ScaledLinearBetas
from ...diffusion.kernel import bridge, bridge_step
from ...diffusion.schedule import Schedule, Table
from ...target import Posterior
from ..posterior import PosteriorSampler
from .gaussian_vi import InnerSteps, Normal, fit, through


@dataclass(frozen=True, kw_only=True)
class MGPS(PosteriorSampler[State]):
    """Midpoint guidance posterior sampling (Moufad et al., 2024, arXiv:2410.09945).

    Each step goes from a level down to a midpoint below the next one, where a Gaussian is fitted
    to the reverse transition times the likelihood of the denoised midpoint, and back up to the
    next level. With G optimiser steps a step costs 2 + G evaluations and G vjps, and at warm
    levels G evaluations more.

    Args:
        schedule: The noise levels.
        alpha: The midpoint's time, as a fraction of the next level's.
        inner: Optimiser steps at each level.
        lr: Step size of Adam.
        warm: From this time in [0, 1] on, a second fit keeps a clean estimate at the lowest level;
            None for never.
        full_below: Up to this time, `alpha` is 1.
        carry: Start a fit from the clean estimate of the last step (the papers' code) rather than
            from the reverse transition.
        eta: Stochasticity of the bridges.
        as_published: What is done as in the paper and its code:

            - `units`: the optimiser's steps are in units of the noised data, `sqrt(1 + sigma^2)`, and not of the
              Gaussian that is fitted to.
    """

    schedule: Schedule = field(default_factory=lambda: Table(steps=49))
    alpha: float = 0.7
    inner: InnerSteps = field(default_factory=lambda: InnerSteps(10))
    lr: float = 0.4
    warm: float | None = None
    full_below: float = 0.0
    carry: bool = True
    eta: float = 1.0
    as_published: tuple[str, ...] = ()
    switches: ClassVar = {"units": ("relative", False)}
    fewest: ClassVar[int] = 2
    limits: ClassVar = {
        "alpha": "(0, 1]",
        "lr": "(0, inf)",
        "warm": "[0, 1]",
        "full_below": "[0, 1]",
        "eta": "[0, 1]",
    }

    @classmethod
    def presets(cls) -> dict[str, "MGPS"]:
        """The settings of the official code (arXiv:2410.09945), with 300 grid points, and for ECGs 50.

        For data in [-1, 1] (gmm: of any scale, ecg: in mV), on DDPM's linear table; ffhq_ldm has that of the latent
        network (0.0015 to 0.0195, scaled linear). Evaluations / vjps per sample: gmm 1840 / 1242, images
        1532 / 674, ffhq 2200 / 1170, ffhq_ldm 2846 / 1678, imagenet 1696 / 796, ecg 1010 / 456.
        """
        paper = partial(cls, schedule=Table(steps=299), alpha=0.5, as_published=("units",))
        image = partial(paper, lr=0.03, warm=0.7)
        tens = InnerSteps(2, last=(20, 2), first=(10, 20), every=(10, 0, 20))
        return {
            "gmm": paper(lr=0.1, inner=tens),
            "images": image(inner=InnerSteps(2, last=(20, 2), first=(10, 10))),
            "ffhq": image(inner=InnerSteps(2, last=(20, 2), first=(5, 20), every=(10, 0, 20))),
            "ffhq_ldm": image(
                schedule=Table(steps=299, betas=ScaledLinearBetas(0.0015, 0.0195)),
                full_below=500 / 999,
                inner=InnerSteps(5, last=(10, 2), first=(5, 20), every=(10, 0, 10)),
            ),
            "imagenet": image(inner=InnerSteps(2, last=(10, 2), first=(5, 20), every=(20, 0, 10))),
            "ecg": replace(
                image(inner=InnerSteps(2, last=(20, 2), first=(20, 20), every=(20, 0, 2))),
                schedule=Table(steps=49),
                warm=0.0,
            ),
        }

    @override
    def evaluations(self, target: Posterior) -> int:
        return 2 + sum(map(self._of_step, range(self.schedule.steps - 1)))

    def _of_step(self, count: int) -> int:
        """Evaluations and vjps of a step above the lowest level."""
        steps, warm, middle = self._settings(count)
        above = middle > self.schedule.lowest
        return 1 + 2 * steps * above + ((1 + steps) * above if warm else 1)

    def _settings(self, count: int) -> tuple[int, bool, float]:
        """Optimiser steps of a step, whether it is warm, and its midpoint."""
        schedule, (sigma, sigma_next) = self.schedule, self.levels[count : count + 2]
        warm = self.warm is not None and schedule.time(sigma) >= self.warm
        alpha = 1.0 if schedule.time(sigma_next) <= self.full_below else self.alpha
        steps = self.inner(schedule.steps - count, schedule.steps)
        return steps, warm, schedule.fraction(sigma_next, alpha)

    @override
    def carried(self, target: Posterior, x: Tensor) -> dict[str, Any]:
        return {"x0": target.prior(x, self.levels[0])}

    @override
    def step(
        self, target: Posterior, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        count = state.count + 1
        if sigma_next == 0:
            x0 = target.prior(state.x, sigma)
            return State(x=x0, x0=x0, sigma=sigma, count=count)
        steps, warm, middle = self._settings(state.count)
        x_middle = self._midpoint(target, state, (sigma, middle), steps, warm, rng)
        if warm:
            clean = self._clean(target, x_middle, middle, steps, rng)
            end, x_end = self.schedule.lowest, clean
        else:
            clean = target.prior(x_middle, middle)
            end, x_end = middle, x_middle
        x = bridge_step(target.space, x_end, state.x, (end, sigma_next, sigma), rng, self.eta)
        return State(x=x, x0=clean, sigma=sigma, count=count)

    def _midpoint(
        self,
        target: Posterior,
        state: State,
        levels: tuple[float, float],
        steps: int,
        warm: bool,
        rng: Rng,
    ) -> Tensor:
        sigma, middle = levels
        lowest = self.schedule.lowest
        weight, std = bridge(0.0, middle, sigma)
        x0 = target.prior(state.x, sigma)
        reference = start = Normal(x0 + weight * (state.x - x0), std)
        if self.carry:
            weight, std = bridge(lowest if warm else 0.0, middle, sigma)
            start = Normal(state.x0 + weight * (state.x - state.x0), std)
        clean = middle <= lowest
        score = partial(target.likelihood.score, target.y) if clean else through(target, middle)
        scale = self._unit(reference.std, middle)
        return fit(score, reference, start, rng, steps=steps, lr=self.lr, scale=scale).draw(rng)

    def _clean(
        self, target: Posterior, x_middle: Tensor, middle: float, steps: int, rng: Rng
    ) -> Tensor:
        """Draw the signal at the lowest level given the midpoint and the measurement, from a second fit."""
        prior, likelihood, y = target.prior, target.likelihood, target.y
        lowest = self.schedule.lowest
        if middle <= lowest:
            return x_middle
        x0 = prior(x_middle, middle)
        weight, std = bridge(0.0, lowest, middle)
        start = Normal(x0 + weight * (x_middle - x0), std)
        reference = Normal(x_middle, math.sqrt(middle**2 - lowest**2))

        def score(u: Tensor) -> Tensor:
            return likelihood.score(y, u) + prior.score(u, lowest)

        scale = self._unit(std, lowest)
        return fit(score, reference, start, rng, steps=steps, lr=self.lr, scale=scale).draw(rng)

    def _unit(self, std: Level, sigma: float) -> Level:
        return math.sqrt(1 + sigma**2) if "units" in self.as_published else std
