"""RePaint."""

from itertools import pairwise

import pytest
import torch

import posteria as po
from affine import Affine, Noise, Problem
from common.projection import (
    TEN,
    assert_same_law,
    inpainting,
    law,
    masked,
)
from helpers import normal
from posteria.metrics.distribution import sliced_wasserstein
from posteria.problems.toy import gmm25
from posteria.samplers.projection.repaint import RePaint
from posteria.testing import example_posterior


def repaint(p: Problem, levels: list[float], jump: int, repeats: int) -> Affine:
    """Algorithm 1 on the official list of times, in our coordinate."""
    noise, steps = Noise(), len(levels) - 1
    visits = dict.fromkeys(range(0, steps - jump, jump), repeats - 1)
    times, t = [steps - 1], steps - 1
    while t >= 0:
        t -= 1
        times.append(t)
        if visits.get(t, 0) > 0:
            visits[t] -= 1
            times += range(t + 1, t + jump + 1)
            t += jump
    seen = p.a.mT @ p.a
    x = noise(levels[0] * p.eye)
    for before, t in pairwise(times):
        sigma, after = levels[steps - 1 - before], levels[steps - 1 - t]
        if t > before:
            x = x + noise((after**2 - sigma**2) ** 0.5 * p.eye)
            continue
        x0, weight = p.denoise(x, sigma), after**2 / sigma**2
        spread = after * (1 - weight) ** 0.5
        free = ((1 - weight) * p.eye @ x0) + (weight * p.eye @ x) + noise(spread * p.eye)
        known = noise(after * p.eye).shift(p.a.mT @ p.y)
        x = (seen @ known) + ((p.eye - seen) @ free)
    return x


@pytest.mark.parametrize(("jump", "repeats"), [(1, 1), (1, 3), (3, 2), (4, 3)])
def test_repaint_is_its_algorithm(jump: int, repeats: int) -> None:
    # Catches: jumps counted from the noisy end, a jump that goes up by one level only, seen
    # entries that are noised to the level before the step.
    problem = inpainting()
    sampler = RePaint(schedule=po.Karras(steps=9), jump=jump, repeats=repeats)
    theirs = repaint(problem, sampler.schedule.levels(), jump, repeats)
    assert_same_law(law(sampler, masked(problem)), theirs)


def test_repaint_takes_the_measurement_for_exact() -> None:
    problem = inpainting()
    x = RePaint(schedule=TEN).sample(masked(problem), seeds=range(3))
    assert torch.equal(x[:, ::2], problem.y.expand(3, 2))


@pytest.mark.usefixtures("one_stream")
def test_repaint_finds_the_modes_of_an_inpainted_mixture() -> None:
    # Little noise, so that taking it for none does no harm. Catches: jumps that change nothing
    # (without them the distance is 2.0).
    problem = gmm25(8, 4, 0)
    prior = problem.target.prior
    assert isinstance(prior, po.GaussianMixture)
    mask = torch.tensor([1, 0, 0, 1, 0, 0, 1, 0])
    y = problem.truth[mask.bool()] + 0.05 * normal(3)
    likelihood = po.GaussianLikelihood(po.operators.Inpainting(mask), std=0.05)
    target = po.Posterior(prior, likelihood, y)
    exact = prior.posterior(target.likelihood, y).sample(200, torch.Generator().manual_seed(0))
    found = {}
    for repeats in (1, 10):
        x = RePaint(schedule=po.Karras(steps=50), repeats=repeats).sample(target, range(200))
        found[repeats] = sliced_wasserstein(x, exact)
    assert found[10] < 0.9 < 1.5 < found[1]


def test_repaint_refuses_a_matrix() -> None:
    with pytest.raises(po.CapabilityError, match="RePaint needs an Inpainting; this is a Matrix"):
        RePaint().sample(example_posterior(), seeds=[0])
