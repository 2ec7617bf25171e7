"""DDRM: denoising diffusion restoration models."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.rng import Rng
from ...core.state import State
from ...diffusion.schedule import Karras, Schedule, Table
from ...linear_gaussian import Spectral, SpectralProblem, spectral_problem
from ...target import Posterior
from ..posterior import PosteriorSampler


@dataclass(frozen=True, kw_only=True)
class DDRM(PosteriorSampler[State]):
    """Denoising diffusion restoration models (Kawar et al., 2022, arXiv:2201.11793).

    In the basis of the singular vectors a measured direction is `y / s`: the signal at the noise level
    `std / s`. Above that level the next iterate is the measured value, noised further; below it, the
    clean estimate with a share of its noise pointing at the measurement. One evaluation a step and no
    vjp; the last step is a plain denoising.

    Args:
        schedule: The noise levels.
        eta: Share of fresh noise in measured directions below their level; the paper has 0.85. It does
            not fade with the size of a step: near 1 and with many steps the prior wins.
        eta_b: Weight of the measured value in directions above their level; 1 (the paper's) forgets
            the clean estimate there.
        eta_c: Share of fresh noise in directions that are not measured; the paper's is `eta`.
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=200, rho=3.0))
    eta: float = 0.95
    eta_b: float = 1.0
    eta_c: float = 0.85
    needs: ClassVar[str] = "linear operator with an SVD, one level of Gaussian noise"
    each: ClassVar[int] = 1
    limits: ClassVar = {"eta": "[0, 1]", "eta_b": "[0, 1]", "eta_c": "[0, 1]"}

    @classmethod
    def presets(cls) -> dict[str, "DDRM"]:
        """Published settings, for images in [-1, 1].

        `images` is the paper's (arXiv:2201.11793), 20 evaluations; `images_200` is that of the
        comparisons of MGPS and MGDM (arXiv:2410.09945, arXiv:2502.03332), 199.
        """
        return {
            "images": cls(schedule=Table(steps=20), eta=0.85),
            "images_200": cls(schedule=Table(steps=199), eta=0.85, eta_c=1.0),
        }

    @override
    def narrow(self, posterior: Posterior) -> SpectralProblem:
        return spectral_problem(posterior, by=self)

    @override
    def init(self, target: SpectralProblem, rng: Rng) -> State:
        measurement = target.measurement
        sigma = self.levels[0]
        noise = target.space.flatten(rng.normal(target.space))
        _, value, level = _clear(measurement, target.y, sigma)
        x = measurement.operator.v(value + (sigma**2 - level**2).sqrt() * noise)
        return State(x=x, x0=x)

    @override
    def step(
        self, target: SpectralProblem, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        count = state.count + 1
        x0 = target.prior(state.x, sigma)
        if sigma_next == 0:
            return State(x=x0, x0=x0, sigma=sigma, count=count)
        measurement = target.measurement
        operator, s, std = measurement
        c, c0 = operator.vt(state.x), operator.vt(x0)
        noise = target.space.flatten(rng.normal_like(x0))
        above, value, level = _clear(measurement, target.y, sigma_next)

        def below(direction: Tensor, eta: float) -> Tensor:
            return c0 + sigma_next * (math.sqrt(1 - eta**2) * direction + eta * noise)

        free = below((c - c0) / sigma, self.eta_c)
        faint = below((measurement.measured(target.y) - s * c0) / std, self.eta)
        spread = (sigma_next**2 - (self.eta_b * level) ** 2).sqrt()
        clear = c0 + self.eta_b * (value - c0) + spread * noise
        x = operator.v(torch.where(above, clear, torch.where(measurement.seen, faint, free)))
        return State(x=x, x0=x0, sigma=sigma, count=count)


def _clear(measurement: Spectral, y: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Which directions are measured at least as well as at level `sigma`, their values `y / s` and levels `std / s`.

    Value and level are 0 in the others.
    """
    s, std = measurement.s, measurement.std
    above = measurement.seen & (s * sigma >= std)
    safe = torch.where(above, s, 1.0)
    value = torch.where(above, measurement.measured(y) / safe, 0.0)
    # The comparison above and this quotient may round to different sides of sigma.
    return above, value, torch.where(above, (std / safe).clamp(max=sigma), 0.0)
