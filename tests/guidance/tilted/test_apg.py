"""APG."""

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.linear import LABEL, MIXTURES, SHORT, draw, iso, pair
from helpers import F64
from posteria.guidance.base import StepInfo
from posteria.guidance.tilted.apg import APG


def info(sigma: float = 0.8, following: float = 0.5, index: int = 3) -> StepInfo:
    return StepInfo(sigma, following, index, steps=10)


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


def test_no_limit_is_an_infinite_radius() -> None:
    # Catches: infinity over infinity.
    target = po.Tilted(MIXTURES, LABEL, 6.0)
    x = po.Rng(range(5)).normal(target.space)
    free, limited = (
        APG(radius=radius)(target, x, info(), {}).x0 for radius in (None, float("inf"))
    )
    assert torch.equal(free, limited)
