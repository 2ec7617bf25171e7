"""The public battery over every registered rule and sampler of tilted laws."""

from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from posteria.guidance.base import Estimate, Memory, StepInfo, TiltedRule
from posteria.testing import check_guidance, check_sampler, example_tilted

TARGET = example_tilted()
LEVELS = po.Karras(steps=12)


def rules(target: po.Tilted) -> dict[str, TiltedRule]:
    """One of each, with the models of a target."""
    laws = [target.prior.given(po.Label(k)) for k in range(3)]
    exact = po.guidance.BayesClassifier([
        law for law in laws if isinstance(law, po.GaussianMixture)
    ])
    clean = po.guidance.CleanClassifier(lambda x: exact(x), target.space, 3)
    return {
        "cfg": po.CFG(3.0),
        "rescale": po.guidance.Rescale(3.0),
        "interval": po.guidance.Interval(3.0, low=0.3, high=3.0),
        "cfgpp": po.guidance.CFGPlusPlus(lam=0.6),
        "zero_star": po.guidance.ZeroStar(3.0),
        "apg": po.APG(5.0, eta=0.2, radius=1.0, beta=-0.5),
        "autoguidance": po.guidance.AutoGuidance(1.7, weak=laws[1]),
        "rlg": po.guidance.RLG(1.7, tuned=laws[1]),
        "ag": po.guidance.AdaptiveGuidance(threshold=0.99),
        "linear_ag": po.guidance.LinearAG.fit(target, LEVELS, range(900, 930)),
        "dynamic": po.guidance.DynamicCFG(
            evaluators=(lambda x, sigma: exact.log_prob(0, x, sigma),)
        ),
        "gfcg": po.guidance.GFCG(classifier=exact),
        "two_level": po.guidance.TwoLevel(delta=0.5),
        "classifier": po.guidance.ClassifierGuidance(2.0, classifier=exact),
        "elucd": po.guidance.EluCD(2.0, classifier=clean, base="conditional"),
    }


RULES = rules(TARGET)
SAMPLERS: dict[str, po.samplers.Sampler[Any]] = {
    "guided": po.Guided(schedule=LEVELS),
    "guided apg": po.Guided(schedule=LEVELS, rule=po.APG(3.0, beta=-0.5)),
    "cfgig": po.CFGiG(schedule=po.Karras(steps=14, sigma_min=0.02), initial=6),
    "tilted": po.TiltedGibbs(schedule=po.schedules.LogLinear(steps=10), particles=16),
    "tilted rounds": po.TiltedGibbs(
        schedule=po.schedules.LogLinear(steps=6), particles=8, rounds=1, round_steps=4, dense=0
    ),
    "tilted alone": po.TiltedGibbs(
        schedule=po.Karras(steps=8), particles=1, rounds=2, round_steps=4, dense=6
    ),
}


def test_every_registered_one_is_here() -> None:
    assert set(RULES) == set(po.guidance.RULES)
    assert all(type(rule) is po.guidance.RULES[name] for name, rule in RULES.items())
    assert {name.split()[0] for name in SAMPLERS} == set(po.samplers.TILTED_SAMPLERS)


@pytest.mark.parametrize("name", RULES)
def test_battery_of_rules(name: str) -> None:
    check_guidance(RULES[name], TARGET, schedule=LEVELS)


@pytest.mark.parametrize("name", SAMPLERS)
def test_battery_of_samplers(name: str) -> None:
    check_sampler(SAMPLERS[name], TARGET, batches=(1, 16, 64))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_comes_back_from_its_repr_but_for_its_models(name: str) -> None:
    # Catches: a rule that the registry does not know, or whose fields are no literals, so that a run
    # cannot be repeated from its record.
    rule = po.guidance.RULES[name]()
    sampler = po.Guided(rule=rule, schedule=LEVELS)
    assert po.samplers.rebuild_sampler(repr(sampler)) == sampler
    for preset in po.guidance.RULES[name].presets().values():
        again = po.samplers.rebuild_sampler(repr(po.Guided(rule=preset)))
        assert isinstance(again, po.Guided)
        kept = [f.name for f in fields(preset) if f.repr]
        assert all(getattr(again.rule, key) == getattr(preset, key) for key in kept)


@dataclass(frozen=True)
class Coupled(po.CFG):
    """Guidance with one norm over the whole batch."""

    def at(self, target: po.Tilted, x: Tensor, sigma: float | Tensor) -> Tensor:
        return super().at(target, x, sigma) * (1 + 1e-4 * x.norm())


@dataclass(frozen=True)
class Careless(TiltedRule):
    """A memory that is changed in place."""

    def init(self, target: po.Tilted, x: Tensor) -> Memory:
        return {"sum": torch.zeros_like(x)}

    def __call__(self, target: po.Tilted, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        memory["sum"] += x
        return Estimate(target.conditional(x, info.sigma), memory)


def test_the_battery_finds_planted_bugs() -> None:
    with pytest.raises(AssertionError, match="depends on its batch"):
        check_guidance(Coupled(2.0), TARGET)
    with pytest.raises(AssertionError, match="in place"):
        check_guidance(Careless(), TARGET)
