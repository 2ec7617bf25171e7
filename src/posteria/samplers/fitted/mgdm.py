"""MGDM: mixture-guided diffusion, by Gibbs sampling."""

import abc
import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from ...core.errors import require
from ...core.level import Level, at_least, like, root, spread, spreads
from ...core.rng import Rng
from ...core.settings import Settings
from ...core.space import Space
from ...core.state import State
from ...diffusion.betas import KarrasBetas, ScaledLinearBetas
from ...diffusion.kernel import bridge, bridge_step, run_to_clean
from ...diffusion.schedule import Schedule, Table
from ...target import Posterior
from ..posterior import PosteriorSampler
from .gaussian_vi import InnerSteps, Normal, fit, through


@dataclass(frozen=True)
class IndexLaw(metaclass=Settings):
    """The law of the time at which the likelihood is evaluated, given the time two levels on."""

    @abc.abstractmethod
    def draw(self, upper: float, progress: float, rng: Rng) -> Level:
        """A time in (0, upper]: one for all samples if it is not random, else one a sample, from its own stream.

        Args:
            upper: Time of the level after the next.
            progress: Share of the levels that are behind.
            rng: One stream a sample.
        """


@dataclass(frozen=True)
class Deterministic(IndexLaw):
    """Always the level after the next."""

    @override
    def draw(self, upper: float, progress: float, rng: Rng) -> Level:
        return upper


@dataclass(frozen=True)
class Midpoint(IndexLaw):
    """A fraction of the time of the level after the next."""

    alpha: float = 0.5
    limits: ClassVar = {"alpha": "(0, 1]"}

    @override
    def draw(self, upper: float, progress: float, rng: Rng) -> Level:
        return self.alpha * upper


@dataclass(frozen=True)
class Uniform(IndexLaw):
    """Any time below that of the level after the next.

    Args:
        lowest: The lowest time; 10 of 999 table entries in the paper.
    """

    lowest: float = 10 / 999
    limits: ClassVar = {"lowest": "[0, 1]"}

    @override
    def draw(self, upper: float, progress: float, rng: Rng) -> Level:
        low = min(self.lowest, upper)
        return low + (upper - low) * rng.uniform()


@dataclass(frozen=True)
class Mix(Uniform):
    """`Uniform` over the first levels, then `Deterministic`.

    Args:
        lowest: The lowest time.
        share: The share of the levels that are uniform.
    """

    share: float = 0.7
    limits: ClassVar = {"share": "[0, 1]"}

    @override
    def draw(self, upper: float, progress: float, rng: Rng) -> Level:
        return super().draw(upper, progress, rng) if progress < self.share else upper


@dataclass(frozen=True, kw_only=True)
class MGDM(PosteriorSampler[State]):
    """Mixture-guided diffusion (Janati et al., 2025, arXiv:2502.03332), algorithm 2.

    At each level the likelihood is evaluated at a random earlier time, and Gibbs sweeps alternate
    between the signal at that time (a fitted Gaussian), the clean signal (a short run of the
    diffusion) and the iterate (a bridge). With G optimiser steps, R sweeps and M points a level costs
    R (G + M - 1) evaluations and R G vjps; the last two levels cost nothing.

    Args:
        schedule: The noise levels.
        gibbs: Sweeps R at each level.
        index: Law of the earlier time.
        points: Points M of the run from the earlier time to the clean signal.
        inner: Optimiser steps at each level.
        lr: Step size of Adam.
        early: `(levels, lr)`: another step size at so many first levels.
        eta: Stochasticity of the runs and of the first move; 1 is ancestral.
        as_published: What is done as in the paper and its code:

            - `units`: the optimiser's steps are in units of the noised data, `sqrt(1 + sigma^2)`, and not
              of the Gaussian that is fitted to;
            - `sampled_kl`: the reference's part of the fit's gradient is estimated from the draw.
    """

    schedule: Schedule = field(default_factory=lambda: Table(steps=49))
    gibbs: int = 1
    index: IndexLaw = field(default_factory=Mix)
    points: int = 10
    inner: InnerSteps = field(default_factory=lambda: InnerSteps(10))
    lr: float = 0.4
    early: tuple[int, float] | None = None
    eta: float = 1.0
    as_published: tuple[str, ...] = ()
    fewest: ClassVar[int] = 3
    switches: ClassVar = {"units": ("relative", False), "sampled_kl": ("sampled_kl", True)}
    limits: ClassVar = {
        "gibbs": "[1, inf)",
        "points": "[2, inf)",
        "lr": "(0, inf)",
        "eta": "[0, 1]",
    }

    def __post_init__(self) -> None:
        levels, lr = self.early or (0, self.lr)
        require(
            levels >= 0 and 0 < lr < math.inf,
            f"early of MGDM is a number of levels and a step size above 0; {self.early!r} is not.",
        )

    @classmethod
    def presets(cls) -> dict[str, "MGDM"]:
        """The settings of the official code (arXiv:2502.03332), with 100 grid points.

        For data in [-1, 1] (gmm: of any scale), on DDPM's linear table; ffhq_ldm has that of the latent
        network (0.0015 to 0.0195, scaled linear); audio, the separation of stems, is for waveforms of full scale 1 and
        has 20 grid points. Evaluations / vjps per sample: gmm 2425 / 590, images 2245 / 410, ffhq and imagenet
        2725 / 890, ffhq_ldm 2704 / 869, audio 2449 / 1020.
        """
        switches = ("units", "sampled_kl")
        paper = partial(cls, schedule=Table(steps=99), points=20, as_published=switches)
        early = partial(paper, lr=0.03, early=(11, 0.01))
        return {
            "gmm": paper(lr=0.1, inner=InnerSteps(5, last=(9, 20))),
            "images": early(inner=InnerSteps(3, last=(9, 20))),
            "ffhq": early(inner=InnerSteps(5, last=(29, 20))),
            "imagenet": paper(lr=0.03, inner=InnerSteps(5, last=(29, 20))),
            "ffhq_ldm": early(
                schedule=Table(steps=99, betas=ScaledLinearBetas(0.0015, 0.0195)),
                inner=InnerSteps(3, last=(29, 20), every=(10, 9, 20)),
            ),
            "audio": paper(
                schedule=Table(steps=19, betas=KarrasBetas()),
                gibbs=6,
                index=Mix(share=13 / 20),
                points=15,
                lr=0.005,
                inner=InnerSteps(3, last=(9, 20)),
            ),
        }

    @override
    def evaluations(self, target: Posterior) -> int:
        return 1 + self.gibbs * sum(map(self._of_sweep, range(self.schedule.steps - 2)))

    def _of_sweep(self, count: int) -> int:
        """Evaluations and vjps of a sweep in a step before the last two."""
        steps = self.inner(self.schedule.steps - count, self.schedule.steps)
        return 2 * steps + len(self._run(self._time(count, Rng([0]))))

    def _time(self, count: int, rng: Rng) -> Level:
        """The earlier time of a step."""
        levels = self.levels
        upper = self.schedule.time(levels[count + 2])
        # The level 0 has no likelihood of a noisy signal; the lowest one above it has.
        floor = self.schedule.time(self.schedule.lowest)
        return at_least(self.index.draw(upper, count / len(levels), rng), floor)

    def _run(self, time: Level) -> list[Level]:
        """The levels of a run from a time to a clean signal, without the 0 at its end."""
        levels = self.schedule.down(time, self.points - 1)
        if isinstance(time, Tensor):
            return levels
        return sorted({level for level in levels if level > 0}, reverse=True)

    @override
    def carried(self, target: Posterior, x: Tensor) -> dict[str, Any]:
        return {"x0": target.prior(x, self.levels[0])}

    @override
    def step(
        self, target: Posterior, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        count = state.count + 1
        if state.count >= self.schedule.steps - 2:
            # The likelihood has been evaluated at the lowest level already.
            return State(x=state.x0, x0=state.x0, sigma=sigma, count=count)
        time = self._time(state.count, rng)
        tau = self.schedule.at(time)
        steps = self.inner(self.schedule.steps - state.count, self.schedule.steps)
        lr = self.early[1] if self.early and state.count < self.early[0] else self.lr

        space, x_last, x0 = target.space, state.x, state.x0
        x = bridge_step(space, x0, x_last, (0.0, sigma_next, sigma), rng, self.eta)
        for _ in range(self.gibbs):
            reference, scale = self._reference(space, x, x0, (sigma_next, tau))
            x_tau = fit(
                through(target, like(tau, x)),
                reference,
                reference,
                rng,
                steps=steps,
                lr=lr,
                scale=scale,
                sampled_kl="sampled_kl" in self.as_published,
            ).draw(rng)
            x0 = run_to_clean(target.prior, space, x_tau, self._run(time), rng, self.eta)
            x = bridge_step(space, x_tau, x_last, (tau, sigma_next, sigma), rng)
        return State(x=x, x0=x0, sigma=sigma, count=count)

    def _reference(
        self, space: Space, x: Tensor, x0: Tensor, levels: tuple[float, Level]
    ) -> tuple[Normal, Level]:
        """The law of the signal at the earlier time given the clean signal and the iterate, and the unit of steps."""
        sigma, tau = levels
        weight, std = spreads(bridge(0.0, tau, sigma), space, x)
        scale = spread(root(1 + tau**2), space, x) if "units" in self.as_published else std
        return Normal(x0 + weight * (x - x0), std), scale
