"""Rules that extrapolate from one denoiser to another: closed forms, identities between them, cost, refusals."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from helpers import F64, mixture
from torch import Tensor

import posteria as po
from posteria.core.meter import Cost, Meter
from posteria.core.rebuild import rebuild
from posteria.diffusion.kernel import bridge
from posteria.diffusion.schedule import levels_of
from posteria.guidance.base import Pointwise, StepInfo, TiltedRule
from posteria.guidance.models.autoguidance import AutoGuidance
from posteria.guidance.models.rlg import RLG
from posteria.guidance.tilted.apg import APG
from posteria.guidance.tilted.cfgpp import CFGPlusPlus
from posteria.guidance.tilted.interval import Interval
from posteria.guidance.tilted.rescale import Rescale
from posteria.guidance.tilted.zero_star import ZeroStar

LABEL = po.Label(0)
FINE = po.Karras(steps=200)
SHORT = po.Karras(steps=10)


def iso(variance: float, *mean: float, d: int = 1) -> po.Gaussian:
    center = torch.tensor(mean or (0.0,) * d, dtype=F64)
    return po.Gaussian(center, variance * torch.eye(len(center), dtype=F64))


def pair(free: po.Denoiser, given: po.Denoiser) -> po.Family:
    return po.Family(free, {0: given})


MIXTURES = pair(mixture(), mixture(seed=5))
OTHERS = pair(mixture(seed=9), mixture(seed=13))


def draw(
    rule: TiltedRule,
    family: po.diffusion.Conditional,
    schedule: po.schedules.Schedule,
    solver: po.solvers.Solver,
    seeds: range = range(4),
    weight: float = 1.0,
) -> Tensor:
    sampler = po.Guided(rule=rule, solver=solver, schedule=schedule)
    return sampler.sample(po.Tilted(family, LABEL, weight), seeds=seeds)


def start(family: po.Denoiser, schedule: po.schedules.Schedule, seeds: range = range(4)) -> Tensor:
    return levels_of(schedule)[0] * po.Rng(seeds).normal(family.space)


def slope(v: float, v_u: float, weight: float, low: float, high: float) -> float:
    """How much the guided flow of two Gaussians shrinks differences from level `high` to `low`."""
    given, free = ((u + low**2) / (u + high**2) for u in (v, v_u))
    return math.sqrt(given**weight * free ** (1 - weight))


def info(sigma: float = 0.8, following: float = 0.5, index: int = 3) -> StepInfo:
    return StepInfo(sigma, following, index, steps=10)


class Watched(po.Denoiser):
    """A denoiser that keeps the levels it is asked for and the number of rows."""

    def __init__(self, prior: po.Denoiser) -> None:
        self.prior, self.space = prior, prior.space
        self.levels: list[float] = []
        self.rows = 0

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        if not isinstance(sigma, Tensor):
            self.levels.append(sigma)
        self.rows += len(x)
        return self.prior(x, sigma)


# Classifier-free guidance on Gaussian pairs.


def test_cfg_is_exact_for_a_shift() -> None:
    # Catches: a weight in the other convention (w - 1), members exchanged.
    family = pair(iso(1.0, d=2), iso(1.0, 1.5, -0.5))
    x = draw(po.CFG(), family, FINE, po.Heun(), weight=3.0)
    center = 3 * torch.tensor([1.5, -0.5], dtype=F64)
    expected = center + (start(family, FINE) - center) / math.hypot(1, 80)
    assert (x - expected).abs().max() < 5e-4


def test_cfg_has_the_known_bias() -> None:
    # Catches: a rule that mixes scores with other weights than its denoisers. The tilted law has the
    # variance 0.571 here.
    family = pair(iso(4.0), iso(1.0, 1.5))
    x, x_start = draw(po.CFG(2.0), family, FINE, po.Heun()), start(family, FINE)
    measured = float((x[0] - x[1]) / (x_start[0] - x_start[1]))
    assert measured == pytest.approx(slope(1, 4, 2, 0, 80), rel=1e-3)
    assert (measured * 80) ** 2 == pytest.approx(0.25, rel=3e-3)


# Rescale.


@pytest.mark.parametrize("sigma", [0.05, 0.8, 30.0])
@pytest.mark.parametrize(("weight", "phi"), [(3.0, 1.0), (7.5, 0.7), (4.0, 0.0), (1.0, 0.4)])
def test_rescale_of_a_unit_gaussian_is_cfg_of_a_smaller_weight(
    sigma: float, weight: float, phi: float
) -> None:
    # The velocity of N(0, I) is 0, so that the guided one is `weight` times the conditional one.
    # Catches: rescaling in another space, a mixture with phi the wrong way round.
    target = po.Tilted(pair(iso(1.0, d=4), mixture()), LABEL, 1.0)
    x = math.hypot(1, sigma) * po.Rng(range(5)).normal(target.space)
    rescaled = Rescale(weight, phi=phi).at(target, x, sigma)
    expected = po.CFG(phi + (1 - phi) * weight).at(target, x, sigma)
    torch.testing.assert_close(rescaled, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "output",
    [
        po.diffusion.Velocity(),
        po.diffusion.Epsilon(),
        po.diffusion.X0(),
        po.diffusion.FlowMatching(),
    ],
)
def test_rescale_gives_the_output_the_spread_of_the_conditional_one(
    output: po.diffusion.Velocity
    | po.diffusion.Epsilon
    | po.diffusion.X0
    | po.diffusion.FlowMatching,
) -> None:
    # Catches: one spread for the whole batch, a norm in place of a standard deviation, a conversion
    # to the output and back that does not fit.
    target, sigma = po.Tilted(MIXTURES, LABEL, 5.0), 0.7
    x = 2 * po.Rng(range(6)).normal(target.space)
    _, skip, out = output.coefficients(sigma)

    def network(x0: Tensor) -> Tensor:
        return (x0 - skip * x) / out

    given, guided = network(target.conditional(x, sigma)), network(target(x, sigma))
    full = network(Rescale(phi=1.0, output=output).at(target, x, sigma))
    torch.testing.assert_close(full.std(-1), given.std(-1), rtol=1e-10, atol=0)
    part = network(Rescale(phi=0.3, output=output).at(target, x, sigma))
    factor = (given.std(-1) / guided.std(-1))[:, None]
    torch.testing.assert_close(part, 0.3 * factor * guided + 0.7 * guided, rtol=1e-9, atol=1e-11)
    assert (factor - 1).abs().min() > 0.01


def test_rescale_leaves_a_single_entry_alone() -> None:
    # Catches: 0 / 0 where a sample has no spread, in the value or in the derivative.
    target = po.Tilted(pair(iso(4.0), iso(1.0, 1.5)), LABEL, 3.0)
    x = po.Rng(range(3)).normal(target.space)
    rescaled, pullback = Rescale(phi=1.0).denoiser(target).vjp(x, 0.5)
    expected, reference = target.vjp(x, 0.5)
    torch.testing.assert_close(rescaled, expected)
    torch.testing.assert_close(pullback(torch.ones_like(x)), reference(torch.ones_like(x)))


# Interval.


def test_interval_has_its_closed_form() -> None:
    # Catches: guidance outside in place of inside, an end of the interval that is ignored.
    family, schedule = pair(iso(4.0), iso(1.0, 1.5)), po.Karras(steps=1000)
    x = draw(Interval(2.0, low=0.5, high=2.0), family, schedule, po.Heun())
    x_start = start(family, schedule)
    measured = float((x[0] - x[1]) / (x_start[0] - x_start[1]))
    parts = slope(1, 4, 1, 0, 0.5) * slope(1, 4, 2, 0.5, 2) * slope(1, 4, 1, 2, 80)
    assert measured == pytest.approx(parts, rel=2e-3)
    assert (measured * 80) ** 2 == pytest.approx(0.4706, rel=5e-3)


def test_interval_asks_for_the_unconditional_model_inside_only() -> None:
    # Catches: an evaluation whose share is 0, ends that are open and closed the other way round.
    free, given = Watched(mixture()), Watched(mixture(seed=5))
    rule = Interval.presets()["edm2-xxl"]
    draw(rule, pair(free, given), po.Karras(steps=32), po.Heun())
    assert len(given.levels) == 63
    assert len(free.levels) == 12
    levels = levels_of(po.Karras(steps=32))
    assert {levels.index(level) for level in free.levels} == set(range(17, 23))

    target = po.Tilted(pair(free, given), LABEL, 1.0)
    rule, x = Interval(3.0, low=0.5, high=2.0), start(free, SHORT)
    for sigma, guided in ((0.5, False), (0.5001, True), (2.0, True), (2.0001, False)):
        before = len(free.levels)
        x0 = rule.at(target, x, sigma)
        assert len(free.levels) - before == guided
        expected = po.CFG(3.0 if guided else 1.0).at(target, x, sigma)
        torch.testing.assert_close(x0, expected)


def test_interval_judges_each_sample_by_its_own_level() -> None:
    # Catches: one decision for a batch with many levels, an evaluation of the rows outside.
    free = Watched(mixture())
    target = po.Tilted(pair(free, mixture(seed=5)), LABEL, 3.0)
    rule, x = Interval(low=0.5, high=2.0), po.Rng(range(4)).normal(free.space)
    x0 = rule.at(target, x, torch.tensor([0.3, 0.7, 2.0, 5.0], dtype=F64))
    assert free.rows == 2
    for row, sigma in enumerate((0.3, 0.7, 2.0, 5.0)):
        torch.testing.assert_close(x0[row], rule.at(target, x[row], sigma), rtol=0, atol=1e-13)


# CFG++.


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_cfgpp_is_a_guided_estimate_with_unguided_noise(eta: float) -> None:
    # Catches: a weight that is off by a factor, noise taken from the guided estimate.
    schedule, lam, seeds = po.Karras(steps=50), 0.6, range(8)
    free, given = MIXTURES.unconditional(), MIXTURES.given(LABEL)
    rng = po.Rng(seeds)
    x = levels_of(schedule)[0] * rng.normal(free.space)
    for sigma, sigma_next in pairwise(levels_of(schedule)):
        x_free = free(x, sigma)
        kept, std = bridge(0.0, sigma_next, sigma, eta)
        x = x_free + lam * (given(x, sigma) - x_free) + kept * (x - x_free)
        if std:
            x = x + std * rng.normal_like(x)
    drawn = draw(CFGPlusPlus(lam=lam, eta=eta), MIXTURES, schedule, po.DDIM(eta), seeds)
    assert (drawn - x).abs().max() < 1e-12


def test_cfgpp_weights_are_the_published_ones() -> None:
    # Catches: `following` taken from the step before, or from above.
    levels = levels_of(po.schedules.Table(steps=50))
    rule = CFGPlusPlus(lam=0.6)
    weights = [rule.weight_at(StepInfo.of(levels, levels[k])) for k in (0, 25, 49)]
    assert weights == pytest.approx([3.3, 5.85, 0.6], abs=0.02)


def test_cfgpp_grows_with_the_number_of_steps() -> None:
    # What the documentation warns of: twice the steps are nearly twice the shift of the mean.
    family = pair(iso(1.0), iso(1.0, 1.5))
    shift = [
        draw(CFGPlusPlus(), family, po.schedules.Table(steps=n), po.DDIM(), range(200)).mean()
        for n in (50, 100)
    ]
    assert float(shift[0]) == pytest.approx(7.9, abs=0.3)
    assert 1.85 < float(shift[1] / shift[0]) < 2.05


# CFG-Zero*.


@pytest.mark.parametrize("zero_steps", [0, 2])
def test_zero_star_is_its_algorithm_in_the_coordinates_of_flow_matching(zero_steps: int) -> None:
    # Catches: a fit on the noise or on x_0 in place of the velocity, a zero velocity taken for a
    # zero estimate.
    schedule, weight = po.schedules.Flow(steps=28), 4.0
    free, given = MIXTURES.unconditional(), MIXTURES.given(LABEL)
    levels = levels_of(schedule)
    z = start(free, schedule) / (1 + levels[0])
    for index, (sigma, sigma_next) in enumerate(pairwise(levels)):
        tau, tau_next = 1 / (1 + sigma), 1 / (1 + sigma_next)
        x = z / tau

        def velocity(prior: po.Denoiser, x: Tensor = x, sigma: float = sigma) -> Tensor:
            x0 = prior(x, sigma)
            return x0 - (x - x0) / sigma

        u_free, u_given = velocity(free), velocity(given)
        share = (u_free * u_given).sum(-1, keepdim=True) / (u_free**2).sum(-1, keepdim=True)
        u = share * u_free + weight * (u_given - share * u_free)
        z = z + (tau_next - tau) * (u if index >= zero_steps else 0 * u)
    rule = ZeroStar(weight, zero_init_steps=zero_steps)
    assert (draw(rule, MIXTURES, schedule, po.DDIM()) - z).abs().max() < 1e-11


@pytest.mark.parametrize("rule", [ZeroStar(7.0, zero_init_steps=0), APG(7.0)])
def test_one_dimension_has_no_direction_to_guide_in(rule: TiltedRule) -> None:
    # Catches: a projection on the difference in place of a member; a norm over the batch.
    family = pair(iso(4.0), iso(1.0, 1.5))
    drawn = draw(rule, family, SHORT, po.Heun())
    torch.testing.assert_close(drawn, draw(po.CFG(1.0), family, SHORT, po.Heun()))


# Autoguidance.


def test_autoguidance_narrows_a_gaussian_as_it_should() -> None:
    # Catches: the unconditional member in place of the weak one, models exchanged.
    family = pair(iso(25.0, -3.0), iso(1.0, 2.0))
    x = draw(AutoGuidance(2.5, weak=iso(1.44, 2.0)), family, FINE, po.Heun())
    x_start = start(family, FINE)
    measured = float((x[0] - x[1]) / (x_start[0] - x_start[1]))
    assert measured == pytest.approx(slope(1, 1.44, 2.5, 0, 80), rel=1e-3)
    assert (measured * 80) ** 2 == pytest.approx(1.44**-1.5, rel=3e-3)
    # Both models have the mean 2, and so has every guided one.
    torch.testing.assert_close(x, 2 + measured * (x_start - 2), rtol=0, atol=1e-4)


def test_a_weak_family_is_given_the_same_condition() -> None:
    # Catches: a weak model without the condition, as in diffusers.
    weak = po.Family(mixture(seed=9), {0: mixture(seed=13), 1: mixture(seed=17)})
    family = po.Family(mixture(), {0: mixture(seed=5), 1: mixture(seed=6)})
    target = po.Tilted(family, po.Label(1), 2.0)
    x = po.Rng(range(3)).normal(target.space)
    expected = mixture(seed=17)(x, 0.5).lerp(mixture(seed=6)(x, 0.5), 2.0)
    torch.testing.assert_close(AutoGuidance(weak=weak).at(target, x, 0.5), expected)
    alone = AutoGuidance(weak=mixture(seed=17)).at(target, x, 0.5)
    torch.testing.assert_close(alone, expected)
    of_weak = AutoGuidance(0.0, weak=weak).at(target, x, 0.5)
    torch.testing.assert_close(of_weak, mixture(seed=17)(x, 0.5))


# Adaptive projected guidance.


def test_apg_with_nothing_to_adapt_is_cfg() -> None:
    # Catches: the base and factor of diffusers (D_u and weight) in place of the paper's.
    plain = draw(po.CFG(4.0), MIXTURES, SHORT, po.Heun())
    assert (draw(APG(4.0, eta=1.0), MIXTURES, SHORT, po.Heun()) - plain).abs().max() < 1e-11


def test_apg_pushes_at_a_right_angle_and_no_further_than_the_radius() -> None:
    # Catches: a projection on D_u or on x, a cap after the projection or on the weighted push.
    target, sigma = po.Tilted(MIXTURES, LABEL, 6.0), 0.8
    x = 2 * po.Rng(range(50)).normal(target.space)
    given = target.conditional(x, sigma)
    push = given - target.unconditional(x, sigma)
    orthogonal = (APG()(target, x, info(), {}).x0 - given) / 5
    assert (orthogonal * given).sum(-1).abs().max() < 1e-12
    capped = (APG(eta=1.0, radius=1.8)(target, x, info(), {}).x0 - given) / 5
    expected = push.norm(dim=-1).clamp(max=1.8)
    torch.testing.assert_close(capped.norm(dim=-1), expected)
    assert 10 < int((expected < 1.8).sum()) < 40


def by_hand(rule: APG, pushes: list[Tensor], given: Tensor) -> Tensor:
    """Algorithm 1 on one sample: what is added to its D_c after some evaluations."""
    total = torch.zeros_like(given)
    for push in pushes:
        total = push + rule.beta * total
    if rule.radius is not None:
        total = total * min(1.0, rule.radius / float(total.norm()))
    along = (total @ given) / (given @ given) * given
    return total - along + rule.eta * along


def test_apg_remembers_what_it_was_pushed_by() -> None:
    # Catches: a sum of cut pushes, memory that is changed in place, one norm for the batch.
    rule = APG(6.0, eta=0.3, radius=1.2, beta=-0.6)
    target = po.Tilted(MIXTURES, LABEL, 6.0)
    free, given = MIXTURES.unconditional(), MIXTURES.given(LABEL)
    x = 2 * po.Rng(range(5)).normal(target.space)
    memory, pushes = rule.init(target, x), []
    kept = {name: value.clone() for name, value in memory.items()}
    first = memory
    for sigma in (1.5, 0.9, 0.4):
        x0, memory, _ = rule(target, x, info(sigma), memory)
        pushes.append(given(x, sigma) - free(x, sigma))
        for row in range(5):
            center = given(x, sigma)[row]
            added = by_hand(rule, [push[row] for push in pushes], center)
            torch.testing.assert_close(x0[row], center + 5 * added, rtol=0, atol=1e-12)
    assert all(torch.equal(first[name], value) for name, value in kept.items())
    assert all(len(value) == 5 for value in memory.values())


def test_apg_cuts_the_overshoot() -> None:
    # The numbers are of an implementation in numpy: 5.99, 8.12, 6.61 and 6.93. That is less overshoot,
    # not the tilted law, whose projection is 7.83. Catches: the parallel part kept and the other dropped.
    d = 256
    direction = torch.tensor([1.0, -1.0], dtype=F64).repeat(d // 2) / 16
    family = pair(iso(1.0, d=d), po.Gaussian(6 * direction, 0.25 * torch.eye(d, dtype=F64)))
    rules = (po.CFG(1.0), po.CFG(15.0), APG(15.0), APG(15.0, radius=2.5, beta=-0.5))
    schedule, found = po.schedules.Table(steps=50), []
    for rule in rules:
        x = draw(rule, family, schedule, po.DDIM(), range(150))
        found.append(float((x @ direction).mean()))
    assert found == pytest.approx([5.99, 8.12, 6.61, 6.93], abs=0.1)


def test_apg_survives_an_estimate_of_zero() -> None:
    # Catches: 0 / 0 in the projection or in the cap.
    target = po.Tilted(pair(iso(4.0, d=3), iso(1.0, d=3)), LABEL, 3.0)
    x = torch.zeros(2, 3, dtype=F64)
    rule = APG(radius=1.0, beta=-0.5)
    x0, _, _ = rule(target, x, info(), rule.init(target, x))
    assert torch.equal(x0, x)


# Reinforcement learning guidance.


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_rlg_follows_a_linear_reward_in_proportion(weight: float) -> None:
    # A reward a x moves N(0, 1) to N(a / b, 1). Catches: models exchanged, `weight - 1` for `weight`.
    family = pair(iso(9.0, -5.0), iso(1.0))
    x = draw(RLG(weight, tuned=iso(1.0, 0.8)), family, FINE, po.Heun())
    center = 0.8 * weight
    expected = center + (start(family, FINE) - center) / math.hypot(1, 80)
    assert (x - expected).abs().max() < 5e-4


def test_rlg_has_the_bias_of_cfg_where_a_reward_changes_the_variance() -> None:
    # Catches: a claim of exactness. N(0, 1) under -x^2 / 2 becomes N(0, 1/2); twice the reward is 1/3.
    family = pair(iso(9.0, -5.0), iso(1.0))
    x = draw(RLG(2.0, tuned=iso(0.5)), family, FINE, po.Heun())
    x_start = start(family, FINE)
    measured = float((x[0] - x[1]) / (x_start[0] - x_start[1])) * 80
    assert measured**2 == pytest.approx(0.25, rel=3e-3)


def test_rlg_guides_both_models_first() -> None:
    # Catches: guidance inside one model only, the weight of the target taken for it.
    target = po.Tilted(MIXTURES, LABEL, 1.6)
    x = po.Rng(range(3)).normal(target.space)
    base, tuned = (po.Tilted(family, LABEL, 3.0)(x, 0.5) for family in (MIXTURES, OTHERS))
    guided = RLG(tuned=OTHERS, guidance=3.0).at(target, x, 0.5)
    torch.testing.assert_close(guided, base.lerp(tuned, 1.6))


# What holds for all.

Build = Callable[[po.Denoiser], TiltedRule]
EVERY: dict[str, Build] = {
    "rescale": lambda other: Rescale(3.0),
    "interval": lambda other: Interval(3.0, low=0.3, high=3.0),
    "cfgpp": lambda other: CFGPlusPlus(lam=0.6),
    "zero_star": lambda other: ZeroStar(3.0),
    "autoguidance": lambda other: AutoGuidance(1.7, weak=other),
    "apg": lambda other: APG(5.0, eta=0.2, radius=1.0, beta=-0.5),
    "rlg": lambda other: RLG(1.7, tuned=other, guidance=2.0),
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("solver", [po.DDIM(), po.Heun(), po.solvers.DPMpp2M()])
def test_a_sample_is_the_same_alone_and_in_a_batch(name: str, solver: po.solvers.Solver) -> None:
    # Catches: a norm, a spread or a decision over the batch.
    rule = EVERY[name](OTHERS)
    together = draw(rule, MIXTURES, SHORT, solver, range(16))
    for seed in (0, 7, 15):
        alone = draw(rule, MIXTURES, SHORT, solver, range(seed, seed + 1))
        assert (alone[0] - together[seed]).abs().max() < 1e-10


@pytest.mark.parametrize("name", EVERY)
def test_a_run_is_resumed_where_it_stopped(name: str) -> None:
    # Catches: memory outside of the state.
    sampler = po.Guided(rule=EVERY[name](OTHERS), schedule=SHORT)
    target, seeds = po.Tilted(MIXTURES, LABEL, 1.0), range(3)
    whole = [(state, rng.state()) for state, rng in sampler.checkpoints(target, seeds)]
    rest = list(sampler.iterate(target, seeds, resume=whole[4]))
    assert len(rest) == 5
    assert torch.equal(rest[-1].x, whole[-1][0].x)


@pytest.mark.parametrize("name", EVERY)
def test_single_precision_stays(name: str) -> None:
    # Catches: a constant in float64 that promotes.
    def single(family: po.Family) -> po.Family:
        free, given = family.unconditional(), family.given(LABEL)
        laws = [
            po.GaussianMixture(m.weights.float(), m.means.float(), m.covariances.float())
            for m in (free, given)
            if isinstance(m, po.GaussianMixture)
        ]
        return pair(*laws)

    rule = EVERY[name](single(OTHERS))
    x = draw(rule, single(MIXTURES), SHORT, po.Heun())
    assert x.dtype == torch.float32
    if isinstance(rule, Pointwise):
        level = torch.full((4,), 0.7, dtype=F64)
        target = po.Tilted(single(MIXTURES), LABEL, 1.0)
        assert rule.denoiser(target)(x, level).dtype == torch.float32


@pytest.mark.parametrize("name", ["rescale", "interval", "autoguidance", "rlg"])
def test_a_rule_of_the_point_is_a_denoiser(name: str) -> None:
    # Catches: levels of a batch that are not per sample, a pullback of another function.
    rule = EVERY[name](OTHERS)
    assert isinstance(rule, Pointwise)
    prior = rule.denoiser(po.Tilted(MIXTURES, LABEL, 1.0))
    x, v = (po.Rng(range(4), stream=k).normal(prior.space) for k in (0, 1))
    levels = [0.2, 0.7, 1.5, 6.0]
    x0 = prior(x, torch.tensor(levels, dtype=F64))
    for row, sigma in enumerate(levels):
        torch.testing.assert_close(x0[row], prior(x[row], sigma), rtol=0, atol=1e-12)
    value, pullback = prior.vjp(x, 0.7)
    torch.testing.assert_close(value, prior(x, 0.7))
    w, h = po.Rng(range(4), stream=2).normal(prior.space), 1e-4
    difference = (prior(x + h * w, 0.7) - prior(x - h * w, 0.7)) / (2 * h)
    torch.testing.assert_close(
        (difference * v).sum(-1), (pullback(v) * w).sum(-1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("build", "calls"),
    [
        (lambda other: po.CFG(3.0), 20),
        (lambda other: Rescale(3.0), 20),
        (lambda other: Rescale(1.0), 10),
        (lambda other: Interval(3.0, low=0.0, high=1e3), 20),
        (lambda other: Interval(3.0, low=0.1, high=3.0), 13),
        (lambda other: CFGPlusPlus(lam=0.6), 20),
        # The weight of the last step is lam.
        (lambda other: CFGPlusPlus(lam=1.0), 19),
        (lambda other: CFGPlusPlus(lam=0.0), 10),
        (lambda other: ZeroStar(3.0, zero_init_steps=2), 16),
        (lambda other: ZeroStar(1.0, zero_init_steps=2), 8),
        (lambda other: AutoGuidance(2.0, weak=other), 20),
        (lambda other: AutoGuidance(1.0, weak=other), 10),
        (lambda other: AutoGuidance(0.0, weak=other), 10),
        (lambda other: APG(3.0, radius=1.0, beta=-0.5), 20),
        (lambda other: APG(1.0), 10),
        (lambda other: RLG(2.0, tuned=other), 20),
        (lambda other: RLG(2.0, tuned=other, guidance=3.0), 40),
        (lambda other: RLG(1.0, tuned=other, guidance=3.0), 20),
        (lambda other: RLG(0.0, tuned=other), 10),
    ],
)
def test_what_rules_cost(build: Build, calls: int) -> None:
    # Catches: an evaluation whose share is 0.
    counted = po.diffusion.Counted(MIXTURES)
    draw(build(po.diffusion.Counted(OTHERS, counted.meter)), counted, SHORT, po.DDIM())
    assert counted.meter.cost(4) == Cost(forward=calls)


@pytest.mark.parametrize("name", ["rescale", "cfgpp", "autoguidance", "apg"])
def test_two_evaluations_wherever_the_solver_makes_one(name: str) -> None:
    # Catches: an evaluation in `init`.
    counted = po.diffusion.Counted(MIXTURES)
    draw(EVERY[name](po.diffusion.Counted(OTHERS, counted.meter)), counted, SHORT, po.Heun())
    assert counted.meter.forward == 4 * 2 * (2 * 10 - 1)


@pytest.mark.parametrize("name", EVERY)
def test_a_rule_comes_back_from_its_repr(name: str) -> None:
    # Catches: a default that is no literal (inf), a network written into a record.
    rule = EVERY[name](OTHERS)
    kinds = {
        kind.__name__: kind
        for kind in (type(rule), po.diffusion.Velocity, po.schedules.LinearBetas)
    }
    again = rebuild(repr(rule), kinds)
    if name in {"autoguidance", "rlg"}:
        with pytest.raises(po.CapabilityError, match=r"\((weak|tuned)=denoiser\)"):
            again.check(po.Tilted(MIXTURES, LABEL, 1.0))
        again = replace(again, **{{"autoguidance": "weak", "rlg": "tuned"}[name]: OTHERS})
    assert again == rule
    for preset in getattr(rule, "presets", dict)().values():
        assert rebuild(repr(preset), kinds) == preset


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Rescale(phi=1.2), "phi is a share, from 0 to 1; phi=1.2."),
        (lambda: Interval(low=2.0, high=1.0), "low=2.0 and high=1.0"),
        (lambda: Interval(high=math.inf), "high=inf"),
        (lambda: CFGPlusPlus(0.6), r"set by lam.*CFGPlusPlus\(lam=0.6\)"),
        (lambda: CFGPlusPlus(lam=7.5), "lam is from 0 to 1; lam=7.5."),
        (lambda: CFGPlusPlus(eta=2.0), "eta is from 0 to 1; eta=2.0."),
        (lambda: ZeroStar(zero_init_steps=-1), "zero_init_steps=-1"),
        (lambda: APG(eta=-0.5), "eta=-0.5"),
        (lambda: APG(radius=0.0), "radius is above 0, or None for no limit; radius=0.0."),
        (lambda: APG(beta=-1.0), "beta=-1.0"),
        (lambda: RLG(guidance=-1.0), "guidance=-1.0"),
        (lambda: APG(-2.0), "weight=-2.0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    build: Callable[[], TiltedRule], sentence: str
) -> None:
    with pytest.raises(po.InputError, match=sentence):
        build()


WIDE = mixture(d=5)


@pytest.mark.parametrize(
    ("rule", "error", "sentence"),
    [
        (Rescale(0.5), po.InputError, "Rescale needs a weight of at least 1; weight=0.5"),
        (ZeroStar(0.5), po.InputError, "ZeroStar needs a weight of at least 1"),
        (APG(0.5), po.InputError, "APG needs a weight of at least 1; weight=0.5"),
        (AutoGuidance(), po.CapabilityError, r"needs a weaker model: AutoGuidance\(weak="),
        (AutoGuidance(weak=WIDE), po.ShapeError, r"weak model .* \(5,\).* \(4,\)"),
        (AutoGuidance(weak=po.Family(None, {1: WIDE})), po.InputError, "no member for Label"),
        (RLG(), po.CapabilityError, r"needs a tuned model: RLG\(tuned="),
        (RLG(tuned=WIDE), po.ShapeError, r"tuned model .* \(5,\).* \(4,\)"),
        (RLG(tuned=mixture(), guidance=3.0), po.InputError, "guidance=3.0 needs a conditional"),
        (ZeroStar(3.0, zero_init_steps=10), po.InputError, "leaves no step of 10"),
        (Rescale(3.0), po.CapabilityError, "no unconditional member"),
        (Interval(3.0), po.CapabilityError, "no unconditional member"),
        (CFGPlusPlus(), po.CapabilityError, "no unconditional member"),
        (ZeroStar(3.0), po.CapabilityError, "no unconditional member"),
        (APG(3.0), po.CapabilityError, "no unconditional member"),
        (RLG(tuned=OTHERS, guidance=2.0), po.CapabilityError, "no unconditional member"),
    ],
)
def test_what_cannot_be_sampled_is_refused_before_any_work(
    rule: TiltedRule, error: type[Exception], sentence: str
) -> None:
    # Catches: a failure in the middle of a run.
    alone = "unconditional" in sentence
    family = po.Family(None, {0: mixture()}) if alone else MIXTURES
    counted = po.diffusion.Counted(family)
    with pytest.raises(error, match=sentence):
        draw(rule, counted, SHORT, po.DDIM())
    assert counted.meter == Meter()


def test_models_without_an_unconditional_member_will_do_where_it_is_not_used() -> None:
    # Catches: a check that asks for more than the rule does.
    family = po.Family(None, {0: mixture()})
    target = po.Tilted(family, LABEL, 1.0)
    for rule in (AutoGuidance(2.0, weak=OTHERS), RLG(2.0, tuned=OTHERS)):
        rule.check(target)
