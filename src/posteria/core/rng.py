"""One random stream per sample, so that sample i is a function of its seed alone.

The streams are PyTorch's generators, or on CUDA a counter for all at once.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, SupportsIndex

import torch
from torch import Tensor
from typing_extensions import override

from .errors import InputError
from .space import Space

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
            return range(_integer(seeds))
        return tuple(_integer(seed) for seed in seeds)  # type: ignore[union-attr]
    except TypeError as error:
        raise InputError(
            f"Seeds are one integer a sample, or the number of samples, such as range(8) or 8; {seeds!r} is neither."
        ) from error


def _integer(seed: Any) -> int:
    # A truth value has an index as well, and so has each entry of a mask.
    if isinstance(seed, bool) or getattr(seed, "dtype", None) == torch.bool:
        raise TypeError
    return operator.index(seed)


class Streams(Protocol):
    """One stream of random numbers a row; a row is a function of its own key alone."""

    # Of the generator, for the record.
    name: str

    def normal_(self, out: Tensor) -> Tensor:
        """Fill `[rows, ...]` with standard normal draws."""

    def uniform(self) -> Tensor:
        """One draw from [0, 1) a row, `[rows]` in float64."""

    def poisson(self, rate: Tensor) -> Tensor:
        """Draws with the given rates, `[rows, ...]`."""

    def permutation(self, n: int) -> Tensor:
        """A random order of `n` things for each row, `[rows, n]`."""

    def state(self) -> Tensor:
        """Where each stream stands, `[rows, bytes]`."""

    def restore(self, state: Tensor) -> None:
        """Continue from there."""


class Generators(Streams):
    """A generator of PyTorch a row, in a loop over the rows."""

    name = "torch.Generator"

    def __init__(self, seeds: Sequence[int], stream: int, device: torch.device) -> None:
        self.device, self._generators = device, []
        for seed in seeds:
            generator = torch.Generator(device)
            # A stream shifts the 32-bit seeds, so that no two of them meet, and an odd multiplier tells streams apart.
            generator.manual_seed((seed + stream * 0x9E3779B1) % 2**32)
            self._generators.append(generator)

    @override
    def normal_(self, out: Tensor) -> Tensor:
        for row, generator in zip(out.unbind(), self._generators, strict=True):
            row.normal_(generator=generator)
        return out

    @override
    def uniform(self) -> Tensor:
        out = torch.empty(len(self._generators), dtype=torch.float64, device=self.device)
        for row, generator in zip(out[:, None].unbind(), self._generators, strict=True):
            row.uniform_(generator=generator)
        return out

    @override
    def poisson(self, rate: Tensor) -> Tensor:
        rows = zip(rate.unbind(), self._generators, strict=True)
        return torch.stack([torch.poisson(row, generator=generator) for row, generator in rows])

    @override
    def permutation(self, n: int) -> Tensor:
        rows = [torch.randperm(n, generator=g, device=self.device) for g in self._generators]
        return torch.stack(rows)

    @override
    def state(self) -> Tensor:
        return torch.stack([generator.get_state() for generator in self._generators])

    @override
    def restore(self, state: Tensor) -> None:
        for row, generator in zip(state.unbind(), self._generators, strict=True):
            # A clone, because set_state reads from the start of the storage.
            generator.set_state(row.clone())


WORD = 2**32 - 1
# Of Philox 4x32: the multipliers, and what the two words of the key grow by each round.
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
GROWTH = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def philox(counter: Tensor, key: Tensor) -> Tensor:
    """Philox 4x32-10 (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Args:
        counter: `[4, ...]`, words of 32 bits in int64.
        key: `[2, ...]`, likewise.

    Returns:
        Four random words for each counter, `[4, ...]`.
    """
    shape = (2, *(1,) * (counter.ndim - 1))
    times, growth = (
        torch.stack([torch.full((), word, device=counter.device) for word in words]).reshape(shape)
        for words in (MULTIPLIERS, GROWTH)
    )
    # Words 0 and 2 are multiplied, 1 and 3 are not; a product that overflows has the right low 64 bits.
    even, odd = counter[0::2], counter[1::2]
    for count in range(ROUNDS):
        product = even * times
        even = (product >> 32).flip(0).bitwise_xor_(odd).bitwise_xor_(key + count * growth)
        even, odd = even.bitwise_and_(WORD), (product & WORD).flip(0)
    return torch.stack([even[0], odd[0], even[1], odd[1]])


class Philox(Streams):
    """Words that are a function of key, draw and place, made for all rows at once.

    The key of a row is its seed and the number of its stream; the counter has the place in a draw and the
    number of the draw.
    """

    name = f"Philox 4x32-{ROUNDS}"

    def __init__(self, seeds: Sequence[int], stream: int, device: torch.device) -> None:
        key = torch.tensor([[*seeds], [stream] * len(seeds)], dtype=torch.int64)
        self._key, self._seeds, self.draws = key.to(device)[..., None], len(seeds), 0

    def _words(self, blocks: int) -> Tensor:
        """The words of the next draw, `[4, rows, blocks]`."""
        device = self._key.device
        place = torch.arange(blocks, device=device)
        rest = (self.draws & WORD, self.draws >> 32, 0)
        counter = torch.stack([place, *(torch.full_like(place, word) for word in rest)])
        self.draws += 1
        return philox(counter[:, None].expand(-1, self._seeds, -1), self._key)

    @override
    def normal_(self, out: Tensor) -> Tensor:
        # As many rows as seeds, or the last line fails.
        flat = out.reshape(len(out), -1)
        words = self._words(-(-flat.shape[1] // 4))
        # Box and Muller (1958): of two words a radius and an angle.
        # In half precision words of 32 bits would be infinite.
        uniform = (words.to(torch.promote_types(out.dtype, torch.float32)) + 0.5) * 2.0**-32
        radius, angle = (uniform[:2].log() * -2).sqrt_(), uniform[2:] * (2 * torch.pi)
        drawn = torch.cat([radius * angle.cos(), radius * angle.sin()])
        # Neighbours come of one counter, so that a shorter draw begins like a longer one.
        return out.copy_(drawn.movedim(0, -1).flatten(1)[:, : flat.shape[1]].reshape(out.shape))

    @override
    def uniform(self) -> Tensor:
        return self._doubles(1)[:, 0]

    def _doubles(self, n: int) -> Tensor:
        """Draws from [0, 1) with 53 random bits, `[rows, n]`."""
        high, low, *_ = self._words(n)
        bits: Tensor = (high >> 5) * 2**26 + (low >> 6)
        return bits.double() * 2.0**-53

    @override
    def poisson(self, rate: Tensor) -> Tensor:
        # Of measurements, once a run: PyTorch's generators, of keys from this stream.
        keys = self._words(1)[0, :, 0].tolist()
        return Generators(keys, 0, rate.device).poisson(rate)

    @override
    def permutation(self, n: int) -> Tensor:
        return self._doubles(n).argsort(dim=-1, stable=True)

    @override
    def state(self) -> Tensor:
        state = torch.tensor([self.draws], dtype=torch.int64).view(torch.uint8)
        return state.expand(self._seeds, -1).clone()

    @override
    def restore(self, state: Tensor) -> None:
        self.draws = int(state[0].clone().view(torch.int64))


def streams_of(device: torch.device) -> type[Philox] | type[Generators]:
    """What draws on a device: on CUDA all rows at once, since a loop over rows is a launch for each."""
    return Philox if device.type == "cuda" else Generators


def checked(seed: int) -> int:
    """A seed that PyTorch's generators tell from every other one; raise `InputError` for one out of range."""
    if not 0 <= seed < SEED_LIMIT:
        raise InputError(f"A seed is an integer from 0 to {SEED_LIMIT - 1}; {seed} is not.")
    return seed


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
            checked(seed)
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
