"""What a prior is: a denoiser, the posterior mean of the clean signal."""

import abc
from dataclasses import dataclass

from torch import Tensor

from ..core import linalg
from ..core.linalg import LinearMap
from ..core.space import Space


class Denoiser(abc.ABC):
    """A prior as `D(x, sigma) = E[x_0 | x]` where `x = x_0 + sigma * noise`."""

    space: Space

    @abc.abstractmethod
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Denoise.

        Args:
            x: `[*batch, *event]`.
            sigma: Noise level in data units, a float or `[*batch]`.

        Returns:
            E[x_0 | x], `[*batch, *event]`.
        """

    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        """E[x_0 | x] and the map `v -> J^T v` of its Jacobian."""
        return linalg.vjp(lambda z: self(z, sigma), x)


@dataclass(frozen=True)
class Condition:
    """What a conditional prior can be given."""


@dataclass(frozen=True)
class Label(Condition):
    """A class, by its number."""

    label: int


class Conditional(Denoiser):
    """A family of priors; as a denoiser it is the unconditional member."""

    @abc.abstractmethod
    def given(self, condition: Condition) -> Denoiser:
        """The member for `condition`."""


class Counted(Denoiser):
    """A prior that counts what it is asked for.

    Attributes:
        forward: Evaluations of the denoiser, per sample. The first batch axis numbers samples;
            further ones (particles) multiply the count.
        backward: Products with its transposed Jacobian, per sample.
    """

    def __init__(self, prior: Denoiser) -> None:
        self.prior = prior
        self.space = prior.space
        self.forward = 0
        self.backward = 0

    def _per_sample(self, x: Tensor) -> int:
        return self.space.batch(x)[1:].numel()

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """See `Denoiser`."""
        self.forward += self._per_sample(x)
        return self.prior(x, sigma)

    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        """See `Denoiser`."""
        self.forward += self._per_sample(x)
        x0, pullback = self.prior.vjp(x, sigma)

        def counted(v: Tensor) -> Tensor:
            self.backward += self._per_sample(x)
            return pullback(v)

        return x0, counted
