"""FPS: filtering posterior sampling."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.rng import Rng
from ...core.state import State
from ...diffusion.kernel import bridge
from ...diffusion.schedule import LogLinear, Schedule, Table
from .filtering import Coordinates, EntryFilter, EntryProblem, draw_given, log_normal
from .population import ParticleState, equal, finish, select, take


@dataclass(frozen=True, kw_only=True)
class FilterState(ParticleState):
    """Where populations stand.

    Args:
        path: The noised measurement of each population, entry by entry, `[populations, 1, size]`.
    """

    path: Tensor


@dataclass(frozen=True, kw_only=True)
class FPS(EntryFilter[FilterState]):
    """Filtering posterior sampling with particles, FPS-SMC (Dou and Song, 2024, OpenReview tplXNcHZs1), algorithm 2.

    A measurement is noised level by level as the signal is, and a fully adapted particle filter
    follows that path, which a population draws once, from its law given `y`. The paper takes the
    noise of `y` for a new one at each level, which makes the posterior too narrow. Here the path is
    the signal's own down to the level `sigma_i = std / s_i` at which the diffusion is as noisy as
    entry i, and is not followed further, so that with many particles it draws from the posterior
    exactly, but for the length of the steps. With few, populations differ by their paths.

    One evaluation a step for each particle of a population, and no vjp. Particles that descend from
    one ancestor are alike: with images, take one sample of each population, seeds 0, `particles`,
    `2 particles` and so on.

    Args:
        schedule: The noise levels. The first is far above the scale of the prior, since particles
            start at pure noise.
        particles: Size of a population.
        threshold: A population is resampled when its effective size is below this share; 0 is never.
        as_published: What is done as in the paper:

            - `repeated`: the path is `A x + std * noise` with new noise at each level.
    """

    schedule: Schedule = field(
        default_factory=lambda: LogLinear(steps=400, sigma_min=0.01, sigma_max=300.0)
    )
    as_published: tuple[str, ...] = ()
    switches: ClassVar = {"repeated": ("repeated", True)}
    state_type: ClassVar[type[State]] = FilterState

    @classmethod
    def presets(cls) -> dict[str, "FPS"]:
        """The settings of the official code for images in [-1, 1]: 4995 evaluations a population of 5.

        Its path draws 95 % of the variance of a level anew at each step; this one is the bridge of
        the diffusion, which the law of the particles supposes.
        """
        return {
            "images": cls(
                schedule=Table(steps=999), particles=5, threshold=1.0, as_published=("repeated",)
            )
        }

    def _seen(self, target: EntryProblem) -> tuple[Coordinates, Tensor]:
        """The measurement, with where the path begins for its levels, and the path's variance given the signal."""
        seen = target.seen
        if "repeated" not in self.as_published:
            return seen, torch.zeros_like(seen.noise)
        start = torch.where(seen.noise.isfinite(), 0.0, torch.inf)
        return seen._replace(noise=start, anchor=start), seen.noise**2

    @override
    def init(self, target: EntryProblem, rng: Rng) -> FilterState:
        seen, extra = self._seen(target)
        sigma = self.levels[0]
        active = seen.anchor <= sigma
        spread = sigma**2 - seen.noise**2
        origin = target.space.flatten(target.space.zeros(len(rng), self.particles))
        path, density = _draw(seen.y.expand_as(origin[:, :1]), spread.clamp(min=0), active, rng)
        noise = extra - spread.clamp(max=0)
        x = seen.operator.v(draw_given(origin, sigma**2, path, noise, active, rng))
        evidence = log_normal(path, 0.0, sigma**2 + noise, active) - density + seen.log_constant
        return FilterState(**equal(x, evidence[:, 0]), path=path)

    @override
    def step(
        self, target: EntryProblem, state: FilterState, sigma: float, sigma_next: float, rng: Rng
    ) -> FilterState:
        seen, extra = self._seen(target)
        active = seen.anchor <= sigma_next
        # An entry whose path begins between the two levels is met there, on the way.
        level = torch.where(active, seen.noise.clamp(min=sigma_next), sigma_next)
        start = torch.where(active, seen.noise, sigma_next)
        weight, variance = _bridge(start, level, sigma)
        drawn = seen.y + weight.to(seen.y) * (state.path - seen.y)
        path, density = _draw(drawn, variance, active, rng)

        x0 = target.prior(state.x, sigma)
        z, z0 = seen.operator.vt(state.x), seen.operator.vt(x0)
        weight, variance = _bridge(0.0, level, sigma)
        mean = z0 + weight.to(z0) * (z - z0)
        gain = log_normal(path, mean, variance + extra, active) - density
        state = replace(
            state,
            x0=x0,
            sigma=sigma,
            count=state.count + 1,
            log_weight=state.log_weight + gain,
            path=path,
        )
        if sigma_next == 0:
            return finish(replace(state, x=x0), rng)
        state, ancestors = select(state, rng, self.threshold)
        mean, z0 = take(mean, ancestors), take(z0, ancestors)
        z = draw_given(mean, variance, path, extra, active, rng)
        weight, variance = _bridge(0.0, sigma_next, level)
        z = z0 + weight.to(z0) * (z - z0) + variance.sqrt().to(z0) * rng.normal_like(z0)
        return replace(state, x=seen.operator.v(z))


def _bridge(
    low: Tensor | float, middle: Tensor | float, high: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Weight and variance of `bridge`, `[size]`."""
    weight, std = bridge(low, middle, high)
    return torch.as_tensor(weight), torch.as_tensor(std) ** 2


def _draw(mean: Tensor, variance: Tensor, active: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
    """A draw of the path `[populations, 1, size]`, and the log-density of the entries that are random."""
    drawn = mean + variance.sqrt().to(mean) * rng.normal_like(mean)
    return drawn, log_normal(drawn, mean, variance, active & (variance > 0))
