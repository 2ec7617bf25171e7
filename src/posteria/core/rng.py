"""One random stream per sample, so that sample i is a function of its seed alone."""

import operator
from collections.abc import Iterable, Sequence
from typing import SupportsIndex

import torch
from torch import Tensor

from .errors import InputError
from .space import Space
from .streams import streams_of

# PyTorch's CPU generator keeps the low 32 bits of a seed and drops the rest without a word.
SEED_LIMIT = 2**32
# One integer a sample, or a number n for `range(n)`.
Seeds = Iterable[SupportsIndex] | SupportsIndex


def listed(seeds: Seeds) -> Sequence[int]:
    """The seeds one by one.

    Raises:
        InputError: If one is no integer; nothing is rounded.
    """
    single = isinstance(seeds, SupportsIndex) and getattr(seeds, "ndim", 0) == 0
    try:
        if single:
            return range(operator.index(seeds))  # type: ignore[arg-type]
        return tuple(operator.index(seed) for seed in seeds)  # type: ignore[union-attr]
    except TypeError as error:
        raise InputError(
            f"Seeds are one integer a sample, or the number of samples, such as range(8) or 8; {seeds!r} is neither."
        ) from error


class Rng:
    """Streams of random numbers, one for each seed.

    Args:
        seeds: One integer in [0, 2^32) a sample; a number n stands for `range(n)`.
        device: Where the numbers are drawn: on CUDA by a counter, for all at once. The same seed gives other
            numbers on another kind of device.
        stream: Streams of the same seed with different numbers are independent: 0 is the
            samplers', 1 is the measurement noise of simulated data.

    Attributes:
        generator: Its name, for the record.

    Raises:
        InputError: If a seed is no integer, is out of range, or there is none.
    """

    def __init__(self, seeds: Seeds, device: torch.device | str = "cpu", stream: int = 0) -> None:
        self.seeds = tuple(listed(seeds))
        self.device = torch.device(device)
        if not self.seeds:
            raise InputError("There are no seeds; give one integer for each sample.")
        for seed in self.seeds:
            if not 0 <= seed < SEED_LIMIT:
                raise InputError(
                    f"A seed is an integer from 0 to {SEED_LIMIT - 1}; {seed} is not."
                )
        self._streams = streams_of(self.device)(self.seeds, stream, self.device)
        self.generator = self._streams.name

    def __len__(self) -> int:
        return len(self.seeds)

    def normal(self, space: Space, *lead: int) -> Tensor:
        """Standard normal draws, `[len(seeds), *lead, *event]`."""
        out = torch.empty(len(self), *lead, *space.shape, dtype=space.dtype, device=self.device)
        return self._streams.normal_(out)

    def normal_like(self, x: Tensor) -> Tensor:
        """Standard normal draws of the shape and dtype of `x`, `[len(seeds), ...]`."""
        return self._streams.normal_(torch.empty(x.shape, dtype=x.dtype, device=self.device))

    def uniform(self) -> Tensor:
        """One draw from [0, 1) a sample, `[len(seeds)]` in float64."""
        return self._streams.uniform()

    def poisson(self, rate: Tensor) -> Tensor:
        """Poisson draws with the given rates, `[len(seeds), ...]`."""
        return self._streams.poisson(rate)

    def resample(self, log_weight: Tensor, size: int | None = None) -> Tensor:
        """Systematic resampling (Kitagawa, 1996), each population by itself.

        Args:
            log_weight: Log-weights up to a constant, `[len(seeds), particles]`.
            size: How many are drawn; by default as many as there are.

        Returns:
            Ancestors, `[len(seeds), size]`: particle i of weight W_i occurs `size * W_i`
            times, rounded up or down, and in the mean exactly.
        """
        particles = log_weight.shape[-1]
        size = particles if size is None else size
        # Where all weights are 0, no particle is better than another.
        edges = log_weight.double().softmax(-1).nan_to_num(1.0).cumsum(-1)
        steps = torch.arange(size, dtype=torch.float64, device=self.device)
        points = (steps + self.uniform()[:, None]) / size
        # To the right of an edge, so that a particle of weight 0 is never drawn.
        ancestors = torch.searchsorted(edges / edges[:, -1:], points, right=True)
        return ancestors.clamp(max=particles - 1)

    def permutation(self, n: int) -> Tensor:
        """A random order of `n` things for each stream, `[len(seeds), n]`."""
        return self._streams.permutation(n)

    def state(self) -> Tensor:
        """The state of all streams, `[len(seeds), bytes]`; `restore` takes it back."""
        return self._streams.state()

    def restore(self, state: Tensor) -> None:
        """Continue from a `state`."""
        self._streams.restore(state)
