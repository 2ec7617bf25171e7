"""Dynamic CFG."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.adaptive import counted, last, leaky, sampler
from helpers import F64, normal
from posteria.diffusion.schedule import levels_of
from posteria.guidance.base import StepInfo, TiltedRule
from posteria.guidance.tilted.dynamic import DynamicCFG
from posteria.samplers.guided import GuidedState


def states(
    rule: TiltedRule, target: po.Tilted, seeds: range, steps: int = 20
) -> list[GuidedState]:
    return list(sampler(rule, steps).iterate(target, seeds))


# Dynamic CFG ------------------------------------------------------------------------------------


def test_dynamic_cfg_costs_two_evaluations_a_step() -> None:
    # Catches: a denoiser call for each candidate.
    toy, scores = leaky(), [0]

    def score(x: Tensor, sigma: float) -> Tensor:
        scores[0] += 1
        return toy.align(x, sigma)

    target, prior = counted(toy.target)
    last(DynamicCFG(evaluators=(score,)), target, range(3), steps=30)
    assert (prior.meter.forward, scores[0]) == (3 * 60, 5 * 30)


def test_dynamic_cfg_beats_every_static_weight_at_its_accuracy() -> None:
    # Catches: scores of the present state or of x_0 instead of the next state, a sign. guidance.md
    # 4.1, static: (.968, .176) at 3, (.997, .998) at 5; dynamic with both scores (.999, .287).
    toy = leaky()
    both, align, quality = (toy.align, toy.quality), (toy.align,), (toy.quality,)
    static = toy.judge(po.CFG(5.0))
    assert static[0] < 0.999
    assert 0.5 < static[1] < 1.0
    for shares in (None, (1.0, 1.0)):
        accuracy, gap = toy.judge(DynamicCFG(evaluators=both, shares=shares))
        assert accuracy >= 0.998
        assert gap < 0.8 * static[1]
    greedy = toy.judge(DynamicCFG(evaluators=align))
    assert greedy[0] > 0.999
    assert greedy[1] > 3.0
    assert toy.judge(DynamicCFG(evaluators=quality))[0] < 0.96


def test_dynamic_cfg_takes_the_best_next_state() -> None:
    # Catches: candidates that are scored at the level that is left, or a guided estimate that is
    # not the chosen candidate's.
    toy = leaky()
    rule = DynamicCFG(evaluators=(toy.quality,))
    x = levels_of(po.schedules.Table(steps=10))[0] * po.Rng(range(20)).normal(toy.target.space)
    chosen = set()
    for state, (sigma, sigma_next) in zip(
        states(rule, toy.target, range(20), 10),
        pairwise(levels_of(po.schedules.Table(steps=10))),
        strict=True,
    ):
        guesses = [replace(toy.target, weight=weight)(x, sigma) for weight in rule.weights]
        nexts = torch.stack([x0 + sigma_next / sigma * (x - x0) for x0 in guesses])
        best = toy.quality(nexts, sigma_next).argmax(0)
        torch.testing.assert_close(state.x, nexts[best, torch.arange(20)], rtol=0, atol=1e-10)
        chosen |= set(best.tolist())
        x = state.x
    assert chosen == set(range(5))


@pytest.mark.parametrize(
    ("earlier", "latest", "literal", "largest"),
    [
        # |1 - 3| / (3 + 1) = .5 against |9 - 8| / (8 + 1) = .11: the first evaluator has its way.
        ((3.0, 8.0), (1.0, 9.0), False, True),
        # |2.9 - 3| / 4 = .025 against .11: the second one.
        ((3.0, 8.0), (2.9, 9.0), False, False),
        # As written (1 - 3) / 3 < 0: the first evaluator is minimised.
        ((3.0, 8.0), (1.0, 8.1), True, False),
        # A negative score that has grown has a negative share as well.
        ((-3.0, 8.0), (-1.0, 8.1), True, False),
        # A change from 0 has no relative size; its share is 0, and the second one is minimised.
        ((0.0, 8.0), (5.0, 7.0), True, True),
        # Nothing has changed: all count the same, and the first evaluator's score is steeper.
        ((3.0, 8.0), (3.0, 8.0), False, True),
    ],
)
def test_the_evaluator_that_moves_decides(
    earlier: tuple[float, float], latest: tuple[float, float], literal: bool, largest: bool
) -> None:
    # Catches: shares from the wrong pair of scores, or the sign that the published formula lacks.
    toy = leaky()
    x = 3 * normal(1, 8, seed=3)
    direction = toy.target.conditional(x, 2.0) - toy.target.unconditional(x, 2.0)

    def along(z: Tensor, sigma: float) -> Tensor:
        return 1.1 * (z * direction).sum(-1)

    def against(z: Tensor, sigma: float) -> Tensor:
        return -(z * direction).sum(-1)

    rule = DynamicCFG(
        weights=(1.0, 3.0, 9.0), evaluators=(along, against), as_published=("literal",) * literal
    )
    memory = {
        "earlier": torch.tensor([earlier], dtype=F64),
        "latest": torch.tensor([latest], dtype=F64),
        "seen": torch.tensor([2]),
    }
    x0, after, _ = rule(toy.target, x, StepInfo(2.0, 1.0, 2, 5), memory)
    expected = replace(toy.target, weight=9.0 if largest else 1.0)(x, 2.0)
    torch.testing.assert_close(x0, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(after["earlier"], memory["latest"], rtol=0, atol=0)
    moved = x0 + (x - x0) / 2
    scores = torch.stack([along(moved, 1.0), against(moved, 1.0)], -1)
    torch.testing.assert_close(after["latest"], scores, rtol=1e-10, atol=1e-10)


def test_dynamic_cfg_with_one_weight_is_cfg() -> None:
    # Catches: a move that is not DDIM's, an extrapolation from the wrong member.
    toy = leaky()
    one = last(DynamicCFG(weights=(4.0,), evaluators=(toy.align,)), toy.target, range(8))
    torch.testing.assert_close(
        one.x, last(po.CFG(4.0), toy.target, range(8)).x, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("score", [float("nan"), -float("inf")])
def test_a_score_that_is_nan_or_infinite_chooses_nothing(score: float) -> None:
    # Catches: the greatest of scores, which to argmax is the one that is nan, as 0 times an infinite one is.
    rule = DynamicCFG(evaluators=(lambda x, sigma: x.flatten(1)[:, 0] * 0 + score,))
    with pytest.raises(po.InputError, match="score of an evaluator is nan"):
        sampler(rule, 4).sample(leaky().target, 2)
