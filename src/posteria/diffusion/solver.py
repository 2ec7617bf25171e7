"""Solvers of the reverse process: how to go from one noise level to the next with a denoiser."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from ..core.rng import Rng
from ..core.settings import Settings
from ..core.state import State
from .kernel import reverse_step

Denoise = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Solver(metaclass=Settings):
    """A scheme for the reverse process."""

    @abc.abstractmethod
    def __call__(
        self, denoise: Denoise, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        """Move `state.x` from level `sigma` to level `sigma_next`."""

    def evaluations(self, steps: int) -> int:
        """Evaluations of the denoiser in so many steps, the last of which ends at 0."""
        return steps


@dataclass(frozen=True)
class DDIM(Solver):
    """DDIM (Song et al., 2021, arXiv:2010.02502). One evaluation a step.

    Args:
        eta: 0 solves the probability flow ODE to first order; 1 is ancestral (DDPM).
    """

    eta: float = 0.0
    limits: ClassVar = {"eta": "[0, 1]"}

    @override
    def __call__(
        self, denoise: Denoise, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        x0 = denoise(state.x, sigma)
        x = reverse_step(state.x, x0, sigma, sigma_next, self.eta, rng)
        return State(x=x, x0=x0, sigma=sigma, count=state.count + 1)


# Made once: settings are checked whenever they are made, which is a quarter of such a step.
_ANCESTRAL = DDIM(eta=1.0)


@dataclass(frozen=True)
class DDPM(Solver):
    """Ancestral sampling (Ho et al., 2020, arXiv:2006.11239), which is DDIM with `eta=1`. One evaluation a step."""

    @override
    def __call__(
        self, denoise: Denoise, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        return _ANCESTRAL(denoise, state, sigma, sigma_next, rng)


@dataclass(frozen=True)
class Heun(Solver):
    """Heun's method on the probability flow ODE (Karras et al., 2022, arXiv:2206.00364), algorithm 1.

    Second order; two evaluations a step, one for the last.
    """

    @override
    def evaluations(self, steps: int) -> int:
        return 2 * steps - 1

    @override
    def __call__(
        self, denoise: Denoise, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        x0 = denoise(state.x, sigma)
        slope = (state.x - x0) / sigma
        x = state.x + (sigma_next - sigma) * slope
        if sigma_next > 0:
            slope_next = (x - denoise(x, sigma_next)) / sigma_next
            x = state.x + (sigma_next - sigma) * (slope + slope_next) / 2
        return State(x=x, x0=x0, sigma=sigma, count=state.count + 1)


@dataclass(frozen=True)
class DPMpp2M(Solver):
    """DPM-Solver++(2M) (Lu et al., 2022, arXiv:2211.01095), algorithm 2. Second order, one evaluation a step.

    Args:
        eta: 0 solves the probability flow ODE; 1 is the paper's SDE form, which keeps the variance of a
            Gaussian where `DDIM(1.0)` loses 5 % of it in 200 steps.
    """

    eta: float = 0.0
    limits: ClassVar = {"eta": "[0, 1]"}

    @override
    def __call__(
        self, denoise: Denoise, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        x0 = target = denoise(state.x, sigma)
        if sigma < state.sigma < math.inf and sigma_next > 0:
            # Extrapolate the estimate to the middle of the step, in log(sigma).
            ratio = math.log(sigma / sigma_next) / math.log(state.sigma / sigma)
            target = (x0 - state.x0).mul_(ratio / 2).add_(x0)
        if self.eta == 0:
            x = target + sigma_next / sigma * (state.x - target)
        else:
            x = reverse_step(state.x, target, sigma, sigma_next, self.eta, rng)
        return State(x=x, x0=x0, sigma=sigma, count=state.count + 1)


SOLVERS: dict[str, type[Solver]] = {"ddim": DDIM, "ddpm": DDPM, "heun": Heun, "dpmpp2m": DPMpp2M}
