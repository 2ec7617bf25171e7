"""CFGiG: its grids, its closed forms on Gaussians, known numbers, and what small noise cannot do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from helpers import F64, normal
from posteria.analytic.tilted import TiltedQuadrature, tilted_gaussian
from posteria.core.rng import Rng
from posteria.diffusion.denoiser import Counted, Family
from posteria.diffusion.schedule import levels_of
from posteria.guidance.base import Estimate, Memory, StepInfo, TiltedRule
from posteria.guidance.tilted.cfg import CFG, cfg
from posteria.guidance.tilted.two_level import TwoLevel
from posteria.problems.tilted import cfgig_toy, rare_mode, wasserstein_1d
from posteria.samplers.guided import Guided
from posteria.samplers.tilted.cfgig import CFGiG
from posteria.target import Tilted

TOY, RARE = cfgig_toy(), rare_mode()


def pair(weight: float = 3.0) -> Tilted:
    """The worked example: N(1.3, 1/4) given the condition and N(-0.7, 1) without."""
    given, free = (
        po.Gaussian(torch.tensor([mean], dtype=F64), torch.tensor([[variance]], dtype=F64))
        for mean, variance in ((1.3, 0.25), (-0.7, 1.0))
    )
    return Tilted(Family(free, {0: given}), po.Label(0), weight)


def counted(target: Tilted) -> tuple[Counted, Tilted]:
    prior = Counted(target.prior)
    return prior, Tilted(prior, target.condition, target.weight)


# Grids and cost.


def test_grids_and_cost() -> None:
    # 12 + 10 + 10 levels by Heun are 23 + 19 + 19 estimates, of which the first 23 are one
    # evaluation. Catches: a round on the levels of the whole schedule, a move lost between parts.
    sampler = CFGiG()
    moves = sampler.moves()
    assert len(moves) == 32 and sum(1 + (low > 0) for _, low in moves) == 61
    first, *rounds = (moves[:12], moves[12:22], moves[22:])
    assert rounds[0] == rounds[1]
    assert [move[0] for move in first] == list(levels_of(po.Karras(steps=12)))[:-1]
    grid = list(levels_of(po.Karras(steps=10, sigma_max=1.0)))
    assert [move[0] for move in rounds[0]] == grid[:-1] and rounds[0][-1] == (grid[-2], 0.0)
    for settings, cost in ((CFGiG(), 99), (CFGiG(rounds=0), 63), (Guided(), 126)):
        prior, target = counted(TOY.target)
        settings.sample(target, [0])
        assert (prior.meter.forward, prior.meter.backward) == (cost, 0)
    # What does not divide goes to the first run; the number of steps is kept.
    odd = CFGiG(schedule=po.Karras(steps=34), rounds=4).moves()
    assert [i for i, (_, low) in enumerate(odd) if low == 0] == [13, 18, 23, 28, 33]


@pytest.mark.parametrize("name", CFGiG.presets())
def test_published_settings_cost_what_they_say(name: str) -> None:
    prior, target = counted(cfgig_toy(2.0).target)
    CFGiG.published(name).sample(target, [0])
    assert prior.meter.forward == 99


# Gaussians.


def flow(x: float, sigma: float, w: float = 3.0) -> float:
    """Where the guided ODE ends, in closed form (3.4.3 of the notes on the method: an integrating factor)."""
    (m_c, v_c), (m_u, v_u) = (1.3, 0.25), (-0.7, 1.0)
    s = torch.linspace(0, sigma, 200_001, dtype=F64)

    def h(s: Tensor) -> Tensor:
        return (v_c + s**2) ** (w / 2) * (v_u + s**2) ** ((1 - w) / 2)

    b = w * m_c / (v_c + s**2) + (1 - w) * m_u / (v_u + s**2)
    return float(h(s[0]) * (x / h(s[-1]) + torch.trapezoid(s * b / h(s), s)))


def regression(sampler: CFGiG, target: Tilted, seeds: Sequence[int]) -> list[Tensor]:
    """On a Gaussian pair a sample is affine in its noises: intercept and slopes at the end of each part."""
    rng = Rng(seeds)
    noises = [torch.ones(len(seeds), dtype=F64)]
    found = []
    for state in sampler.iterate(target, seeds):
        if sampler.moves()[state.count - 1][1] == 0:
            noises.append(rng.normal(target.space)[:, 0])
            design = torch.stack(noises, -1)
            solved = torch.linalg.lstsq(design, state.x).solution[:, 0]
            assert torch.allclose(design @ solved, state.x[:, 0], rtol=0, atol=1e-9)
            found.append(solved)
    return found


@pytest.mark.parametrize(
    ("sigma_star", "k", "variance", "mean"),
    [
        (2.0, 0.0051, 0.0205, 2.116),
        (1.0, 0.032, 0.0331, 1.973),
        (0.5, 0.195, 0.0607, 1.825),
        (0.2, 0.693, 0.0903, None),
        (0.05, 0.975, 0.0993, None),
    ],
)
def test_a_round_on_gaussians(
    sigma_star: float, k: float, variance: float, mean: float | None
) -> None:
    # One round takes the variance V to k (V + sigma_star^2). Catches: noise that is added twice or not at
    # all, noise of another level than the round's first, one noise shared by all rounds.
    schedule = po.schedules.LogLinear(steps=10 + 3 * 120, sigma_min=0.002)
    sampler = CFGiG(schedule=schedule, rounds=3, sigma_star=sigma_star, initial=10)
    first, *rounds = regression(sampler, pair(), range(12))
    slope = math.sqrt(k)
    assert float(rounds[0][-1]) == pytest.approx(slope * sigma_star, rel=0.01)
    for before, after in zip([first, *rounds[:-1]], rounds, strict=True):
        ratio = after[1:-1] / before[1:]
        assert torch.allclose(ratio, torch.full_like(ratio, slope), rtol=0.01)
    slope = float(rounds[0][-1]) / sigma_star
    assert slope**2 * sigma_star**2 / (1 - slope**2) == pytest.approx(variance, rel=0.01)
    offset = float(rounds[-1][0] - slope * rounds[-2][0])
    assert slope * 0.4 + offset == pytest.approx(flow(0.4, sigma_star), abs=2e-3)
    if mean is not None:
        assert offset / (1 - slope) == pytest.approx(mean, abs=2e-3)


def test_guidance_alone_on_gaussians() -> None:
    # It has the variance v_c^w v_u^(1 - w), 1/64 in place of 1/10, and a mean of 2.29 in place of
    # 1.70. Catches: a weight of another convention.
    seeds = range(6)
    x = Guided(schedule=po.Karras(steps=400, sigma_max=200.0)).sample(pair(), seeds)
    noise = Rng(seeds).normal(pair().space)
    slope = (x[1:] - x[:1]) / (noise[1:] - noise[:1])
    assert torch.allclose(slope**2, torch.full_like(slope, 1 / 64), rtol=0.01)
    assert float(x[0] - slope[0] * noise[0]) == pytest.approx(2.29, abs=0.01)
    exact = tilted_gaussian(pair().conditional, pair().unconditional, 3.0)
    assert float(exact.covariance) == pytest.approx(0.1)
    # The right delta draws the tilted law itself, from the highest level and in rounds.
    right = TwoLevel(delta=0.2)
    x = Guided(schedule=po.Karras(steps=200), rule=right).sample(pair(), seeds)
    noise = Rng(seeds).normal(pair().space)
    slope = (x[1:] - x[:1]) / (noise[1:] - noise[:1])
    assert torch.allclose(slope**2, torch.full_like(slope, 0.1), rtol=0.005)
    # A run begins around 0 and not around the mean.
    begun = 1.7 * (1 - math.sqrt(0.1) / 80)
    assert float(x[0] - slope[0] * noise[0]) == pytest.approx(begun, abs=1e-3)


def test_small_noise_has_the_tilted_law_as_its_fixed_point() -> None:
    # V* of the table tends to the tilted variance, and the fixed point of a round with the right delta is
    # it at any sigma_star.
    for rule, sigma_star, tolerance in ((CFG(), 0.02, 0.003), (TwoLevel(delta=0.2), 1.0, 0.003)):
        schedule = po.schedules.LogLinear(steps=5 + 200, sigma_min=1e-4)
        sampler = CFGiG(schedule=schedule, rounds=1, sigma_star=sigma_star, initial=5, rule=rule)
        first, last = regression(sampler, pair(), range(6))
        slope = float(last[-1]) / sigma_star
        assert slope**2 * sigma_star**2 / (1 - slope**2) == pytest.approx(0.1, rel=tolerance)
        offset = float(last[0] - slope * first[0])
        assert offset / (1 - slope) == pytest.approx(1.7, abs=3 * tolerance)


# Known numbers.


@pytest.mark.parametrize(
    ("sampler", "distance", "std", "n"),
    [
        (CFGiG(rounds=0), 0.079, 0.601, 20_000),
        (Guided(), 0.492, 0.148, 20_000),
        (CFGiG(), 0.071, 0.471, 20_000),
        (CFGiG(sigma_star=0.5), 0.034, 0.513, 20_000),
        (CFGiG(sigma_star=0.3), 0.022, 0.547, 20_000),
        (
            CFGiG(sigma_star=0.3, rounds=10, initial=12, schedule=po.Karras(steps=112)),
            0.026,
            0.523,
            10_000,
        ),
    ],
)
def test_known_numbers_of_the_toy(
    sampler: po.samplers.Sampler[Any], distance: float, std: float, n: int
) -> None:
    # Wasserstein-1 distances to the tilted law of the authors' code with exact denoisers. Catches: whatever
    # changes the method. Exact draws have 0.004 +- 0.0015.
    x = sampler.sample(TOY.target, range(n))
    assert TOY.wasserstein(x) == pytest.approx(distance, abs=0.004)
    assert float(x.std()) == pytest.approx(std, abs=0.008)


@pytest.mark.usefixtures("one_stream")
def test_rounds_of_small_noise_leave_the_modes_their_shares() -> None:
    # The limit that the docstring names: the tilt moves the rare mode from 0.35 to 0.758 of the mass, and
    # rounds below the distance of the modes do not. Recorded, so that a change shows either way.
    def share(sampler: po.samplers.Sampler[Any]) -> float:
        return float((sampler.sample(RARE.target, range(2000)) < 0).double().mean())

    assert share(CFGiG(rounds=0)) == pytest.approx(0.35, abs=0.03)
    ten = po.Karras(steps=112)
    assert share(CFGiG(sigma_star=0.3, rounds=10, initial=12, schedule=ten)) == pytest.approx(
        0.35, abs=0.03
    )
    assert share(CFGiG(sigma_star=1.0, rounds=10, initial=12, schedule=ten)) == pytest.approx(
        0.36, abs=0.03
    )
    assert share(CFGiG(sigma_star=3.0)) == pytest.approx(0.46, abs=0.04)
    assert share(Guided()) == pytest.approx(0.60, abs=0.04)


# Sanity.


def test_no_rounds_are_the_conditional_law() -> None:
    # Catches: an initial run that is shortened where there is nothing to come.
    plain = Guided(rule=CFG(1.0)).sample(TOY.target, range(5))
    assert torch.equal(CFGiG(rounds=0).sample(TOY.target, range(5)), plain)
    # And a first run with guidance is guidance.
    guided = Guided().sample(TOY.target, range(5))
    assert torch.equal(CFGiG(rounds=0, initial_weight=3.0).sample(TOY.target, range(5)), guided)


def test_rounds_of_weight_1_leave_the_conditional_law_alone() -> None:
    # Noise and its removal by the law's own denoiser are a Gibbs sampler of it. Catches: noise of a level
    # that is not the one removed.
    target = cfgig_toy(1.0).target
    sampler = CFGiG(schedule=po.Karras(steps=24 + 5 * 24), rounds=5, initial=24)
    given, free = target.conditional, target.unconditional
    assert isinstance(given, po.GaussianMixture) and isinstance(free, po.GaussianMixture)
    law = TiltedQuadrature(given, free, 1.0)
    n = 5000
    floor = [wasserstein_1d(given.sample(n, generator(s)), law) for s in range(10)]
    assert wasserstein_1d(sampler.sample(target, range(n)), law) < 2.5 * sum(floor) / 10


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_round_from_the_top_is_guidance() -> None:
    # Catches: a round that starts from the clean sample in place of the noised one.
    n, steps = 5000, 24
    schedule = po.Karras(steps=12 + steps)
    once = CFGiG(schedule=schedule, rounds=1, initial=12, sigma_star=80.0).sample(
        TOY.target, range(n)
    )
    again = Guided(schedule=po.Karras(steps=steps)).sample(TOY.target, range(n, 2 * n))
    assert float((once.sort(0).values - again.sort(0).values).abs().mean()) < 0.01
    assert float(once.std()) == pytest.approx(float(again.std()), rel=0.05)


# Memory, moments and runs that stop.


@dataclass(frozen=True)
class Wary(TiltedRule):
    """A rule that remembers how often it was asked, and guides the less for it."""

    def init(self, target: Tilted, x: Tensor) -> Memory:
        return {"asked": torch.zeros(len(x), dtype=F64), "last": x}

    def __call__(self, target: Tilted, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        asked = memory["asked"] + 1
        assert bool((asked <= 2 * info.steps).all()) and info.steps == 4
        assert info.index == int(asked[0]) // 2
        share = (1 / asked)[:, None] * (1 + info.sigma_next)
        x0 = cfg(target, x, info.sigma, self.strength(target))
        return Estimate(x0 + 1e-3 * share * (memory["last"] - x0), {"asked": asked, "last": x0})


SMALL = CFGiG(schedule=po.Karras(steps=14, sigma_min=0.02), initial=6)


RUNS = [(rule, solver()) for rule in (CFG(), TwoLevel()) for solver in po.solvers.SOLVERS.values()]


# The counts of `Wary` are those of Heun's method.
@pytest.mark.parametrize(("rule", "solver"), [*RUNS, (Wary(), po.Heun())], ids=repr)
def test_a_run_stopped_anywhere_is_the_same_run(
    rule: TiltedRule, solver: po.solvers.Solver
) -> None:
    # Catches: a round that is told from the state's level and not from its count, noise that is drawn again,
    # memory that is changed in place. And in a batch a sample is what it is alone.
    sampler, seeds = replace(SMALL, rule=rule, solver=solver), [3, 7, 11]
    whole = sampler.sample(TOY.target, seeds)
    kept = [(state, rng.state().clone()) for state, rng in sampler.checkpoints(TOY.target, seeds)]
    assert [state.count for state, _ in kept] == list(range(1, 15))
    for stop in kept[:-1]:
        *_, last = sampler.iterate(TOY.target, seeds, resume=stop)
        assert torch.equal(last.x, whole)
    alone = torch.cat([sampler.sample(TOY.target, [seed]) for seed in seeds])
    assert torch.allclose(alone, whole, rtol=0, atol=1e-10)
    assert len(torch.unique(whole)) == 3


def test_a_multistep_solver_forgets_the_round_before() -> None:
    # Catches: an estimate at the lowest level that is extrapolated to the highest. A
    # round of DPM-Solver++(2M) from a given x is what a fresh run of it is.
    sampler = replace(SMALL, solver=po.solvers.DPMpp2M())
    states = list(sampler.iterate(TOY.target, [5]))
    noises = Rng([5])
    noises.normal(TOY.target.space)
    x = states[5].x + noises.normal(TOY.target.space)
    fresh = replace(states[5], x=x, sigma=math.inf, count=0)
    levels = po.Karras(steps=4, sigma_min=0.02, sigma_max=1.0)
    *_, last = Guided(schedule=levels, solver=po.solvers.DPMpp2M()).iterate(
        TOY.target, [5], resume=(fresh, noises.state())
    )
    assert torch.equal(last.x, states[9].x)


def test_any_event_shape() -> None:
    # Catches: noise of the wrong shape.
    means, eye = 2 * normal(2, 6), torch.eye(6, dtype=F64).expand(2, 6, 6)
    drawn = []
    for event in ((6,), (1, 2, 3)):
        given, free = (
            po.GaussianMixture(torch.ones(2), scale * means.reshape(2, *event), eye)
            for scale in (1.0, 0.5)
        )
        target = Tilted(Family(free, {0: given}), po.Label(0), 2.0)
        drawn.append(SMALL.sample(target, [0, 1]))
    assert drawn[1].shape == (2, 1, 2, 3)
    assert torch.allclose(drawn[0], drawn[1].flatten(1), rtol=0, atol=1e-10)


def test_its_words_rebuild_it() -> None:
    kinds = [CFGiG, CFG, TwoLevel, po.Karras, po.Heun, po.solvers.DPMpp2M]
    for sampler in (*CFGiG.presets().values(), replace(SMALL, solver=po.solvers.DPMpp2M())):
        assert eval(repr(sampler), {kind.__name__: kind for kind in kinds}) == sampler


# What it refuses.


def test_what_it_refuses() -> None:
    for settings, words in (
        ({"sigma_star": 0.002}, "sigma_star is above the lowest level"),
        ({"sigma_star": 81.0}, r"at most its highest, 80; sigma_star=81\."),
        ({"rounds": -1}, "rounds of CFGiG is an integer, at least 0"),
        ({"initial": 0}, "initial of CFGiG is None, or an integer, at least 1"),
        ({"initial": 29}, "2 rounds and initial=29 need 33 steps; the schedule has 32"),
        ({"initial": 40}, "A round has at least 2 levels"),
        ({"initial_weight": -1.0}, "initial_weight"),
    ):
        with pytest.raises(po.InputError, match=words):
            CFGiG(**settings)
    with pytest.raises(po.CapabilityError, match=r"Karras\(steps=32\); Table is none"):
        CFGiG(schedule=po.schedules.Table(steps=32))
    with pytest.raises(
        po.CapabilityError, match="CFGiG needs a Tilted; this is a GaussianMixture"
    ):
        CFGiG().sample(TOY.target.conditional, [0])
    lone = Tilted(Family(None, {0: TOY.target.conditional}), po.Label(0), 1.0)
    assert CFGiG().sample(lone, [0]).shape == (1, 1)
    with pytest.raises(po.CapabilityError, match="no unconditional member"):
        CFGiG(rule=CFG(2.0)).sample(lone, [0])
    with pytest.raises(po.InputError, match="TwoLevel needs a weight above 1"):
        CFGiG(rule=TwoLevel()).sample(lone, [0])
    with pytest.raises(po.CapabilityError, match="no unconditional member"):
        CFGiG(rounds=0, initial_weight=2.0).sample(lone, [0])
    # A rule that no round will use may be what it likes.
    CFGiG(rounds=0, rule=TwoLevel()).sample(lone, [0])
