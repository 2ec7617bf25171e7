"""Priors of data in other units than those of the samples."""

from torch import Tensor
from typing_extensions import override

from ..core.errors import expect, require
from ..core.linalg import LinearMap
from .denoiser import Condition, Conditional, Denoiser


class Units(Conditional):
    """A prior of data in [low, high] as one of signals in [-1, 1].

    Args:
        prior: The prior in its own units.
        low: What -1 is there.
        high: What 1 is there.

    Raises:
        InputError: If `high` is not above `low`.
    """

    def __init__(self, prior: Denoiser, low: float, high: float) -> None:
        require(low < high, f"The units of data go up; [{low}, {high}] does not.")
        self.prior, self.space = expect(prior, Denoiser, by=self), prior.space
        self.low, self.high = low, high
        self._center, self._half = (low + high) / 2, (high - low) / 2
        self.labels, self.about = getattr(prior, "labels", 0), getattr(prior, "about", "")
        self._members: dict[Condition, Units] = {}

    def __repr__(self) -> str:
        return f"Units({self.prior!r}, low={self.low}, high={self.high})"

    @override
    def given(self, condition: Condition) -> Denoiser:
        family = expect(self.prior, Conditional, by=f"A prior given {condition}")
        if condition not in self._members:
            self._members[condition] = Units(family.given(condition), self.low, self.high)
        return self._members[condition]

    @override
    def unconditional(self) -> Denoiser:
        if isinstance(self.prior, Conditional):
            self.prior.unconditional()
        return self

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        x0 = self.prior(self._center + self._half * x, self._half * sigma)
        return (x0 - self._center) / self._half

    @override
    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        x0, pullback = self.prior.vjp(self._center + self._half * x, self._half * sigma)
        return (x0 - self._center) / self._half, pullback
