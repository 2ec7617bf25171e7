"""How networks make denoisers: every usual parametrisation, in the coordinate `x = x_0 + sigma * noise`."""

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor
from typing_extensions import override

from ..core.level import Level, at_least
from ..core.settings import Settings
from .betas import Betas, LinearBetas


@dataclass(frozen=True)
class Parametrisation(metaclass=Settings):
    """How a network F makes a denoiser: `D(x, sigma) = skip * x + out * F(scale * x, time)`; a subclass says all."""

    @abstractmethod
    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        """`scale`, `skip` and `out` at a noise level."""

    @abstractmethod
    def time(self, sigma: Level) -> Level:
        """The number that the network is given for the noise level."""

    def at(self, sigma: Level) -> tuple[Level, tuple[Level, Level, Level]]:
        """The time and the coefficients of a noise level."""
        return self.time(sigma), self.coefficients(sigma)


@dataclass(frozen=True)
class Discrete(Parametrisation):
    """A network trained on a DDPM table, which is conditioned on the index of its training step.

    Args:
        betas: The table of the checkpoint.
        shift: Added to the index. At 0 the network is given the step at which it saw this noise level. 1
            reproduces the official code of MGPS and MGDM, whose table has a 1 in front, so that
            the network is given the step after it.
        whole: Give the nearest index as an integer, for a network with a table of embeddings;
            sinusoidal embeddings take any real number.
    """

    betas: Betas = field(default_factory=LinearBetas)
    shift: int = 0
    whole: bool = False
    limits: ClassVar = {"shift": "(-inf, inf)"}

    @override
    def time(self, sigma: Level) -> Level:
        last = len(self.betas.sigmas) - 1
        index = self.betas.index(sigma)
        if isinstance(index, Tensor):
            index = (index + self.shift).clamp(0, last)
            return index.round() if self.whole else index
        index = min(max(index + self.shift, 0.0), float(last))
        return float(round(index)) if self.whole else index


@dataclass(frozen=True)
class Epsilon(Discrete):
    """The network predicts the noise: `x_0 = x - sigma * F`."""

    @override
    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        return 1 / hypot(1, sigma), 1.0, -sigma


@dataclass(frozen=True)
class Velocity(Discrete):
    """The network predicts `v = (noise - sigma * x_0) / sqrt(1 + sigma^2)` (arXiv:2202.00512)."""

    @override
    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        return _velocity(sigma)


@dataclass(frozen=True)
class X0(Discrete):
    """The network predicts the clean signal `x_0` itself."""

    @override
    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        return 1 / hypot(1, sigma), 0.0, 1.0


@dataclass(frozen=True)
class FlowMatching(Parametrisation):
    """The network predicts `noise - x_0` at `x / (1 + sigma)` and `t = sigma / (1 + sigma)` (arXiv:2210.02747).

    Args:
        time_scale: The network is given `time_scale * t`; diffusers' networks want 1000.
    """

    time_scale: float = 1000.0
    limits: ClassVar = {"time_scale": "(0, inf)"}

    @override
    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        return 1 / (1 + sigma), 1 / (1 + sigma), -sigma / (1 + sigma)

    @override
    def time(self, sigma: Level) -> Level:
        return self.time_scale * sigma / (1 + sigma)


@dataclass(frozen=True)
class EDM(Parametrisation):
    """EDM's preconditioning (Karras et al., 2022, arXiv:2206.00364), table 1.

    Args:
        sigma_data: Standard deviation of the data that the network was made for.
        sign: -1 for networks that predict with the opposite sign (`v_prediction` in diffusers).
    """

    sigma_data: float = 0.5
    sign: Literal[1, -1] = 1
    limits: ClassVar = {"sigma_data": "(0, inf)"}

    @override
    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        root = hypot(self.sigma_data, sigma)
        skip = self.sigma_data**2 / root**2
        return 1 / root, skip, self.sign * sigma * self.sigma_data / root

    @override
    def time(self, sigma: Level) -> Level:
        if isinstance(sigma, Tensor):
            return sigma.clamp(min=1e-30).log() / 4
        return math.log(max(sigma, 1e-30)) / 4


@dataclass(frozen=True)
class Denoised(Parametrisation):
    """The network is a denoiser of `x_0 + sigma * noise` and is given sigma.

    Networks of EDM, EDM2 (arXiv:2312.02696) and k-diffusion with their preconditioning around them, and any
    function `f(x, sigma)` of one's own.
    """

    @override
    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        return 1.0, 0.0, 1.0

    @override
    def time(self, sigma: Level) -> Level:
        return sigma


@dataclass(frozen=True)
class Score(Parametrisation):
    """The network is the score of `x_0 + sigma * noise` and is given sigma: NCSN++ of the variance-exploding SDE.

    Song et al., 2021, arXiv:2011.13456. Their data are in [0, 1]: `posteria.diffusion.Units`.
    """

    @override
    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        return 1.0, 1.0, sigma**2

    @override
    def time(self, sigma: Level) -> Level:
        return at_least(sigma, 1e-30)


@dataclass(frozen=True)
class Angle(Parametrisation):
    """The network predicts v and is given `2 / pi * atan(sigma)`: Dance Diffusion, Stable Audio (arXiv:2202.00512)."""

    @override
    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        return _velocity(sigma)

    @override
    def time(self, sigma: Level) -> Level:
        return (sigma.atan() if isinstance(sigma, Tensor) else math.atan(sigma)) * 2 / math.pi


def hypot(a: float, value: Level) -> Level:
    """`sqrt(a^2 + value^2)`."""
    return (value**2 + a**2).sqrt() if isinstance(value, Tensor) else math.hypot(a, value)


def _velocity(sigma: Level) -> tuple[Level, Level, Level]:
    root = hypot(1, sigma)
    return 1 / root, 1 / root**2, -sigma / root
