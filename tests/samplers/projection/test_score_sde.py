"""ScoreSDE."""

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
from posteria.samplers.projection.score_sde import ScoreSDE


def score_sde(p: Problem, levels: list[float], relaxation: float, noisy: bool) -> Affine:
    """Replacement by what the forward process makes of the measurement, then DDPM."""
    at, noise = Directions(p), Noise()
    level = at.level if noisy else torch.where(at.level.isinf(), at.level, 0.0)

    def replace(x: Affine, sigma: float) -> Affine:
        weight = relaxation * (level <= sigma).double()
        spread = weight * (sigma**2 - level.clamp(max=sigma) ** 2).sqrt()
        x = (at.scale(1 - weight) @ x) + noise(at.scale(spread))
        return x.shift(at.towards(weight))

    x = noise(levels[0] * p.eye)
    for sigma, after in pairwise(levels):
        x = replace(x, sigma)
        x0, weight = p.denoise(x, sigma), after**2 / sigma**2
        x = ((1 - weight) * p.eye @ x0) + (weight * p.eye @ x)
        x = x + noise(after * (1 - weight) ** 0.5 * p.eye)
    return x if noisy else replace(x, 0.0)


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("relaxation", [1.0, 0.6])
def test_score_sde_is_replacement(relaxation: float, noisy: bool) -> None:
    # Catches: noise that is not divided by s where the papers divide A noise, a direction without
    # measurement that is replaced by 0, noise of the measurement counted twice.
    problem = general()
    sampler = ScoreSDE(
        schedule=po.Karras(steps=8), relaxation=relaxation, last=relaxation, noisy=noisy
    )
    theirs = score_sde(problem, sampler.schedule.levels(), relaxation, noisy)
    assert_same_law(law(sampler, problem.target()), theirs)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_score_sde_is_exact_where_prior_and_operator_share_directions(scale: float) -> None:
    problem = inpainting(scale, white=True)
    exact = problem.posterior()
    found = law(ScoreSDE(schedule=po.Karras(steps=300)), problem.target())
    std = exact.covariance.diagonal().sqrt()
    assert ((found.offset - exact.mean) / std).abs().max() < 0.05
    assert torch.allclose(found.covariance / std**2, torch.eye(4, dtype=F64), atol=0.08)


def test_score_sde_corrections_do_not_forget_the_measurement() -> None:
    # Catches: Langevin steps of the prior on directions that are no longer replaced, which take
    # them back to the prior (its variance is 3 times the posterior's, its mean 2 deviations off).
    problem = inpainting(white=True)
    exact = problem.posterior()
    sampler = ScoreSDE(schedule=po.Karras(steps=40), corrections=6, snr=0.3)
    x = sampler.sample(problem.target(), seeds=range(300))
    error = (x.mean(0) - exact.mean) / exact.covariance.diagonal().sqrt()
    assert error[::2].abs().max() < 0.3
