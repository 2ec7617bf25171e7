"""Samples of the prior itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from typing_extensions import override

from ..core.errors import expect
from ..core.rng import Rng
from ..core.space import Space
from ..core.state import State
from ..diffusion.denoiser import Denoiser
from ..diffusion.schedule import Karras, Schedule
from ..diffusion.solver import Heun, Solver
from .base import Sampler


@dataclass(frozen=True, kw_only=True)
class Unconditional(Sampler[State]):
    """Draws from a prior with any solver of the reverse process.

    Args:
        schedule: The noise levels.
        solver: `DDIM()`, `DDPM()`, `Heun()` or `DPMpp2M()`.
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=32))
    solver: Solver = field(default_factory=Heun)

    @override
    def check(self, target: Denoiser, seeds: Sequence[int]) -> Space:
        return expect(target, Denoiser, by=self).space

    @override
    def step(
        self, target: Denoiser, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        return self.solver(target, state, sigma, sigma_next, rng)
