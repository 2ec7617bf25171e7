"""RePaint: inpainting with jumps back in time."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import expect
from ...core.rng import Rng
from ...core.state import State
from ...diffusion.kernel import reverse_step
from ...diffusion.schedule import Karras, Schedule, Table
from ...linear_gaussian import Narrowed, gaussian_problem
from ...operators.pixel import Inpainting
from ...target import Posterior
from ..posterior import PosteriorSampler


@dataclass(frozen=True, kw_only=True)
class RePaint(PosteriorSampler[State]):
    """RePaint (Lugmayr et al., 2022, arXiv:2201.09865), algorithm 1.

    At each level the seen entries are the measurement, noised to that level, and the others come
    from a reverse step of the prior; jumps back up let the two agree. One evaluation a step down and
    no vjp: with n steps it costs `n + ((n - 1) // jump) * jump * (repeats - 1)`.

    It does not read `std`: every sample has the values of `y` where they are seen, and the others are
    drawn given `y` and not given the signal behind it.

    Args:
        schedule: The noise levels.
        jump: Levels of a jump; jumps start from every `jump`-th level, counted from the lowest.
        repeats: Times that a stretch between two jumps is gone through; 1 is without jumps.
        eta: Stochasticity of the reverse step; 1 is ancestral, as in the paper.
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=100))
    jump: int = 1
    repeats: int = 10
    eta: float = 1.0
    needs: ClassVar[str] = "inpainting; Gaussian noise, which it takes for none"
    limits: ClassVar = {"jump": "[1, inf)", "repeats": "[1, inf)", "eta": "[0, 1]"}

    @classmethod
    def presets(cls) -> dict[str, "RePaint"]:
        """The paper's setting for images in [-1, 1] (arXiv:2201.09865): 250 steps, 24 jumps; 2410 evaluations."""
        return {"images": cls(schedule=Table(steps=250), jump=10, repeats=10)}

    @override
    def narrow(self, posterior: Posterior) -> Narrowed[Inpainting]:
        problem = gaussian_problem(posterior, by=self)
        operator = expect(problem.operator, Inpainting, by=self)
        return Narrowed(problem.prior, operator, problem.std, problem.y)

    @override
    def evaluations(self, target: Posterior) -> int:
        jumps = sum(map(self._jumps, range(1, self.schedule.steps)))
        return self.schedule.steps + jumps * (self.repeats - 1) * self.jump

    def _jumps(self, count: int) -> bool:
        """Whether a stretch is made again after step `count`, of those above the lowest level."""
        return (self.schedule.steps - 1 - count) % self.jump == 0 and count >= self.jump

    @override
    def step(
        self, target: Narrowed[Inpainting], state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        x, x0 = self._down(target, state.x, sigma, sigma_next, rng)
        count = state.count + 1
        if sigma_next > 0 and self._jumps(count):
            stretch = self.levels[count - self.jump : count + 1]
            climb = math.sqrt(stretch[0] ** 2 - sigma_next**2)
            for _ in range(self.repeats - 1):
                x = x + climb * rng.normal_like(x)
                for high, low in pairwise(stretch):
                    x, x0 = self._down(target, x, high, low, rng)
        return State(x=x, x0=x0, sigma=sigma, count=count)

    def _down(
        self, target: Narrowed[Inpainting], x: Tensor, sigma: float, sigma_next: float, rng: Rng
    ) -> tuple[Tensor, Tensor]:
        """The iterate at `sigma_next` and the clean estimate that it was made of."""
        x0 = target.prior(x, sigma)
        unknown = reverse_step(x, x0, sigma, sigma_next, self.eta, rng)
        known = target.operator.adjoint(target.y)
        if sigma_next > 0:
            known = known + sigma_next * rng.normal_like(x)
        return torch.where(target.operator.mask, known, unknown), x0
