"""TDS: the twisted diffusion sampler."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from ...core.rng import Rng
from ...core.state import State
from ...diffusion.kernel import bridge
from ...diffusion.scale import measured_std
from ...diffusion.schedule import LogLinear, Schedule, Table
from ...likelihood import GaussianLikelihood, PoissonLikelihood
from ...linear_gaussian import Linear, innovation
from ...operators.base import LinearOperator, Operator
from ...target import Observed
from .population import ParticleState, PopulationSampler, finish, log_prob, score, select, take


@dataclass(frozen=True, kw_only=True)
class TDSState(ParticleState):
    """Where populations stand, with the twist that their weights include.

    Args:
        twist: Log of the guess of p(y | x), `[populations, particles]` in float64.
        guide: Its gradient in `x`.
        prior_std: Standard deviation of the prior by which the guess is made; 0 where it needs none.
    """

    twist: Tensor
    guide: Tensor
    prior_std: float


@dataclass(frozen=True, kw_only=True)
class TDS(PopulationSampler[TDSState]):
    """Twisted diffusion sampler (Wu et al., 2023, arXiv:2306.17775), algorithm 1.

    A particle filter whose proposals and weights look ahead by a guess of p(y | x), the twist; the
    last is the likelihood itself, so that with many particles it draws from the posterior exactly,
    but for the length of the steps. For Gaussian noise and for counts, taken for Gaussian with their
    own variance, the twist allows for the variance r^2 of the signal given x: `std^2 + r^2 A A^T` for
    a linear operator and `std^2 + r^2` for another. For other likelihoods it is that of the denoised
    signal, which needs very many particles if the likelihood is narrow.

    One evaluation and one vjp a step for each particle of a population; `prior_std=None` costs 23
    evaluations more, once a prior. Particles that descend from one ancestor are alike: with images,
    take one sample of each population, seeds 0, `particles`, `2 particles` and so on.

    Args:
        schedule: The noise levels. The first is far above the scale of the prior, since particles
            start at pure noise.
        particles: Size of a population.
        threshold: A population is resampled when its effective size is below this share; 0 is never.
        prior_std: Standard deviation tau of the prior in `r^2 = sigma^2 tau^2 / (sigma^2 + tau^2)`;
            measured if None, and not needed for likelihoods other than these two.
    """

    schedule: Schedule = field(
        default_factory=lambda: LogLinear(steps=200, sigma_min=0.01, sigma_max=300.0)
    )
    prior_std: float | None = None
    state_type: ClassVar[type[State]] = TDSState
    each: ClassVar[int] = 2
    limits: ClassVar = {"prior_std": "(0, inf)"}

    @classmethod
    def presets(cls) -> dict[str, "TDS"]:
        """The settings of the official code for images in [-1, 1]: 400 evaluations and 400 vjps a population of 4."""
        return {
            "images": cls(schedule=Table(steps=100), particles=4, threshold=1.0, prior_std=1.0)
        }

    @override
    def init(self, target: Observed, rng: Rng) -> TDSState:
        sigma = self.levels[0]
        x = sigma * rng.normal(target.space, self.particles)
        gaussian = _gaussian(target) is not None
        prior_std = measured_std(target.prior, self.prior_std) if gaussian else 0.0
        x0, twist, guide = _twist(target, x, sigma, prior_std)
        return TDSState(
            x=x,
            x0=x0,
            log_weight=twist,
            log_evidence=twist.new_zeros(len(x)),
            twist=twist,
            guide=guide,
            prior_std=prior_std,
        )

    @override
    def step(
        self, target: Observed, state: TDSState, sigma: float, sigma_next: float, rng: Rng
    ) -> TDSState:
        space, count = target.space, state.count + 1
        if sigma_next == 0:
            log_weight = state.log_weight + log_prob(target, state.x0) - state.twist
            state = replace(state, x=state.x0, sigma=sigma, count=count, log_weight=log_weight)
            return finish(state, rng)
        state, ancestors = select(state, rng, self.threshold)
        before, guide = take(state.twist, ancestors), take(state.guide, ancestors)

        weight, std = bridge(0.0, sigma_next, sigma)
        noise = rng.normal_like(state.x)
        shift = (1 - weight) * sigma**2 * guide
        x = state.x0 + weight * (state.x - state.x0) + shift + std * noise
        # The prior's transition over that of the proposal, at what the proposal drew.
        ratio = -space.dot(shift / std, noise + shift / (2 * std)).reshape(x.shape[:2]).double()

        x0, twist, guide = _twist(target, x, sigma_next, state.prior_std)
        return replace(
            state,
            x=x,
            x0=x0,
            sigma=sigma_next,
            count=count,
            log_weight=state.log_weight + ratio + twist - before,
            twist=twist,
            guide=guide,
        )


def _twist(
    target: Observed, x: Tensor, sigma: float, prior_std: float
) -> tuple[Tensor, Tensor, Tensor]:
    """E[x_0 | x], the log of the twist up to a constant of the level, which drops out of the weights, and its slope."""
    x0, pullback = target.prior.vjp_once(x, sigma)
    seen = _gaussian(target)
    if seen is None:
        return x0, log_prob(target, x0), pullback(score(target, x0))
    operator, y, std = seen
    variance = sigma**2 * prior_std**2 / (sigma**2 + prior_std**2)
    ax0, operator_vjp = operator.vjp(x0)
    residual = y - ax0
    if isinstance(operator, LinearOperator):
        white = innovation(Linear(operator, std), residual, variance)
    else:
        white = residual / (std**2 + variance)
    value = operator.codomain.flatten(residual * white).double().sum(-1) / -2
    return x0, value, pullback(operator_vjp(white))


def _gaussian(target: Observed) -> tuple[Operator, Tensor, float | Tensor] | None:
    """Operator, measurement and noise level of a Gaussian that is like the likelihood, if there is one."""
    likelihood = target.likelihood
    if isinstance(likelihood, GaussianLikelihood):
        return likelihood.operator, target.y, likelihood.std
    if isinstance(likelihood, PoissonLikelihood):
        intensity = target.y / likelihood.peak
        return likelihood.operator, intensity, target.y.clamp(min=1).sqrt() / likelihood.peak
    return None
