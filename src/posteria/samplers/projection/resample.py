"""ReSample: estimates that are made to agree with the measurement, and put back among the noise."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import expect
from ...core.level import Level
from ...core.rng import Rng
from ...core.state import State
from ...diffusion.betas import ScaledLinearBetas
from ...diffusion.kernel import reverse_step
from ...diffusion.schedule import Schedule, Table
from ...latent import decoder_of, undecoded
from ...likelihood import GaussianLikelihood
from ...operators.base import LinearOperator, Operator
from ...target import Posterior
from ..fitted.gaussian_vi import Adam
from ..posterior import PosteriorSampler


@dataclass(frozen=True, kw_only=True)
class ReSample(PosteriorSampler[State]):
    """Hard data consistency and resampling (Song et al., 2023, arXiv:2307.08123), algorithm 1.

    Deterministic steps of the prior; every so many of them the estimate of the clean signal is moved until its residual
    is as large as the noise, and the iterate is drawn between that and where the prior was going. One evaluation a
    step and no vjp. A linear operator's move is exact; with latents it is made in the signal and encoded in the middle
    of the run, and by descent in the latents at its end, as in the paper, or where an encoder or a linear operator is
    missing.

    Args:
        schedule: The noise levels; the paper has 500 steps.
        every: Steps from one move to the next; the last step has one.
        begin: Share of the steps before the first move.
        encoded: Share of the steps until which moves are made in the signal.
        gamma: Weight of where the prior was going: its variance, in units of the ancestral step's. The paper has 40.
        inner: At most so many steps of descent a move; each is a derivative of the operator.
        lr: Step size of the descent, in units of the latents.
    """

    schedule: Schedule = field(default_factory=lambda: Table(steps=499))
    every: int = 10
    begin: float = 1 / 3
    encoded: float = 2 / 3
    gamma: float = 40.0
    inner: int = 200
    lr: float = 0.01
    needs: ClassVar[str] = "Gaussian noise"
    each: ClassVar[int] = 1
    limits: ClassVar = {
        "every": "[1, inf)",
        "begin": "[0, 1]",
        "encoded": "[0, 1]",
        "gamma": "(0, inf)",
        "inner": "[1, inf)",
        "lr": "(0, inf)",
    }

    @classmethod
    @override
    def presets(cls) -> dict[str, "ReSample"]:
        """The settings of the official code (arXiv:2307.08123) for latents of LDM's FFHQ: 499 evaluations.

        The code has steps of DPS between the moves, and moves from estimates that are five steps ahead, which the paper
        does not have and which are not done here. Its table is that of the network.
        """
        levels = Table(steps=499, betas=ScaledLinearBetas(0.0015, 0.0195))
        return {"ffhq_ldm": cls(schedule=levels, inner=500, lr=0.005)}

    @override
    def narrow(self, posterior: Posterior) -> Posterior:
        expect(posterior.likelihood, GaussianLikelihood, by=self)
        return posterior

    @override
    def step(
        self, target: Posterior, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        count = state.count + 1
        x0 = target.prior(state.x, sigma)
        x = reverse_step(state.x, x0, sigma, sigma_next, 0.0, rng)
        share = count / self.schedule.steps
        if sigma_next == 0:
            x = x0 = self._moved(target, x0, share)
        elif share > self.begin and (self.schedule.steps - count) % self.every == 0:
            x0 = self._moved(target, x0, share)
            low = sigma_next**2
            wide = self.gamma * low * (sigma**2 - low) / sigma**2
            x = x + wide / (wide + low) * (x0 - x)
            x = x + math.sqrt(wide * low / (wide + low)) * rng.normal_like(x)
        return State(x=x, x0=x0, sigma=sigma, count=count)

    def _moved(self, target: Posterior, x0: Tensor, share: float) -> Tensor:
        """The nearest estimate whose residual is as large as the noise."""
        likelihood: Any = target.likelihood
        decoder, operator = decoder_of(target.prior), undecoded(likelihood.operator)
        if isinstance(operator, LinearOperator):
            if decoder is None or operator.domain.shape != decoder.codomain.shape:
                return _nearest(operator, likelihood.std, target.y, x0)
            if decoder.encodes and share <= self.encoded:
                return decoder.encode(_nearest(operator, likelihood.std, target.y, decoder(x0)))
        return self._descended(likelihood.operator, likelihood.std, target.y, x0)

    def _descended(self, operator: Operator, std: Level, y: Tensor, x: Tensor) -> Tensor:
        adam, moments = Adam(self.lr), [torch.zeros_like(x), torch.zeros_like(x)]
        for count in range(1, self.inner + 1):
            seen, pullback = operator.vjp(x)
            residual = (y - seen) / std
            far = operator.codomain.dot(residual, residual) > operator.codomain.size
            # A look at the residuals stops an accelerator; what has arrived stays as it is.
            if x.device.type == "cpu" and not far.any():
                break
            move = adam.step(-pullback(residual / std), moments, count)
            x = torch.where(_per_sample(far, x), x - move, x)
        return x


def _nearest(operator: LinearOperator, std: Level, y: Tensor, x: Tensor) -> Tensor:
    """The nearest signal of those on the way to a residual of 0 whose residual is as large as the noise."""
    residual = y - operator(x)
    size = operator.codomain.norm(residual / std).clamp(min=torch.finfo(x.dtype).tiny)
    part = (1 - math.sqrt(operator.codomain.size) / size).clamp(min=0)
    return x + _per_sample(part, x) * operator.pinv(residual)


def _per_sample(value: Tensor, x: Tensor) -> Tensor:
    """One number a sample, for `x` of other axes."""
    return value.reshape(len(x), *(1,) * (x.ndim - 1))
