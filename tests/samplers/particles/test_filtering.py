"""Resampling of particles."""

import math

import torch
from torch import Tensor

from helpers import F64, normal
from posteria.core.rng import Rng
from posteria.samplers.particles.population import (
    ParticleState,
    finish,
    hilbert,
    order,
    paired,
    select,
)


def test_resampling_keeps_every_weight() -> None:
    # Catches: multinomial counts, a particle of weight 0 that survives, a bias by the order of the
    # particles.
    weight = torch.tensor([0.0, 0.31, 0.07, 0.0, 0.55, 0.07, 0.0], dtype=F64)
    expected = len(weight) * weight
    ancestors = Rng(range(4000)).resample(weight.log().expand(4000, -1))
    counts = torch.nn.functional.one_hot(ancestors, len(weight)).sum(1).double()
    assert (counts >= expected.floor()).all() and (counts <= expected.ceil()).all()
    assert (counts[:, weight == 0] == 0).all()
    assert torch.allclose(counts.mean(0), expected, atol=4 * 0.5 / math.sqrt(4000))
    one = torch.full((1, 7), -math.inf, dtype=F64)
    one[0, 6] = 3.0
    assert (Rng([5]).resample(one) == 6).all()


def cloud(populations: int, particles: int, d: int = 3) -> tuple[Tensor, Tensor]:
    """The same three groups of particles in each population, and smooth weights."""
    x = normal(particles, d, seed=31) + 6 * normal(3, d, seed=32)[torch.arange(particles) % 3]
    log_weight = (x[:, 0] / 2).sin() + x[:, 1] / 4
    return x.expand(populations, -1, -1), log_weight.expand(populations, -1)


def selected(x: Tensor, log_weight: Tensor, rng: Rng, threshold: float = 2.0) -> Tensor:
    state = ParticleState(x=x, x0=x, log_weight=log_weight, log_evidence=log_weight[:, 0] * 0)
    after, ancestors = select(state, rng, threshold)
    rows = torch.arange(len(x))[:, None]
    assert torch.equal(after.x, x[rows, ancestors])
    if threshold == 0:
        assert torch.equal(after.log_weight, log_weight[rows, ancestors])
    return after.x


def test_selection_in_order_keeps_every_weight() -> None:
    # Catches: ancestors that are places in the order and not particles, weights in another order
    # than their particles, where a population is resampled and where it is not.
    x, log_weight = cloud(2000, 40)
    after = selected(x, log_weight, Rng(range(2000)))
    counts = (after[:, :, None, 0] == x[0, :, 0]).sum(1).double()
    expected = 40 * log_weight[0].softmax(-1)
    assert (counts >= expected.floor()).all() and (counts <= expected.ceil()).all()
    assert torch.allclose(counts.mean(0), expected, atol=4 * 0.5 / math.sqrt(2000))
    kept = selected(x[:2], log_weight[:2], Rng(range(2)), threshold=0)
    assert torch.equal(kept[0].sort(dim=0).values, x[0].sort(dim=0).values)


def test_selection_in_order_adds_little_variance() -> None:
    # Catches: a sort that does not keep neighbours together.
    x, log_weight = cloud(400, 512, d=2)
    weight = log_weight[0].softmax(-1)
    plain = x[0][Rng(range(400)).resample(log_weight)]
    after = selected(x, log_weight, Rng(range(400)))
    for f in (lambda z: z[..., 0], lambda z: z[..., 1] ** 2, lambda z: (z.sum(-1) / 4).cos()):
        exact = (weight * f(x[0])).sum()
        before, now = (((f(z).mean(1) - exact) ** 2).mean() for z in (plain, after))
        assert now < before / 5


def test_selection_does_not_depend_on_the_order_given_or_on_other_populations() -> None:
    # Catches: axes whose sign is arbitrary, an extent or an axis taken over all populations.
    x, log_weight = cloud(3, 64)
    x = x * torch.tensor([1.0, 100.0, 0.01], dtype=F64)[:, None, None]
    together = selected(x, log_weight, Rng([4, 5, 6]))
    shuffled = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    for k in range(3):
        alone = selected(x[k : k + 1], log_weight[:1], Rng([4 + k]))
        assert torch.equal(alone[0], together[k])
    again = selected(x[:, shuffled], log_weight[:, shuffled], Rng([4, 5, 6]))
    assert torch.equal(again, together)


def test_the_order_follows_a_curve() -> None:
    # Catches: a turn of the curve that is missing, after which it jumps.
    i, j = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    place = hilbert(4, torch.device("cpu")).flatten()
    path = torch.stack([i.flatten(), j.flatten()])[:, place.argsort()]
    assert torch.equal(place.sort().values, torch.arange(256))
    assert (path.diff(dim=1).abs().sum(0) == 1).all()
    # On a line it is the order of the line, and where there is nothing to order the one given.
    line = normal(2, 50, 1, seed=3)
    for direction in (torch.ones(1, dtype=F64), torch.ones(5, dtype=F64)):
        places = line.gather(1, order(line * direction, torch.zeros(2, 50))[..., None])
        steps = places[..., 0].diff(dim=-1)
        assert ((steps > -0.02).all(-1) | (steps < 0.02).all(-1)).all()
    same = order(torch.ones(1, 7, 2, dtype=F64), torch.full((1, 7), -math.inf))
    assert torch.equal(same[0], torch.arange(7))
    # Finite, but with squares that are not.
    far = order(1e30 * normal(1, 7, 2, seed=4).float(), torch.zeros(1, 7))
    assert torch.equal(far.sort().values[0], torch.arange(7))


def test_paired_noise() -> None:
    # Catches: pairs across populations, a last particle without noise, draws of another spread.
    noise = paired(torch.empty(500, 7, 2, 3, dtype=F64), Rng(range(500)))
    assert noise.shape == (500, 7, 2, 3)
    assert torch.equal(noise[:, 0:6:2], -noise[:, 1:6:2])
    spread = noise.square().mean((0, 2, 3))
    assert torch.allclose(spread, torch.ones(7, dtype=F64), atol=4 * math.sqrt(2 / 3000))
    between = (noise[:, 0] * noise[:, 2]).mean()
    assert abs(between) < 4 / math.sqrt(3000)


def test_finish_permutes() -> None:
    # Catches: systematic resampling left in order, after which neighbours descend from one
    # particle and the first seeds are not draws from the posterior.
    x = torch.arange(64, dtype=F64).expand(300, 64)[..., None]
    log_weight = torch.where(x[..., 0] < 8, 0.0, -math.inf)
    state = finish(
        ParticleState(x=x, x0=x, log_weight=log_weight, log_evidence=torch.zeros(300, dtype=F64)),
        Rng(range(300)),
    )
    chosen = state.x[..., 0]
    same = (chosen[:, 1:] == chosen[:, :-1]).double().mean()
    assert same < 0.2  # 1/8 by chance, 0.9 if left in order
    assert abs(chosen[:, 0].mean() - 3.5) < 4 * 2.3 / math.sqrt(300)
    assert (state.log_weight == 0).all()
    assert torch.allclose(state.log_evidence, torch.full((300,), math.log(8 / 64), dtype=F64))
