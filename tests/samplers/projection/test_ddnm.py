"""DDNM."""

from itertools import pairwise

import pytest
import torch

import posteria as po
from affine import Affine, Noise, Problem
from common.projection import (
    Directions,
    assert_same_law,
    general,
    law,
    vp,
)
from helpers import F64
from posteria.samplers.projection.ddnm import DDNM


def ddnm(p: Problem, levels: list[float], travel: int) -> Affine:
    """Equation 17 for each singular direction, with DDPM's posterior, in the paper's units."""
    at, noise = Directions(p), Noise()
    one = torch.ones(len(p.mean), dtype=F64)
    x = noise(vp(levels[0]) * levels[0] * p.eye)
    for sigma, after in pairwise(levels[:-1]):
        old, new = vp(sigma) ** 2, vp(after) ** 2
        beta = 1 - old / new
        a, b = new**0.5 * beta / (1 - old), (1 - beta) ** 0.5 * (1 - new) / (1 - old)
        spread = ((1 - new) / (1 - old) * beta) ** 0.5
        share = torch.where(spread >= a * at.level, 1.0, spread / (a * at.level))
        left = spread**2 - torch.where(at.level.isinf(), 0, a * share * at.level) ** 2
        for visit in range(travel):
            if visit:
                x = ((1 - beta) ** 0.5 * p.eye @ x) + noise(beta**0.5 * p.eye)
            x0 = p.denoise(old**-0.5 * p.eye @ x, sigma)
            x0 = (at.scale(one - share) @ x0).shift(at.towards(share))
            x = (a * p.eye @ x0) + (b * p.eye @ x) + noise(at.scale(left.clamp(min=0).sqrt()))
    return p.denoise(1 / vp(levels[-2]) * p.eye @ x, levels[-2])


@pytest.mark.parametrize("travel", [1, 3])
@pytest.mark.parametrize("problem", [general(), general(0.01)])
def test_ddnm_is_its_equations(problem: Problem, travel: int) -> None:
    # Catches: a coefficient of the clean estimate left at 1, noise that keeps its size, a visit
    # that starts from the clean estimate (the official code) and not from the iterate.
    sampler = DDNM(schedule=po.Karras(steps=8), eta=1.0, travel=travel)
    theirs = ddnm(problem, sampler.schedule.levels(), travel)
    assert_same_law(law(sampler, problem.target()), theirs)


def test_ddnm_reproduces_the_noise_of_the_measurement() -> None:
    # The failure that its docstring tells of: with many steps A x is y, where the posterior's A x
    # has a variance of its own.
    problem = general()
    found = law(DDNM(schedule=po.Karras(steps=200), eta=1.0, travel=1), problem.target())
    spread = problem.a @ found.covariance @ problem.a.mT
    exact = problem.a @ problem.posterior().covariance @ problem.a.mT
    assert (problem.a @ found.offset - problem.y).abs().max() < 0.2 * problem.std
    assert (spread.diagonal() < 0.05 * exact.diagonal()).all()
