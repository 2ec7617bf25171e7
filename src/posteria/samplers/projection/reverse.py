"""ReverseDiffusion: what is nothing but noisy is where a diffusion is, at its own level."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

from torch import Tensor
from typing_extensions import override

from ...core.errors import CapabilityError
from ...core.rng import Rng
from ...core.space import Space
from ...core.state import State
from ...diffusion.denoiser import Denoiser
from ...diffusion.reading import highest, parametrisation_of
from ...diffusion.schedule import Karras, RangeSchedule
from ...diffusion.solver import DPMpp2M
from ...linear_gaussian import linear, several, spectral
from ...operators import Identity, LinearOperator
from ...target import Posterior
from ..posterior import PosteriorSampler

# Singular values that differ by no more than this share are one.
ALIKE = 1e-5
# The lowest level over the highest, at most: what is lost below it is a thousandth of the variance of the noise.
LOWEST = 0.03
SOLVER = DPMpp2M(eta=1.0)
# Of random numbers.
STREAM = 3


class Noisy(NamedTuple):
    """A signal in white noise, narrowed once a run.

    Attributes:
        prior: The prior.
        x: The noisy signals, `[1 or n, *event]`.
        levels: Of the run, from that of the noise down to 0.
    """

    prior: Denoiser
    x: Tensor
    levels: list[float]

    @property
    def space(self) -> Space:
        """Space of the samples."""
        return self.prior.space


@dataclass(frozen=True, kw_only=True)
class ReverseDiffusion(PosteriorSampler[State]):
    """The reverse diffusion from a noisy signal on (Heurtel-Depeiges et al., 2024, arXiv:2402.19455, section 3).

    `y = x_0 + sigma * noise` has the law of the diffusion at the level sigma. So a reverse SDE that starts from y draws
    from p(x_0 | y): the likelihood is not approximated, and as steps grow the law of the samples is exact, whatever the
    prior. The same holds of `y = A x_0 + std * noise` with `A^T A = c^2 I`, at the level `std / c`.

    What is our own: the paper takes first-order steps, which lose 25 % of the variance in 16 evaluations on the digits
    of docs/pictures.md; those of DPM-Solver++(2M) in its SDE form (arXiv:2211.01095) keep it. One evaluation a step,
    and no vjp.

    Args:
        schedule: The noise levels, of which the highest is replaced by that of y. The lowest is at most 0.03 of it.
    """

    schedule: RangeSchedule = field(default_factory=lambda: Karras(steps=16))
    needs: ClassVar[str] = "a signal that is noisy and nothing else, one level of Gaussian noise"

    from_noise: ClassVar[bool] = False

    @override
    def narrow(self, posterior: Posterior) -> Noisy:
        operator, std = linear(posterior, by=self)
        if several(std):
            std = spectral(posterior, by=self).std
        gain = 1.0 if isinstance(operator, Identity) else self._gain(posterior, operator)
        x = operator.adjoint(posterior.y) / gain**2
        sigma = float(std) / gain
        low = min(self.schedule.sigma_min, LOWEST * sigma)
        levels = replace(self.schedule, sigma_min=low, sigma_max=sigma).levels()
        return Noisy(posterior.prior, x, levels)

    def _gain(self, posterior: Posterior, operator: LinearOperator) -> float:
        """The c of `A^T A = c^2 I`."""
        if operator.codomain.size < operator.domain.size:
            # Before a decomposition, which is work.
            raise CapabilityError(
                "ReverseDiffusion needs the signal itself in white noise, such as a measurement by Identity; "
                f"{operator!r} measures {operator.codomain.size} of {operator.domain.size} numbers. "
                "DDRM takes any decomposed operator."
            )
        _, s, _ = spectral(posterior, by=self)
        low, high = float(s.min()), float(s.max())
        if not low > (1 - ALIKE) * high:
            raise CapabilityError(
                "ReverseDiffusion needs the signal itself in white noise, such as a measurement by Identity; "
                f"{operator!r} has singular values from {low:.4g} to {high:.4g}. DDRM takes any of them."
            )
        return high

    @override
    def beyond(self, target: Posterior) -> str:
        known, start = highest(parametrisation_of(target.prior)), self.narrow(target).levels[0]
        if start <= 1.01 * known:
            return ""
        return (
            f"The network knows noise up to {known:.4g}, and that of the measurement is {start:.4g}: take another "
            f"sampler, with a schedule such as Karras(sigma_max={known:.4g})."
        )

    @override
    def arrange(self, target: Posterior, seeds: Sequence[int]) -> tuple[Noisy, Rng]:
        # A stream of its own: a y that a user drew with the generator of a seed would share its noise with that sample.
        return self.narrow(target), Rng(seeds, target.space.device, stream=STREAM)

    @override
    def evaluations(self, target: Posterior) -> int:
        return self.schedule.steps

    @override
    def init(self, target: Noisy, rng: Rng) -> State:
        x = target.x.expand(len(rng), *target.space.shape).to(target.space.dtype)
        return State(x=x, x0=x)

    @override
    def step(
        self, target: Noisy, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        # Those of the schedule begin elsewhere.
        here, there = target.levels[state.count : state.count + 2]
        return SOLVER(target.prior, state, here, there, rng)
