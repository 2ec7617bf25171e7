"""Adaptive guidance."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.adaptive import (
    MANY,
    counted,
    last,
    metered,
    rms,
    sharp,
)
from helpers import F64, normal
from posteria.core.meter import Cost
from posteria.guidance.base import StepInfo
from posteria.guidance.tilted.adaptive import AdaptiveGuidance

# Adaptive guidance ------------------------------------------------------------------------------


def test_adaptive_guidance_saves_what_it_claims() -> None:
    # Catches: a threshold that compares D instead of the noise predictions, and the rule that ends
    # at the first step because the cosine starts at 1. guidance.md 3.1: 35.2 evaluations and .0023
    # at .991, 32.5 and .0010 at .999, 21 and 1.31 unarmed.
    target, seeds = sharp(), range(MANY)
    reference = last(po.CFG(), target, seeds).x
    (armed, cost), (strict, of_strict), (literal, of_literal) = (
        metered(rule, target, seeds)
        for rule in (
            AdaptiveGuidance(),
            AdaptiveGuidance(threshold=0.999),
            AdaptiveGuidance(armed=False),
        )
    )
    assert 33 < cost.forward <= 36
    assert rms(armed.x - reference) <= 0.01
    assert 31 < of_strict.forward <= 34
    assert rms(strict.x - reference) <= 0.005
    assert of_literal.forward == 21
    assert rms(literal.x - reference) > 0.5


class Scripted(po.Denoiser):
    """A denoiser whose noise prediction points into a given direction at each level."""

    def __init__(self, angle: Callable[[float], float]) -> None:
        self.space = po.Space((2,), F64)
        self.angle = angle

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        angle = self.angle(float(sigma))
        return x - sigma * torch.tensor([math.cos(angle), math.sin(angle)], dtype=F64)


@pytest.mark.parametrize(
    ("armed", "calls"), [(True, [2, 4, 6, 8, 9, 10]), (False, [2, 3, 4, 5, 6, 7])]
)
def test_adaptive_guidance_ends_after_the_first_agreement_that_follows_a_disagreement(
    armed: bool, calls: list[int]
) -> None:
    # Catches: a rule that ends one step early or late, starts again when the members part again,
    # or drops the guided estimate of the step at which it ends, which is paid for.
    cosines = [0.999, 0.95, 0.98, 0.995, 0.9, 0.999]
    family = po.Family(
        Scripted(lambda sigma: math.acos(cosines[6 - round(sigma)])), {0: Scripted(lambda _: 0.0)}
    )
    target, rule = po.Tilted(family, po.Label(0), 3.0), AdaptiveGuidance(armed=armed)
    watched, prior = counted(target)
    x = normal(1, 2)
    memory = rule.init(target, x)
    for index in range(6):
        sigma = 6.0 - index
        info = StepInfo(sigma, sigma - 1, index, 6)
        x0, memory, _ = rule(watched, x, info, memory)
        before = calls[index - 1] if index else 0
        plain = target.conditional(x, sigma)
        expected = target(x, sigma) if calls[index] - before == 2 else plain
        torch.testing.assert_close(x0, expected, rtol=0, atol=1e-14)
        assert prior.meter.forward == calls[index]


def test_adaptive_guidance_counts_what_each_sample_costs() -> None:
    # Catches: a saving on paper only, where the unconditional member still sees the whole batch.
    class Rows(po.Denoiser):
        def __init__(self, prior: po.Denoiser) -> None:
            self.prior, self.space, self.rows = prior, prior.space, 0

        def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            self.rows += len(x)
            return self.prior(x, sigma)

    target = sharp()
    free, given = Rows(target.unconditional), Rows(target.conditional)
    watched = po.Tilted(po.Family(free, {0: given}), po.Label(0), 3.0)
    _, whole = metered(AdaptiveGuidance(), watched, range(16))
    each = [metered(AdaptiveGuidance(), target, range(i, i + 1))[1].forward for i in range(16)]
    assert len(set(each)) > 3
    assert 16 * whole.forward == sum(each)
    assert (given.rows, free.rows) == (16 * 20, sum(each) - 16 * 20)


def test_adaptive_guidance_with_weight_one_costs_one_evaluation() -> None:
    # Catches: an unconditional member that is asked for and given no share.
    assert metered(AdaptiveGuidance(weight=1.0), sharp(), range(2))[1] == Cost(forward=20)
