"""Rules that decide or save at each step: AG, LinearAG, dynamic CFG, GFCG."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.adaptive import last, leaky, linear, sampler, sharp
from helpers import F64, normal
from posteria.diffusion.schedule import levels_of
from posteria.guidance.base import StepInfo, TiltedRule
from posteria.guidance.classifiers.classifier import BayesClassifier
from posteria.guidance.classifiers.gfcg import GFCG
from posteria.guidance.tilted.adaptive import AdaptiveGuidance
from posteria.guidance.tilted.dynamic import DynamicCFG
from posteria.guidance.tilted.linear_ag import LinearAG

# The same for all rules -------------------------------------------------------------------------


def all_rules() -> dict[str, tuple[TiltedRule, po.Tilted, int]]:
    """A rule of each kind, a target on which its samples take different ways, and the steps."""
    toy = leaky()
    evaluators = (toy.align, toy.quality)
    return {
        "ag": (AdaptiveGuidance(), sharp(), 20),
        "linear-ag": (
            LinearAG.fit(sharp(), po.schedules.Table(steps=20), range(900, 930)),
            sharp(),
            20,
        ),
        "dynamic": (DynamicCFG(evaluators=evaluators), toy.target, 10),
        "gfcg": (GFCG(classifier=toy.classifier, cfg=1.5), toy.target, 10),
    }


@pytest.mark.parametrize("name", ["ag", "linear-ag", "dynamic", "gfcg"])
def test_a_sample_does_not_know_its_batch(name: str) -> None:
    # Catches: one decision for a whole batch (a mean cosine, the argmax of summed scores, the
    # reference class of the first sample), or rows that are put back in another order.
    rule, target, steps = all_rules()[name]
    together = last(rule, target, range(16), steps)
    for seed in (0, 7, 15):
        alone = last(rule, target, range(seed, seed + 1), steps)
        torch.testing.assert_close(alone.x[0], together.x[seed], rtol=0, atol=1e-10)
        for key, value in alone.memory.items():
            torch.testing.assert_close(value[0], together.memory[key][seed], rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["ag", "linear-ag", "dynamic", "gfcg"])
def test_any_batch_shape(name: str) -> None:
    # Catches: rows of a flattened batch that are mixed up with particles.
    rule, target, steps = all_rules()[name]
    levels = levels_of(po.schedules.Table(steps=steps))
    x = levels[0] * normal(6, 8, seed=5)
    pair = x.reshape(2, 3, 8)
    memory, memory_pair = rule.init(target, x), rule.init(target, pair)
    for index, (sigma, following) in enumerate(pairwise(levels)):
        info = StepInfo(sigma, following, index, steps)
        x0, memory, _ = rule(target, x, info, memory)
        x0_pair, memory_pair, _ = rule(target, pair, info, memory_pair)
        torch.testing.assert_close(x0_pair, x0.reshape(2, 3, 8), rtol=0, atol=1e-10)
        x = x0 + following / sigma * (x - x0)
        pair = x0_pair + following / sigma * (pair - x0_pair)


@pytest.mark.parametrize("name", ["ag", "linear-ag", "dynamic"])
def test_memory_is_never_changed_in_place(name: str) -> None:
    # Catches: a run that was stopped and goes on from an earlier state with a later memory.
    rule, target, steps = all_rules()[name]
    kept: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    for state in sampler(rule, steps).iterate(target, range(3)):
        kept.append((state.memory, {key: value.clone() for key, value in state.memory.items()}))
    for now, then in kept:
        for key, value in then.items():
            torch.testing.assert_close(now[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["ag", "linear-ag"])
def test_rules_are_rebuilt_from_their_repr(name: str) -> None:
    # Catches: tensors in a rule, which a run's record cannot hold.
    rule = all_rules()[name][0]
    assert eval(repr(rule), {type(rule).__name__: type(rule)}) == rule


# Bad input --------------------------------------------------------------------------------------


class Word(po.diffusion.Condition):
    pass


def test_bad_input_is_refused_before_any_work() -> None:
    # Catches: a run that fails in its middle, or in a tensor's words.
    toy, target = leaky(), sharp()
    scores = (toy.align, toy.quality)
    lonely = po.Tilted(po.Family(None, {0: target.conditional}), po.Label(0), 1.0)
    half = po.Tilted(po.Family(toy.free, {0: toy.family.given(po.Label(0))}), po.Label(0), 3.0)
    worded = po.Tilted(po.Family(toy.free, {Word(): toy.free}), Word(), 3.0)
    far = po.Tilted(po.Family(toy.free, {7: toy.free}), po.Label(7), 3.0)
    small = BayesClassifier([law_of(2), law_of(2)])
    cases: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (po.InputError, "at least 1; weight=0.5", lambda: run(AdaptiveGuidance(0.5), target)),
        (po.CapabilityError, "no unconditional", lambda: run(AdaptiveGuidance(2.0), lonely)),
        (po.InputError, "threshold of AdaptiveGuidance", lambda: AdaptiveGuidance(threshold=0)),
        (
            po.InputError,
            "at least 1; weight=0.5",
            lambda: run(replace(linear(), weight=0.5), target),
        ),
        (po.CapabilityError, "needs evaluators", lambda: run(DynamicCFG(), target)),
        (
            po.CapabilityError,
            "no unconditional",
            lambda: run(DynamicCFG(evaluators=scores), lonely),
        ),
        (po.InputError, "weight=2.0 has no part", lambda: DynamicCFG(2.0, evaluators=scores)),
        (po.InputError, "weights=", lambda: DynamicCFG(weights=())),
        (po.InputError, "floor of DynamicCFG", lambda: DynamicCFG(floor=0)),
        (po.InputError, "one for each of 2", lambda: DynamicCFG(evaluators=scores, shares=(1.0,))),
        (
            po.InputError,
            "shares are finite",
            lambda: DynamicCFG(evaluators=scores, shares=(1.0, float("nan"))),
        ),
        (
            po.ShapeError,
            r"one score a sample, \(1,\); one gave \(\)",
            lambda: run(DynamicCFG(evaluators=(lambda x, sigma: 1.0,)), target),  # type: ignore[arg-type,return-value]
        ),
        (po.InputError, "not both", lambda: DynamicCFG(shares=(), as_published=("literal",))),
        (
            po.ShapeError,
            r"one score a sample, \(1,\)",
            lambda: run(DynamicCFG(evaluators=(lambda x, sigma: x,)), target),
        ),
        (po.CapabilityError, "GFCG needs a classifier", lambda: run(GFCG(), toy.target)),
        (
            po.CapabilityError,
            "needs a Label",
            lambda: run(GFCG(classifier=toy.classifier), worded),
        ),
        (po.InputError, "labels 0 to 2; 7", lambda: run(GFCG(classifier=toy.classifier), far)),
        (po.InputError, "no member for", lambda: run(GFCG(classifier=toy.classifier), half)),
        (
            po.ShapeError,
            r"sees signals of shape \(2,\)",
            lambda: run(GFCG(classifier=small), target),
        ),
        (
            po.InputError,
            "at least 1; weight=0.5",
            lambda: run(GFCG(0.5, classifier=toy.classifier), toy.target),
        ),
        (po.InputError, "power of GFCG", lambda: GFCG(power=-1)),
        (po.InputError, "cfg of GFCG", lambda: GFCG(cfg=-1)),
    ]
    for error, words, act in cases:
        with pytest.raises(error, match=words):
            act()


def law_of(d: int) -> po.Gaussian:
    return po.Gaussian(torch.zeros(d, dtype=F64), torch.eye(d, dtype=F64))


def run(rule: TiltedRule, target: po.Tilted) -> Tensor:
    return sampler(rule).sample(target, [0])
