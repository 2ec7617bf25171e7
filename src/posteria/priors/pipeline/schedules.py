"""The noise levels of a diffusers scheduler, in the coordinate `x = x_0 + sigma * noise`."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import CapabilityError, InputError, require
from ...core.level import Level
from ...diffusion.parametrisation import EDM, Angle, Discrete, FlowMatching, Parametrisation
from ...diffusion.schedule import Karras, LogLinear, Schedule
from .schedulers import reading_of


@dataclass(frozen=True, kw_only=True)
class GivenLevels(Schedule):
    """Any list of levels, such as a scheduler's.

    Args:
        steps: Set to the number of levels.
        above: The levels above 0, decreasing. The last step goes from the lowest of them to 0.
    """

    above: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", len(self.above))
        falls = all(a > b for a, b in zip(self.above, (*self.above[1:], 0.0), strict=True))
        require(
            falls and self.above[0] < math.inf,
            "The levels of a schedule are finite, above 0 and decreasing; these are not.",
        )

    @override
    def at(self, u: Level) -> Level:
        places = np.linspace(0, 1, len(self.above))
        logs = np.log(self.above[::-1])
        if isinstance(u, Tensor):
            value = np.exp(np.interp(u.detach().double().cpu().numpy(), places, logs))
            return torch.as_tensor(value, dtype=torch.float64, device=u.device)
        return float(np.exp(np.interp(u, places, logs)))

    @override
    def time(self, sigma: float) -> float:
        places = np.linspace(0, 1, len(self.above))
        return float(np.interp(math.log(max(sigma, 1e-300)), np.log(self.above[::-1]), places))

    @override
    def levels(self) -> list[float]:
        return [*self.above, 0.0]


def sigma_of(reading: Parametrisation, time: float) -> float:
    """The noise level of a timestep of diffusers: the inverse of `Parametrisation.time`.

    The pure noise at which flow matching starts has no level; it is given a very high one.
    """
    if isinstance(reading, Discrete):
        table = np.log(np.array(reading.betas.sigmas))
        return float(np.exp(np.interp(time - reading.shift, np.arange(len(table)), table)))
    if isinstance(reading, FlowMatching):
        share = min(time / reading.time_scale, 1 - 1e-6)
        return share / (1 - share)
    if isinstance(reading, EDM):
        return math.exp(4 * time)
    if isinstance(reading, Angle):
        return math.tan(time * math.pi / 2) if time < 1 - 1e-6 else math.inf
    raise CapabilityError(f"posteria cannot turn timesteps into levels for {reading!r}.")


def schedule_of(scheduler: Any, steps: int) -> Schedule:
    """The noise levels that a scheduler of diffusers visits: those of its network's timesteps, and 0.

    Levels of Karras et al. are a `Karras` schedule, exponential ones a `LogLinear` one, all others
    `GivenLevels`. A loop of diffusers does the same, but that with `set_alpha_to_one=False` it leaves the
    noise of the first training step in its result, that `DDIMScheduler` with
    `timestep_spacing="linspace"` steps to other levels than its network is given next, and that
    clipping and thresholds are part of its step.

    Args:
        scheduler: Such as `pipeline.scheduler`; it is copied and not changed.
        steps: Its `num_inference_steps`.

    Raises:
        CapabilityError: If its levels cannot be read.
        InputError: If it has no such number of steps.
    """
    reading = reading_of(scheduler)
    require(
        hasattr(scheduler, "set_timesteps"),
        f"schedule_of reads a scheduler, such as pipeline.scheduler; this is a {type(scheduler).__name__}.",
    )
    own = copy.deepcopy(scheduler)
    try:
        own.set_timesteps(steps)
        if hasattr(own, "set_sigmas"):
            own.set_sigmas(steps)
    except ValueError as error:
        raise InputError(f"{type(own).__name__} cannot make {steps} steps: {error}") from error
    levels = _levels(own, reading)
    if levels[0] == math.inf:
        raise CapabilityError(
            f"{type(own).__name__} starts from pure noise, which has no level in posteria; give a schedule "
            "with a highest one, such as Flow(steps=28)."
        )
    if len(levels) > 1:
        low, high, rho = levels[-1], levels[0], float(own.config.get("rho", 7.0))
        kinds = (
            Karras(steps=len(levels), sigma_min=low, sigma_max=high, rho=rho),
            LogLinear(steps=len(levels), sigma_min=low, sigma_max=high),
        )
        for kind in kinds:
            if np.allclose(kind.levels()[:-1], levels, rtol=1e-5, atol=0):
                return kind
    return GivenLevels(above=tuple(levels))


def _levels(scheduler: Any, reading: Parametrisation) -> list[float]:
    """The levels above 0, decreasing, each once."""
    if isinstance(getattr(scheduler, "sigmas", None), Tensor):
        # Those at which the network is evaluated, without the end of the last step.
        given = scheduler.sigmas.double()[: len(scheduler.timesteps)].tolist()
        if isinstance(reading, FlowMatching):
            given = [share / (1 - share) if share < 1 else math.inf for share in given]
    else:
        given = [sigma_of(reading, float(time)) for time in scheduler.timesteps]
    if given[0] < given[-1]:
        raise CapabilityError(
            f"{type(scheduler).__name__} goes from the signal to the noise; give schedule_of one that goes down."
        )
    levels: list[float] = []
    for sigma in given:
        # A solver of second order names each of its levels twice, and some name them out of order.
        if sigma > 0 and (not levels or sigma < levels[-1]):
            levels.append(sigma)
    return levels
