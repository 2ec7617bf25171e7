"""DCPS."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import posteria as po
from affine import Affine, Noise, Problem, collapse, mean_field
from common.theory import assert_same_law, small_problem
from helpers import F64, gaussian, linear_posterior, normal
from posteria.core.rng import Rng
from posteria.samplers.fitted.dcps import DCPS


def dcps_laws(p: Problem, schedule: po.schedules.Schedule, blocks: int, s: float) -> list[Affine]:
    """The laws of DCPS' iterates without Langevin steps, in matrices."""
    noise, levels = Noise(), schedule.levels()
    ends = [schedule.steps * k // blocks for k in range(1, blocks + 1)]
    x, laws = noise(levels[0] * p.eye), []
    for k, (sigma, lower) in enumerate(pairwise(levels[:-1])):
        tau = levels[min(end for end in ends if end > k)]
        weight = (lower / sigma) ** 2
        mean = ((1 - weight) * p.eye @ p.denoise(x, sigma)) + (weight * p.eye @ x)
        jump = (tau / lower) ** 2
        spread = p.spread(lower)
        seen = p.a @ ((1 - jump) * spread / lower**2 + jump * p.eye)
        rest = p.y - (1 - jump) * p.a @ spread @ p.covariance.inverse() @ p.mean
        variance = p.std**2 * (1 + (tau / s) ** 2)
        x = mean_field(
            mean,
            p.eye / (lower**2 * (1 - weight)),
            seen.mT @ rest / variance,
            noise,
            seen.mT @ seen / variance,
        )
        (x,) = collapse(noise, x)
        laws.append(x)
    return [*laws, p.denoise(x, levels[-2])]


@pytest.mark.usefixtures("one_stream")
def test_dcps_has_the_law_that_its_formulas_imply() -> None:
    # After each step, because a block forgets those before it. Catches: the wrong block, a jump
    # with the weights exchanged, a noise level that does not grow with tau or not in units of the
    # prior, a derivative of the jump that forgets the part past the denoiser.
    problem = small_problem()
    schedule = po.schedules.LogLinear(steps=6, sigma_min=0.2, sigma_max=6.0)
    sampler = DCPS(schedule=schedule, blocks=2, langevin=0, inner=150, lr=0.02, prior_std=0.5)
    states = sampler.iterate(problem.target(), range(1000))
    for state, law in zip(states, dcps_laws(problem, schedule, 2, 0.5), strict=True):
        assert_same_law(state.x, law, slack=0.04)


@pytest.mark.filterwarnings("ignore:.*starts from noise:RuntimeWarning")
@pytest.mark.usefixtures("one_stream")
def test_dcps_langevin_steps_sample_the_block_s_posterior() -> None:
    # Many small steps at the level 1.5 and no fit, so that what follows is known. Catches: a score of
    # the wrong level, a factor of the paper's coordinate, a likelihood of x and not of its jump.
    p, (sigma, lower) = small_problem(), (1.5, 0.7)
    sampler = DCPS(
        schedule=po.schedules.LogLinear(steps=2, sigma_min=lower, sigma_max=sigma),
        blocks=1,
        langevin=400,
        inner=0,
        prior_std=1.0,
    )
    x = sampler.sample(p.target(), range(1500))
    extra, weighted = p.guide(sigma)
    prior = (p.covariance + sigma**2 * p.eye).inverse()
    covariance = (prior + extra).inverse()
    noise = Noise()
    law = noise(torch.linalg.cholesky(covariance)).shift(covariance @ (prior @ p.mean + weighted))
    weight = (lower / sigma) ** 2
    law = ((1 - weight) * p.eye @ p.denoise(law, sigma)) + (weight * p.eye @ law)
    law = law + noise(lower * math.sqrt(1 - weight) * p.eye)
    assert_same_law(x, p.denoise(law, lower), slack=0.06)


def test_dcps_steps_along_the_gradient_have_their_length() -> None:
    # Catches: a norm over the batch, or over single entries; steps in the wrong unit.
    target = linear_posterior(gaussian())
    sampler = DCPS(inner=1, lr=0.3, adam=False)
    center = normal(5, 4)
    fitted = sampler._descend(lambda x: 5 - x, center, 0.7, 2.0, target.space, Rng(range(5)))
    assert torch.allclose((fitted.mean - center).norm(dim=1), torch.full((5,), 0.6, dtype=F64))
    assert isinstance(fitted.std, Tensor)
    moved = fitted.std.log() - math.log(0.7)
    assert torch.allclose(moved.norm(dim=1), torch.full((5,), 0.3, dtype=F64))
