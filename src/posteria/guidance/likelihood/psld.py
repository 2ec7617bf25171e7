"""PSLD: posterior sampling with latent diffusion."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from ...core import linalg
from ...core.errors import CapabilityError, expect
from ...latent import Decoder, decoder_of, undecoded
from ...likelihood import GaussianLikelihood
from ...operators.base import LinearOperator
from ...target import OfPrior, Posterior
from ..base import Estimate, LikelihoodRule, Memory, StepInfo
from .dps import weighted


@dataclass(frozen=True, eq=False)
class LatentProblem(OfPrior):
    """A posterior of latents with a linear measurement of what they decode to, narrowed once a run."""

    decoder: Decoder
    operator: LinearOperator
    std: float | Tensor
    y: Tensor
    seen: Tensor


@dataclass(frozen=True, kw_only=True)
class PSLD(LikelihoodRule):
    """DPS in latents, glued to what encodes as it decodes (Rout et al., 2023, arXiv:2307.00619), algorithm 2.

    Beside the residual's norm, the gradient lowers the distance of the latents to those of their signal with the
    measured part put in. One evaluation and one vjp; the last step is a plain denoising. It leaves the estimate
    and pushes the iterate after the step, and takes the orthogonal projection on what is measured where
    the paper, whose operators have orthonormal rows, writes A^T A.

    Args:
        omega: Step size of the residual, in the units of the paper: 0.9 there for super-resolution, else 0.1.
        gamma: Step size of the gluing.
    """

    omega: float = 0.1
    gamma: float = 0.1

    needs: ClassVar[str] = "a prior of latents with an encoder, a linear operator, Gaussian noise"
    fewest: ClassVar[int] = 2
    limits: ClassVar = {"omega": "[0, inf)", "gamma": "[0, inf)"}

    @override
    def arrange(self, target: Posterior) -> LatentProblem:
        decoder = decoder_of(target.prior)
        if decoder is None or not decoder.encodes:
            raise CapabilityError(
                "PSLD needs a prior of latents whose decoder has an encoder; this prior has none. DPS does without."
            )
        likelihood = expect(target.likelihood, GaussianLikelihood, by=self)
        operator: Any = undecoded(likelihood.operator)
        if (
            not isinstance(operator, LinearOperator)
            or operator.domain.shape != decoder.codomain.shape
        ):
            raise CapabilityError(
                f"PSLD needs a linear operator of the decoded signals; {operator.label} is none. DPS takes any."
            )
        seen = operator.pinv(target.y[None])[0]
        return LatentProblem(target.prior, decoder, operator, likelihood.std, target.y, seen)

    @override
    def last(self, target: Posterior) -> int:
        return 1

    @override
    def __call__(
        self, target: LatentProblem, x: Tensor, info: StepInfo, memory: Memory
    ) -> Estimate:
        if info.sigma_next == 0:
            return Estimate(target.prior(x, info.sigma), memory)
        decoder, operator = target.decoder, target.operator
        z, denoiser_vjp = target.prior.vjp_once(x, info.sigma)
        signal, decoder_vjp = decoder.vjp(z)
        residual = weighted(target.y - operator(signal), target.std)
        glued = signal + target.seen - operator.pinv(operator(signal))
        back, encoder_vjp = linalg.vjp(decoder.encoded, glued, "This encoder")

        gap = decoder.domain.unit(z - back)
        pull = encoder_vjp(gap)
        pull = pull - operator.pinv(operator(pull))
        direction = weighted(operator.codomain.unit(residual), target.std)
        toward = operator.adjoint(direction)
        descent = denoiser_vjp(
            decoder_vjp(self.omega * toward + self.gamma * pull) - self.gamma * gap
        )
        # The iterate of the paper is x / sqrt(1 + sigma^2): its step picks up both factors.
        return Estimate(
            z, memory, math.sqrt((1 + info.sigma**2) * (1 + info.sigma_next**2)) * descent
        )
