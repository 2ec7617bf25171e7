"""DiffPIR: denoising diffusion models for plug-and-play image restoration."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core import linalg
from ...core.rng import Rng
from ...core.state import State
from ...diffusion.schedule import Schedule, Table
from ...likelihood import GaussianLikelihood
from ...linear_gaussian import (
    GaussianProblem,
    Linear,
    cell_problem,
    entry_cells,
    posterior_mean,
    several,
)
from ...operators.base import LinearOperator
from ...target import Posterior
from ..posterior import PosteriorSampler


@dataclass(frozen=True, kw_only=True)
class DiffPIR(PosteriorSampler[State]):
    """Denoising diffusion models for plug-and-play restoration (Zhu et al., 2023, arXiv:2305.08995), algorithm 1.

    The clean estimate is replaced by the minimiser of `|(y - A x) / std|^2 + weight |x - x0|^2 / sigma^2`,
    and the next iterate is that with noise, in part the old one. One evaluation a step and no vjp.

    A linear problem is solved exactly, by the decomposition of the operator or of its dense matrix;
    beyond 2048 entries by conjugate gradients, which at high levels do not get to the end in
    directions that the operator damps by more than about `std / sigma`. Where each entry was rounded or clipped
    it goes to the nearest value of its cell; other operators take gradient steps of the length that is best for the
    linearised problem (the paper's step diverges).

    Args:
        schedule: The noise levels.
        weight: Weight of the clean estimate against the measurement; the paper's lambda. 1 says
            that the error of the clean estimate has the standard deviation sigma.
        zeta: Share of the variance of the noise that is fresh.
        inner: Gradient steps for an operator that is not linear, each a vjp and a jvp of the operator.
        iterations: Most conjugate gradient iterations for a linear operator that is too large to
            be decomposed.
    """

    schedule: Schedule = field(default_factory=lambda: Table(steps=999))
    weight: float = 1.0
    zeta: float = 0.5
    inner: int = 3
    iterations: int = 100
    needs: ClassVar[str] = "Gaussian noise"
    each: ClassVar[int] = 1
    limits: ClassVar = {
        "weight": "(0, inf)",
        "zeta": "[0, 1]",
        "inner": "[1, inf)",
        "iterations": "[1, inf)",
    }

    @property
    @override
    def solves(self) -> bool:
        return True

    @classmethod
    def presets(cls) -> dict[str, "DiffPIR"]:
        """Published settings, for images in [-1, 1].

        `blur`, `super_resolution` (100 evaluations) and `inpainting` (20, without noise) are the official
        code's, whose grid is finer at low levels; those in `_1000` (999 evaluations) of the comparisons of
        MGPS and MGDM (arXiv:2410.09945, arXiv:2502.03332).
        """
        long = partial(cls, schedule=Table(steps=999))
        return {
            "blur": cls(schedule=Table(steps=100), zeta=0.1),
            "super_resolution": cls(schedule=Table(steps=100), zeta=0.1),
            "inpainting": cls(schedule=Table(steps=20), zeta=1.0),
            "blur_1000": long(zeta=0.1),
            "super_resolution_1000": long(zeta=0.1),
            "inpainting_1000": long(zeta=1.0),
        }

    @override
    def narrow(self, posterior: Posterior) -> GaussianProblem:
        return cell_problem(posterior, by=self)

    @override
    def step(
        self, target: GaussianProblem, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        count = state.count + 1
        x0 = self._proximal(target, target.prior(state.x, sigma), sigma**2 / self.weight)
        if sigma_next == 0:
            return State(x=x0, x0=x0, sigma=sigma, count=count)
        old, fresh = (state.x - x0) / sigma, rng.normal_like(x0)
        noise = math.sqrt(1 - self.zeta) * old + math.sqrt(self.zeta) * fresh
        return State(x=x0 + sigma_next * noise, x0=x0, sigma=sigma, count=count)

    def _proximal(self, target: GaussianProblem, x0: Tensor, variance: float) -> Tensor:
        """The most probable signal given `y`, if it is `N(x0, variance I)` before."""
        operator, std, space = target.operator, target.std, target.space
        cells = entry_cells(target)
        if cells is not None:
            return cells.nearest(x0, variance)
        likelihood = GaussianLikelihood(operator, std)
        if isinstance(operator, LinearOperator):
            if operator.exact and not several(std):
                return posterior_mean(Linear(operator, std), target.y, x0, variance)
            # In the signal and not in the measurement: cut short, the iterates are the best of
            # their subspace, where those of the other form can be far from `y`.
            return x0 + linalg.conjugate_gradient(
                lambda z: operator.adjoint(operator(z) / std**2) + z / variance,
                likelihood.score(target.y, x0),
                space,
                iterations=self.iterations,
                tolerance=operator.tolerance,
                precondition=operator.preconditioner(1 / variance, 1 / std**2, normal=True),
            )
        x = x0
        for _ in range(self.inner):
            gradient = (x - x0) / variance - likelihood.score(target.y, x)
            slope = operator.jvp(x, gradient) / std
            square = space.dot(gradient, gradient)
            curvature = operator.codomain.dot(slope, slope).reshape(square.shape)
            curvature = curvature + square / variance
            x = x - square / curvature.clamp(min=torch.finfo(x.dtype).tiny) * gradient
        return x
