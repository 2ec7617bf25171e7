"""LinearAG."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.adaptive import MANY, last, linear, metered, rms, sampler, sharp
from helpers import F64, normal
from posteria.diffusion.kernel import reverse_step
from posteria.diffusion.schedule import levels_of
from posteria.guidance.tilted.linear_ag import LinearAG, predictions


@pytest.mark.parametrize(("share", "calls"), [(0.5, 25), (1.0, 30), (0.0, 20)])
def test_linear_ag_costs(share: float, calls: int) -> None:
    # Catches: an unconditional member that is evaluated where its estimate is used.
    assert metered(linear(share), sharp(), range(2))[1].forward == calls


def test_linear_ag_predicts_along_trajectories_that_it_has_not_seen() -> None:
    # Catches: coefficients in another order than the regressors, or a fit in x_0 space, in which
    # the levels have other scales. guidance.md 3.2.
    rule, target = linear(), sharp()
    given, free = predictions(target, levels_of(po.schedules.Table(steps=20)), range(MANY), 3.0)
    for level in range(1, rule.guided, 2):
        estimate = rule.estimate(given[:, : level + 1], free[:, :level], level)
        truth = free[:, level]
        error, naive = (rms(z - truth) / rms(truth) for z in (estimate, given[:, level]))
        assert error**2 < 1e-4
        assert error < 0.2 * naive


def truncated(target: po.Tilted, seeds: range, weights: list[float]) -> Tensor:
    """DDIM with another weight of CFG at each step."""
    levels = levels_of(po.schedules.Table(steps=len(weights)))
    rng = po.Rng(seeds)
    x = levels[0] * rng.normal(target.space)
    for weight, (sigma, sigma_next) in zip(weights, pairwise(levels), strict=True):
        x0 = replace(target, weight=weight)(x, sigma)
        x = reverse_step(x, x0, sigma, sigma_next, 0.0, rng)
    return x


def test_linear_ag_stays_near_the_rule_that_it_estimates() -> None:
    # Catches: an explosion of the estimates that are their own regressors (rms 7 to 1000 without a
    # ridge). Most of the distance to CFG is due to the conditional rest (guidance.md 3.2: .39).
    target, seeds = sharp(), range(MANY)
    x = last(linear(), target, seeds).x
    assert rms(x - last(po.CFG(), target, seeds).x) < 0.5
    assert rms(x - truncated(target, seeds, [3.0] * 10 + [1.0] * 10)) < 0.1
    naive = truncated(target, seeds, [3.0, 1.0] * 5 + [1.0] * 10)
    assert rms(naive - truncated(target, seeds, [3.0] * 10 + [1.0] * 10)) > 0.5
    whole = last(linear(1.0), target, seeds).x
    assert rms(whole - last(po.CFG(), target, seeds).x) < 0.05


def test_linear_ag_is_exact_where_the_members_are_linear() -> None:
    # Catches: a level that is missing from the memory or the fit. With isotropic Gaussians every
    # prediction is a combination of the first x and the mean, which two regressors span.
    eye = torch.eye(4, dtype=F64)
    family = po.Family(
        po.Gaussian(torch.zeros(4, dtype=F64), 4 * eye),
        {0: po.Gaussian(normal(4, seed=1), 0.5 * eye)},
    )
    target, schedule = po.Tilted(family, po.Label(0), 2.5), po.Karras(steps=12, sigma_max=20.0)
    rule = LinearAG.fit(target, schedule, range(50), share=1.0, ridge=1e-13)
    runs = (
        po.Guided(rule=one, solver=po.DDIM(), schedule=schedule).sample(target, range(90, 100))
        for one in (rule, po.CFG())
    )
    torch.testing.assert_close(*runs, rtol=0, atol=1e-4)


def test_the_fit_does_not_depend_on_its_batches() -> None:
    # Catches: the last batch in place of all of them.
    target, schedule = sharp(), po.schedules.Table(steps=20)
    whole, parts = (
        LinearAG.fit(target, schedule, range(1000, 1060), batch=size) for size in (60, 25)
    )
    for a, b in zip(whole.of_unconditional, parts.of_unconditional, strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_linear_ag_refuses_what_it_was_not_fitted_to() -> None:
    # Catches: coefficients of one level used at another, without a word.
    target = sharp()
    with pytest.raises(po.InputError, match=r"fitted to 20 steps and this schedule has 10; fit"):
        sampler(linear(), 10).sample(target, [0])
    other = po.Karras(steps=20)
    with pytest.raises(po.InputError, match="fitted to other levels"):
        po.Guided(rule=linear(), solver=po.DDIM(), schedule=other).sample(target, [0])
    with pytest.raises(po.InputError, match=r"needs a solver of one evaluation a step.*DDIM"):
        po.Guided(rule=linear(), solver=po.Heun(), schedule=po.schedules.Table(steps=20)).sample(
            target, [0]
        )
    with pytest.raises(po.InputError, match=r"take LinearAG\.fit\(target, schedule\)"):
        sampler(LinearAG()).sample(target, [0])
    with pytest.raises(po.InputError, match="coefficients do not fit guided=6"):
        replace(linear(), guided=6)
    with pytest.raises(po.InputError, match="ridge above 0"):
        LinearAG.fit(target, po.schedules.Table(steps=20), ridge=0.0)
    with pytest.raises(po.InputError, match="at least one seed"):
        LinearAG.fit(target, po.schedules.Table(steps=20), [])
    with pytest.raises(po.InputError, match="batch is an integer of at least 1; 0"):
        LinearAG.fit(target, po.schedules.Table(steps=20), 4, batch=0)
    with pytest.raises(po.InputError, match="from 0 to 1; 2"):
        LinearAG.fit(target, po.schedules.Table(steps=20), share=2)
    lonely = po.Tilted(po.Family(None, {0: target.conditional}), po.Label(0), 1.0)
    with pytest.raises(po.CapabilityError, match="no unconditional member"):
        LinearAG.fit(lonely, po.schedules.Table(steps=20), weight=3.0)
    with pytest.raises(po.CapabilityError, match=r"LinearAG.fit needs a Tilted; this is a"):
        LinearAG.fit(target.conditional, po.schedules.Table(steps=20))  # type: ignore[arg-type]
    with pytest.raises(po.InputError, match="weight of LinearAG is None, or at least 0; '3'"):
        LinearAG.fit(target, po.schedules.Table(steps=20), weight="3")  # type: ignore[arg-type]
