"""Where random numbers come from: one stream a sample, of PyTorch's generators or of a counter for all at once."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import override


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
            # An odd multiplier permutes the 32-bit seeds, so no two seeds of a stream meet.
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
        flat = out.reshape(self._seeds, -1)
        words = self._words(-(-flat.shape[1] // 4))
        # Box and Muller (1958): of two words a radius and an angle.
        uniform = (words.to(out.dtype) + 0.5) * 2.0**-32
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
