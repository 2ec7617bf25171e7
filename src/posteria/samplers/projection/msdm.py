"""MSDM: separation of a mixture, on the plane of what adds up to it or by a likelihood of the iterate."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import CapabilityError, require
from ...core.rng import Rng
from ...core.state import State
from ...diffusion.schedule import Karras, Schedule
from ...linear_gaussian import LinearProblem, linear_problem
from ...operators.base import LinearOperator
from ...operators.separable import Separable
from ...target import Posterior
from ..posterior import PosteriorSampler


@dataclass(frozen=True, kw_only=True)
class MSDM(PosteriorSampler[State]):
    """Separation by a multi-source diffusion model (Mariani et al., 2023, arXiv:2302.02257).

    Euler steps of the probability flow. With `gamma=None` (the paper's Dirac form) they stay where `A x = y`, at
    every level and at the end; with a number (Gaussian) y is `N(A x, (gamma sigma)^2)` given an iterate at `sigma`,
    and a step is stable where `|A|^2 (1 - sigma_next / sigma) < 2 gamma^2`. Both take y for exact. With n steps and V
    visits it costs `n V` evaluations and no vjp.

    The paper replaces one stem by what the others leave of y (`constrained`). Its flow then goes too far: two stems
    of variances a and b get the shares sqrt(a) and sqrt(b) of y where the posterior mean has a and b, and hardly any
    spread. Without it (ours) the flow is projected, which is exact for stems of one variance. As steps and visits
    grow, the law of every form goes to that given `A x = y` unless the prior has separate modes.

    Args:
        schedule: The noise levels.
        gamma: Standard deviation of y given an iterate, over its level; None for the Dirac form. The code has half of
            this likelihood's gradient, as if `gamma` were larger by a root of 2.
        constrained: Of the Dirac form: the stem that the others leave of y, for a weighted sum of stems along the first
            axis; None projects, for any operator.
        churn: Noise that is added before a step, over the number of steps, relative to the level (at most 0.41 of it).
        visits: How often each step is made; the iterate is noised to the level again between them.
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=150))
    gamma: float | None = None
    constrained: int | None = None
    churn: float = 20.0
    visits: int = 2
    needs: ClassVar[str] = "a linear operator and Gaussian noise"
    limits: ClassVar = {
        "gamma": "(0, inf)",
        "constrained": "[0, inf)",
        "churn": "[0, inf)",
        "visits": "[1, inf)",
    }

    def __post_init__(self) -> None:
        require(
            self.gamma is None or self.constrained is None,
            f"constrained is of the Dirac form, gamma=None; got gamma={self.gamma}.",
        )

    @classmethod
    def presets(cls) -> dict[str, "MSDM"]:
        """The settings of the official code for Slakh, for waveforms of full scale 1; 300 evaluations each."""
        paper = partial(cls, schedule=Karras(steps=150, sigma_min=1e-4, sigma_max=1.0))
        gaussian = paper(gamma=0.75 * math.sqrt(2), churn=40.0)
        return {"dirac": paper(constrained=0), "gaussian": gaussian}

    @override
    def narrow(self, posterior: Posterior) -> LinearProblem:
        problem = linear_problem(posterior, by=self)
        if self.constrained is not None:
            weights = _weights(problem.operator)
            require(
                self.constrained < len(weights) and bool(weights[self.constrained]),
                f"constrained is a stem that is heard, of {len(weights)}; {self.constrained} is none.",
            )
        return problem

    @override
    def evaluations(self, target: Posterior) -> int:
        return self.schedule.steps * self.visits

    @override
    def step(
        self, target: LinearProblem, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        x = x0 = state.x
        high = sigma * (1 + min(self.churn / self.schedule.steps, math.sqrt(2) - 1))
        for visit in range(self.visits):
            # From the level below up to this one, and above it by the churn.
            low = sigma_next if visit else sigma
            if high > low:
                x = x + math.sqrt(high**2 - low**2) * rng.normal_like(x)
            x = self._constrain(target, x)
            x0 = target.prior(x, high)
            x = x + (sigma_next - high) * self._drift(target, x, x0, high)
            x = self._constrain(target, x)
        return State(x=x, x0=x0, sigma=sigma, count=state.count + 1)

    def _drift(self, target: LinearProblem, x: Tensor, x0: Tensor, sigma: float) -> Tensor:
        """The derivative of an iterate by its level."""
        drift, operator = (x - x0) / sigma, target.operator
        if self.gamma is not None:
            return drift - operator.adjoint(target.y - operator(x)) / (self.gamma**2 * sigma)
        if self.constrained is None:
            return drift - operator.pinv(operator(drift))
        weights = _weights(operator).to(x)
        shares = (weights / weights[self.constrained]).reshape(-1, *(1,) * (x.ndim - 2))
        return drift - shares * drift[:, self.constrained, None]

    def _constrain(self, target: LinearProblem, x: Tensor) -> Tensor:
        """The iterate of the Dirac form, brought to where `A x = y`."""
        if self.gamma is not None:
            return x
        residual = target.y - target.operator(x)
        if self.constrained is None:
            return x + target.operator.pinv(residual)
        stems = torch.arange(x.shape[1], device=x.device) == self.constrained
        share = stems / _weights(target.operator).to(x)[self.constrained]
        return x + share.reshape(-1, *(1,) * (x.ndim - 2)) * residual


def _weights(operator: LinearOperator) -> Tensor:
    """Of each stem in a weighted sum along the first axis.

    Raises:
        CapabilityError: If the operator is none.
    """
    matrices = operator.matrices if isinstance(operator, Separable) else {}
    if list(matrices) != [0] or len(matrices[0]) != 1:
        raise CapabilityError(
            f"MSDM with a constrained stem needs a weighted sum of stems, ColorMixing of one row; {operator!r} is "
            "none. With constrained=None it takes any linear operator."
        )
    return matrices[0][0]
