"""What samplers of a posterior share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic

from ..core.errors import expect
from ..core.space import Space
from ..target import Posterior
from .base import S, Sampler


@dataclass(frozen=True, kw_only=True)
class PosteriorSampler(Sampler[S], Generic[S]):
    """A sampler whose target is a `Posterior`.

    Attributes:
        needs: What it asks of the likelihood, in a few words.
    """

    needs: ClassVar[str] = "any differentiable likelihood"

    def check(self, target: Posterior, seeds: Sequence[int]) -> Space:
        """See `Sampler`."""
        posterior = expect(target, Posterior, by=self)
        posterior.check_seeds(len(seeds))
        self.check_likelihood(posterior)
        return posterior.space

    def check_likelihood(self, posterior: Posterior) -> None:
        """Raise `CapabilityError` if the sampler needs more of the likelihood than it can do."""
