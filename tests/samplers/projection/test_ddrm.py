"""DDRM."""

from itertools import pairwise

import pytest
import torch

import posteria as po
from affine import Affine, Noise, Problem
from common.projection import (
    Directions,
    assert_same_law,
    general,
    inpainting,
    law,
)
from helpers import F64
from posteria.samplers.projection.ddrm import DDRM


def ddrm(p: Problem, levels: list[float], eta: float, eta_b: float, eta_c: float) -> Affine:
    """The three cases of the paper, which has our coordinate."""
    at, noise = Directions(p), Noise()
    clear = at.level <= levels[0]
    start = torch.where(clear, levels[0] ** 2 - at.level**2, levels[0] ** 2).sqrt()
    x = noise(at.scale(start)).shift(at.towards(clear.double()))
    for sigma, after in pairwise(levels[:-1]):
        x0 = p.denoise(x, sigma)
        clean, old, data, fresh = (torch.zeros(len(p.mean), dtype=F64) for _ in range(4))
        for i, level in enumerate(at.level.tolist()):
            if level == float("inf"):
                old[i], fresh[i] = (1 - eta_c**2) ** 0.5 * after / sigma, eta_c * after
                clean[i] = 1 - old[i]
            elif level > after:
                data[i], fresh[i] = (1 - eta**2) ** 0.5 * after / level, eta * after
                clean[i] = 1 - data[i]
            else:
                data[i], clean[i] = eta_b, 1 - eta_b
                fresh[i] = (after**2 - eta_b**2 * level**2) ** 0.5
        x = (at.scale(clean) @ x0) + (at.scale(old) @ x) + noise(at.scale(fresh))
        x = x.shift(at.towards(data))
    return p.denoise(x, levels[-2])


@pytest.mark.parametrize("etas", [(0.85, 1.0, 0.85), (1.0, 1.0, 1.0), (0.4, 0.7, 0.2)])
@pytest.mark.parametrize("problem", [general(), general(0.01), inpainting(white=True)])
def test_ddrm_is_its_equations(problem: Problem, etas: tuple[float, float, float]) -> None:
    # Catches: noise divided by sqrt(2), as in a well-known library; a comparison of std / s with
    # the level before the step; the noise of one case given to another.
    eta, eta_b, eta_c = etas
    sampler = DDRM(schedule=po.Karras(steps=8), eta=eta, eta_b=eta_b, eta_c=eta_c)
    assert_same_law(
        law(sampler, problem.target()), ddrm(problem, sampler.schedule.levels(), *etas)
    )


def test_ddrm_where_nothing_is_measured_by_fresh_noise_alone() -> None:
    # With eta = 1 on white noise of variance 1 a direction is, level after level, x0 = (x0' +
    # sigma n) / (1 + sigma^2): the prior's variance is not kept. Catches: an ancestral step there.
    problem = inpainting(white=True)
    sampler = DDRM(schedule=po.Karras(steps=30), eta=1.0, eta_c=1.0)
    sigmas = sampler.schedule.levels()[:-1]
    variance = sigmas[0] ** 2 / (1 + sigmas[0] ** 2) ** 2
    for sigma in sigmas[1:]:
        variance = (variance + sigma**2) / (1 + sigma**2) ** 2
    found = law(sampler, problem.target()).covariance.diagonal()
    assert torch.allclose(found[1::2], torch.tensor(variance, dtype=F64), rtol=1e-8)
    assert variance < 0.6
