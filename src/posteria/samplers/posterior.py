"""What samplers of a posterior share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic

from typing_extensions import override

from ..core.errors import expect
from ..core.rng import Rng
from ..core.space import Space
from ..diffusion.schedule import RangeSchedule
from ..linear_gaussian import decomposed, finest
from ..target import Posterior
from .base import S, Sampler, check_steps

# The lowest level below the noise of a measurement: the denoised end loses a thirtieth of the standard deviation then.
FAR_BELOW = 4


def below(sampler: Sampler[Any], target: Posterior) -> str:
    """A sentence on a measurement of less noise than the lowest level of a range; empty where it has more."""
    schedule, least = sampler.schedule, finest(target)
    if not isinstance(schedule, RangeSchedule) or least >= schedule.sigma_min:
        return ""
    return (
        f"The measurement has noise of {least:.3g} in data units, and the levels of {type(sampler).__name__} end at "
        f"{schedule.sigma_min:.3g}, so that samples vary too little in what is measured: take a schedule with "
        f"sigma_min={least / FAR_BELOW:.2g}."
    )


@dataclass(frozen=True, kw_only=True)
class PosteriorSampler(Sampler[S], Generic[S]):
    """A sampler whose target is a `Posterior`.

    Attributes:
        needs: What it asks of the likelihood, in a few words.
    """

    needs: ClassVar[str] = "any differentiable likelihood"
    # Steps below which the measurement is never looked at, since the last ones only denoise.
    fewest: ClassVar[int] = 1
    # Whether samples vary too little where the noise of the measurement is below the lowest level.
    floored: ClassVar[bool] = False

    @override
    def beyond(self, target: Posterior) -> str:
        return super().beyond(target) or (below(self, target) if self.floored else "")

    @property
    def solves(self) -> bool:
        """Whether it solves systems of the operator, which is then given the decomposition of its dense matrix."""
        return False

    @override
    def arrange(self, target: Posterior, seeds: Sequence[int]) -> tuple[Any, Rng]:
        target, rng = super().arrange(target, seeds)
        return self.narrow(decomposed(target) if self.solves else target), rng

    @override
    def check(self, target: Posterior, seeds: Sequence[int]) -> Space:
        posterior = expect(target, Posterior, by=self)
        posterior.check_seeds(len(seeds))
        check_steps(self.fewest, self)
        self.narrow(posterior)
        return posterior.space

    def narrow(self, posterior: Posterior) -> Any:
        """What `init` and `step` see, once a run: the posterior, or a `linear_gaussian` problem made of it.

        Raises:
            CapabilityError: If the sampler needs more of the likelihood than it can do.
        """
        return posterior
