"""Rules that extrapolate from one denoiser to another: closed forms, identities between them, cost, refusals."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import posteria as po
from common.guidance.linear import (
    LABEL,
    MIXTURES,
    OTHERS,
    SHORT,
    draw,
    iso,
    pair,
)
from helpers import F64, mixture
from posteria.core.meter import Cost, Meter
from posteria.core.settings import rebuild
from posteria.guidance.base import Pointwise, TiltedRule
from posteria.guidance.models.autoguidance import AutoGuidance
from posteria.guidance.models.rlg import RLG
from posteria.guidance.tilted.apg import APG
from posteria.guidance.tilted.cfgpp import CFGPlusPlus
from posteria.guidance.tilted.interval import Interval
from posteria.guidance.tilted.rescale import Rescale
from posteria.guidance.tilted.zero_star import ZeroStar


@pytest.mark.parametrize("rule", [ZeroStar(7.0, zero_init_steps=0), APG(7.0)])
def test_one_dimension_has_no_direction_to_guide_in(rule: TiltedRule) -> None:
    # Catches: a projection on the difference in place of a member; a norm over the batch.
    family = pair(iso(4.0), iso(1.0, 1.5))
    drawn = draw(rule, family, SHORT, po.Heun())
    torch.testing.assert_close(drawn, draw(po.CFG(1.0), family, SHORT, po.Heun()))


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
        (lambda: Rescale(phi=1.2), "phi of Rescale is from 0 to 1; 1.2 is not."),
        (lambda: Interval(low=2.0, high=1.0), "low=2.0 and high=1.0"),
        (lambda: Interval(high=math.inf), "high of Interval is above 0; inf is not"),
        (lambda: CFGPlusPlus(0.6), r"set by lam.*CFGPlusPlus\(lam=0.6\)"),
        (lambda: CFGPlusPlus(lam=7.5), "lam of CFGPlusPlus is from 0 to 1; 7.5 is not."),
        (lambda: CFGPlusPlus(eta=2.0), "eta of CFGPlusPlus is from 0 to 1; 2.0 is not."),
        (
            lambda: ZeroStar(zero_init_steps=-1),
            "zero_init_steps of ZeroStar is an integer, at least 0; -1 is not.",
        ),
        (lambda: APG(eta=-0.5), "eta of APG is from 0 to 1; -0.5 is not."),
        (lambda: APG(radius=0.0), "radius of APG is None, or above 0; 0.0 is not."),
        (lambda: APG(beta=-1.0), "beta of APG is above -1 and below 1; -1.0 is not."),
        (lambda: RLG(guidance=-1.0), "guidance of RLG is at least 0; -1.0 is not."),
        (lambda: APG(-2.0), "weight of APG is None, or at least 0; -2.0 is not."),
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
