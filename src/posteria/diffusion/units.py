"""Priors of data in other units than those of the samples."""

import math
from numbers import Real

from torch import Tensor
from typing_extensions import override

from ..core.errors import require
from ..core.linalg import LinearMap
from .denoiser import Around, Denoiser


class Units(Around):
    """A prior of data in [low, high] as one of signals in [-1, 1].

    Args:
        prior: The prior in its own units.
        low: What -1 is there.
        high: What 1 is there.

    Raises:
        InputError: If `high` is not above `low`, or one of them is no finite number.
    """

    def __init__(self, prior: Denoiser, low: float, high: float) -> None:
        numbers = isinstance(low, Real) and isinstance(high, Real)
        require(
            numbers and -math.inf < low < high < math.inf,
            f"The units of data are finite numbers and go up; [{low}, {high}] does not.",
        )
        super().__init__(prior)
        self.low, self.high = low, high
        self._center, self._half = (low + high) / 2, (high - low) / 2

    def __repr__(self) -> str:
        return f"Units({self.prior!r}, low={self.low}, high={self.high})"

    @override
    def around(self, member: Denoiser) -> "Units":
        return Units(member, self.low, self.high)

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        x0 = self.prior(self._center + self._half * x, self._half * sigma)
        return (x0 - self._center) / self._half

    @override
    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        x0, pullback = self.prior.vjp(self._center + self._half * x, self._half * sigma)
        return (x0 - self._center) / self._half, pullback
