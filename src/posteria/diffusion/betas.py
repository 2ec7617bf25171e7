"""The discrete noise tables of DDPM-type checkpoints, in the coordinate `x = x_0 + sigma * noise`."""

import abc
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import require
from ..core.linalg import outside_inference
from ..core.settings import Settings

# The range of the number of training steps.
SIZE = {"size": "[1, inf)"}


@dataclass(frozen=True)
class Betas(metaclass=Settings):
    """The variances that a DDPM adds at each training step (Ho et al., 2020, arXiv:2006.11239)."""

    own: ClassVar = " A list or an array of variances is GivenBetas(variances)."

    def __post_init__(self) -> None:
        values = self.values()
        require(
            len(values) > 0 and bool(((values > 0) & (values <= 1)).all()),
            f"A noise table holds variances above 0 and at most 1; that of {type(self).__name__} does not.",
        )
        require(
            len(values) > 1 and bool((np.diff(self.sigmas) > 0).all()),
            f"A noise table has two steps at least, and more noise after each; that of {type(self).__name__} does not.",
        )

    @abc.abstractmethod
    def values(self) -> np.ndarray:
        """beta_0, ..., beta_{N-1} in float64."""

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """`sigma^2 = (1 - abar) / abar` after each training step, increasing."""
        log_abar = np.cumsum(np.log1p(-np.clip(self.values(), 0, 0.9999)))
        return tuple(np.sqrt(np.expm1(-log_abar)).tolist())

    def index(self, sigma: float | Tensor) -> float | Tensor:
        """The training step, as a real number, at which the noise level was `sigma`.

        Interpolates in log sigma; levels outside of the table go to its ends.
        """
        if not isinstance(sigma, Tensor):
            log_sigma = math.log(max(sigma, self.sigmas[0]))
            return float(np.interp(log_sigma, _log_table(self), np.arange(len(self.sigmas))))
        table = _log_table_on(self, sigma.device)
        log_sigma_t = sigma.double().clamp(self.sigmas[0], self.sigmas[-1]).log()
        upper = torch.searchsorted(table, log_sigma_t).clamp(1, len(table) - 1)
        low, high = table[upper - 1], table[upper]
        return upper - 1 + (log_sigma_t - low) / (high - low)


@lru_cache(maxsize=16)
def _log_table(betas: Betas) -> np.ndarray:
    return np.log(np.array(betas.sigmas, dtype=np.float64))


@lru_cache(maxsize=16)
def _log_table_on(betas: Betas, device: torch.device) -> Tensor:
    with outside_inference():
        return torch.from_numpy(_log_table(betas)).to(device)


@dataclass(frozen=True)
class LinearBetas(Betas):
    """Betas on a straight line: DDPM, and the FFHQ and ImageNet networks of guided diffusion."""

    start: float = 1e-4
    end: float = 0.02
    size: int = 1000
    limits: ClassVar = SIZE

    @override
    def values(self) -> np.ndarray:
        return np.linspace(self.start, self.end, self.size)


@dataclass(frozen=True)
class ScaledLinearBetas(Betas):
    """Betas whose square roots lie on a straight line: latent diffusion and Stable Diffusion."""

    start: float = 0.00085
    end: float = 0.012
    size: int = 1000
    limits: ClassVar = {"start": "(0, 1]", "end": "(0, 1]", **SIZE}

    @override
    def values(self) -> np.ndarray:
        roots = np.linspace(math.sqrt(self.start), math.sqrt(self.end), self.size)
        return np.square(roots)


@dataclass(frozen=True)
class CosineBetas(Betas):
    """The cosine table (Nichol and Dhariwal, 2021, arXiv:2102.09672), equation 17."""

    size: int = 1000
    largest: float = 0.999
    limits: ClassVar = {"largest": "(0, 1]", **SIZE}

    @override
    def values(self) -> np.ndarray:
        t = np.arange(self.size + 1) / self.size
        abar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
        betas: np.ndarray = 1 - abar[1:] / abar[:-1]
        return betas.clip(0, self.largest)


@dataclass(frozen=True)
class KarrasBetas(Betas):
    """The table whose levels lie on a straight line in `sigma^(1/rho)` (arXiv:2206.00364, equation 5).

    The default is that of the waveforms of arXiv:2302.02257, as MGDM samples them.
    """

    sigma_min: float = 5e-4
    sigma_max: float = 20.0
    rho: float = 3.0
    size: int = 1000
    limits: ClassVar = {**dict.fromkeys(("sigma_min", "sigma_max", "rho"), "(0, inf)"), **SIZE}

    @override
    def values(self) -> np.ndarray:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        square = np.linspace(low, high, self.size) ** (2 * self.rho)
        betas: np.ndarray = np.diff(square, prepend=0.0) / (1 + square)
        return betas


@dataclass(frozen=True)
class GivenBetas(Betas):
    """Any other table.

    Args:
        betas: The variances, as any list, array or tensor of numbers.
    """

    betas: tuple[float, ...]

    @override
    def values(self) -> np.ndarray:
        return np.asarray(self.betas, dtype=np.float64)


def zero_terminal_snr(betas: Betas) -> GivenBetas:
    """The table whose last step leaves no signal (Lin et al., 2023, arXiv:2305.08891), algorithm 1.

    The square roots of abar are shifted so that the last is 0, and scaled so that the first stays.
    """
    roots = np.sqrt(np.cumprod(1 - betas.values()))
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    abar = np.square(roots)
    return GivenBetas(tuple((1 - abar / np.concatenate([[1.0], abar[:-1]])).tolist()))
