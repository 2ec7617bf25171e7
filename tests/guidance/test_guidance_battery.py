"""The public battery over every registered rule and sampler of tilted laws."""

from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.battery import LEVELS, RULES, SAMPLERS, TARGET
from posteria.guidance.base import Estimate, Memory, StepInfo, TiltedRule
from posteria.testing import check_guidance, check_sampler


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
