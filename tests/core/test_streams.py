"""The counter-based generator: published vectors, the normal law, and a row that is a function of its key alone."""

import math

import pytest
import torch
from scipy import stats

from posteria.core import rng as home
from posteria.core.rng import Philox, Rng, philox
from posteria.core.space import Space

CPU = torch.device("cpu")
# The known answers of the authors' library Random123, "philox4x32 10".
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def test_published_vectors() -> None:
    # Catches: a product whose high word is that of signed numbers, and a round or a key in another order.
    counters, keys, words = (torch.tensor(part).T for part in zip(*VECTORS, strict=True))
    assert torch.equal(philox(counters, keys), words)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_are_normal_and_independent(dtype: torch.dtype) -> None:
    # Catches: a tail that is cut, an angle and a radius of the same word, and rows, draws or streams that share words.
    out = torch.empty(64, 4099, dtype=dtype)
    streams = Philox(range(64), 0, CPU)
    first, second = streams.normal_(out).clone(), streams.normal_(out).clone()
    other = Philox(range(64), 1, CPU).normal_(torch.empty_like(out))
    every = torch.stack([first, second, other])
    assert stats.kstest(every.flatten().numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(every.pow(2).sum(-1).flatten().numpy(), "chi2", (4099,)).pvalue > 1e-3
    # Of places that are up to 8 apart, of the same place of neighbouring rows, of draws, and of streams.
    pairs = [(every[..., k:], every[..., :-k]) for k in range(1, 9)]
    pairs += [(every[:, 1:], every[:, :-1]), (first, second), (first, other), (second, other)]
    for a, b in pairs:
        for power in (1, 2):
            x, y = a.double() ** power, b.double() ** power
            z = ((x - x.mean()) * (y - y.mean())).mean() / (x.std() * y.std()) * x.numel() ** 0.5
            assert abs(float(z)) < 4.5
    assert 4.2 < float(every.abs().max()) < math.sqrt(66 * math.log(2)) + 1e-3


def test_uniform_draws_and_orders() -> None:
    streams = Philox(range(20000), 0, CPU)
    drawn = streams.uniform()
    assert drawn.dtype == torch.float64
    assert stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-3
    orders = streams.permutation(4)
    assert torch.equal(orders.sort(-1).values, torch.arange(4).expand(20000, -1))
    kinds = torch.unique(orders, dim=0, return_counts=True)[1]
    assert len(kinds) == 24
    assert stats.chisquare(kinds.numpy()).pvalue > 1e-3


def test_a_row_depends_on_its_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: a number that depends on the batch, and a state that does not go on where it was.
    monkeypatch.setattr(home, "streams_of", lambda _: Philox)
    space = Space((3, 5))

    def drawn(seeds: list[int]) -> list[torch.Tensor]:
        rng = Rng(seeds)
        assert rng.generator == "Philox 4x32-10"
        found = [rng.normal(space), rng.uniform(), rng.normal(space, 2), rng.permutation(7)]
        before = rng.state()
        found += [rng.poisson(torch.full((len(seeds), 4), 3.0)), rng.normal_like(found[0])]
        rng.restore(before)
        assert torch.equal(rng.poisson(torch.full((len(seeds), 4), 3.0)), found[-2])
        assert torch.equal(rng.normal_like(found[0]), found[-1])
        return found

    for many, one in zip(drawn([3, 2**32 - 1, 5]), drawn([2**32 - 1]), strict=True):
        assert torch.equal(many[1:2], one)
    # Catches: rows that are shared out among the seeds on a GPU only.
    for kind in (Philox, home.Generators):
        with pytest.raises((RuntimeError, ValueError)):
            kind([3, 4], 0, CPU).normal_(torch.empty(4, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_the_draws_of_single_precision(dtype: torch.dtype) -> None:
    # Catches: words of 32 bits in a dtype that has no such numbers, which are infinite there.
    whole, half = (
        Philox([3, 4], 0, CPU).normal_(torch.empty(2, 501, dtype=d))
        for d in (torch.float32, dtype)
    )
    assert torch.equal(half, whole.to(dtype))
