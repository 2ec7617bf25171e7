"""DiffPIR."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

import posteria as po
from affine import Affine, Noise, Problem
from common.projection import (
    assert_same_law,
    general,
    law,
    vp,
)
from helpers import F64
from posteria.samplers.splitting.diffpir import DiffPIR


def diffpir(p: Problem, levels: list[float], weight: float, zeta: float, std: Tensor) -> Affine:
    """Algorithm 1, in the paper's units."""
    noise, precision = Noise(), torch.diag(std**-2)
    x = noise(vp(levels[0]) * levels[0] * p.eye)
    for sigma, after in pairwise(levels):
        rho = weight * vp(sigma) ** 2 / (1 - vp(sigma) ** 2)
        solve = (p.a.mT @ precision @ p.a + rho * p.eye).inverse()
        x0 = p.denoise(1 / vp(sigma) * p.eye @ x, sigma)
        x0 = (rho * solve @ x0).shift(solve @ p.a.mT @ precision @ p.y)
        if after == 0:
            break
        root, root_next = (1 - vp(sigma) ** 2) ** 0.5, (1 - vp(after) ** 2) ** 0.5
        old = (1 / root * p.eye @ x) + (-vp(sigma) / root * p.eye @ x0)
        x = (vp(after) * p.eye @ x0) + ((1 - zeta) ** 0.5 * root_next * p.eye @ old)
        x = x + noise(zeta**0.5 * root_next * p.eye)
    return x0


def with_std(p: Problem, operator: po.operators.Operator, std: float | Tensor) -> po.Posterior:
    return po.Posterior(
        po.Gaussian(p.mean, p.covariance), po.GaussianLikelihood(operator, std=std), p.y
    )


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
def test_diffpir_is_its_algorithm(zeta: float) -> None:
    # Catches: rho with sigma in the place of its square, the old noise taken from the clean
    # estimate before the proximal step, a solve by conjugate gradients that is another one.
    p, a = general(), general().a
    sampler = DiffPIR(schedule=po.Karras(steps=8), weight=2.0, zeta=zeta)
    levels = sampler.schedule.levels()
    several = torch.tensor([0.3, 0.9], dtype=F64)
    free = po.operators.LinearFunction(lambda x: x @ a.mT, po.Space((4,), F64))
    for std in (torch.full((2,), p.std, dtype=F64), several):
        theirs = diffpir(p, levels, 2.0, zeta, std)
        for operator in (po.operators.Matrix(a), free):
            assert_same_law(law(sampler, with_std(p, operator, std)), theirs)
    one = law(sampler, with_std(p, po.operators.Matrix(a), p.std))
    assert_same_law(one, diffpir(p, levels, 2.0, zeta, torch.full((2,), p.std, dtype=F64)))


def test_diffpir_gradient_steps_solve_the_proximal_problem() -> None:
    # A linear map that does not say so: many gradient steps are the exact solve. Catches: a step
    # length that diverges at high levels, as the published one does.
    p = general(0.1)
    a = p.a
    hidden = po.operators.Function(lambda x: x @ a.mT, po.Space((4,), F64))
    sampler = DiffPIR(schedule=po.Karras(steps=5), inner=400)
    exact = sampler.sample(p.target(), seeds=[0, 1])
    assert torch.allclose(sampler.sample(with_std(p, hidden, p.std), [0, 1]), exact, atol=1e-3)
    few = DiffPIR(schedule=po.Karras(steps=40), inner=1).sample(with_std(p, hidden, p.std), [0])
    assert few.isfinite().all()
