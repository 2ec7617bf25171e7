"""MMPS."""

import math
from itertools import pairwise
from typing import Literal

import pytest
import torch

import posteria as po
from common.moment_matching import correlated, estimate, exact
from helpers import F64, normal
from posteria.samplers.ruled import MMPS


def white(s0: float, d: int = 8) -> po.Posterior:
    """N(0, s0^2) seen in half of its entries."""
    prior = po.Gaussian(torch.zeros(d, dtype=F64), s0**2 * torch.eye(d, dtype=F64))
    likelihood = po.GaussianLikelihood(
        po.operators.Inpainting(torch.arange(d) < d // 2), std=s0 / 2
    )
    return po.Posterior(prior, likelihood, s0 * normal(d // 2, seed=4))


def test_second_order_keeps_the_variance() -> None:
    # The law of a Gaussian after 200 steps, by its recursion: an estimate is c x, c the same for all
    # samples, and so is the last one. Catches: a default that loses 5 % of the variance.
    ratio = {}
    for order in (1, 2):
        schedule = po.Karras(steps=200)
        levels, s = schedule.levels(), 0.5
        # x and the last estimate, as coefficients of independent normals.
        own, last = [levels[0]], [0.0]
        for k, (sigma, after) in enumerate(pairwise(levels)):
            estimate = [s**2 / (s**2 + sigma**2) * v for v in own]
            goal = estimate
            if order == 2 and k > 0 and after > 0:
                half = math.log(sigma / after) / math.log(levels[k - 1] / sigma) / 2
                goal = [e + half * (e - p) for e, p in zip(estimate, last, strict=True)]
            weight = (after / sigma) ** 2
            own = [g + weight * (v - g) for g, v in zip(goal, own, strict=True)]
            own.append(after * math.sqrt(1 - weight))
            last = [*estimate, 0.0]
        ratio[order] = sum(v**2 for v in own) / s**2
    assert 0.92 < ratio[1] < 0.96
    assert 0.985 < ratio[2] < 1.015


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("problem", [white(1.0), white(0.25), correlated(), correlated(0.25)])
def test_defaults_of_mmps_are_exact_on_gaussians(problem: po.Posterior) -> None:
    # 6000 samples have 0.007 to 0.011 and 0.991 to 1.005. Catches: a schedule or a stopping rule
    # that knows the scale of the data.
    x, law = MMPS().sample(problem, seeds=range(800)), exact(problem)
    std = law.covariance.diagonal().sqrt()
    assert ((x.mean(0) - law.mean) / std).square().mean().sqrt() < 0.06
    assert 0.95 < (x.var(0) / std**2).mean() < 1.05


Solve = Literal["cg", "gmres"]
BOTH: tuple[tuple[Solve, int], ...] = (("cg", 5), ("gmres", 5), ("gmres", 9))


class Turned(po.Denoiser):
    """A linear denoiser whose Jacobian is not symmetric, as that of a network."""

    def __init__(self) -> None:
        skew = normal(6, 6, seed=1)
        spectrum = torch.tensor([0.9, 0.7, 0.5, 0.3, 0.2, 0.1], dtype=F64).diag()
        self.space, self.matrix = po.Space((6,), F64), spectrum + 0.3 * (skew - skew.mT)

    def __call__(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        return x @ self.matrix.to(x).mT


def solved(
    prior: po.Denoiser, solver: Solve, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimates of three samples, and what an exact solve gives."""
    a, y, x, sigma, std = (
        normal(5, 6, seed=2),
        normal(5, seed=3),
        3 * normal(3, 6, seed=4),
        2.0,
        0.1,
    )
    target = po.Posterior(prior, po.GaussianLikelihood(po.operators.Matrix(a), std=std), y)
    rule = MMPS(solver=solver, iterations=iterations)
    x0, pullback = prior.vjp(x, sigma)
    image = torch.stack([sigma**2 * pullback(row.expand(3, -1))[0] for row in a])
    whole = std**2 * torch.eye(5, dtype=F64) + a @ image.mT
    z = torch.linalg.solve(whole, (y - x0 @ a.mT).mT).mT
    return estimate(rule, target, x, sigma), x0 + z @ image


def test_the_least_residual_is_that_of_a_jacobian_that_is_not_symmetric() -> None:
    # Catches: a solve that counts on a symmetric Jacobian, an orthogonalisation that forgets a direction, weights of
    # one sample that another one has.
    found, wanted = solved(Turned(), "gmres", 5)
    assert torch.allclose(found, wanted, rtol=1e-8)
    conjugate, _ = solved(Turned(), "cg", 5)
    assert float((conjugate - wanted).norm()) > 0.1 * float(wanted.norm())


def test_both_solvers_give_the_mean_of_a_gaussian() -> None:
    # Catches: directions that go on after the solve has ended, by rounding (more products than measurements).
    covariance = normal(6, 6, seed=7)
    prior = po.Gaussian(normal(6, seed=8), covariance @ covariance.mT)
    for solver, iterations in BOTH:
        found, wanted = solved(prior, solver, iterations)
        assert torch.allclose(found, wanted, rtol=1e-6)


def test_a_solve_that_has_ended_stays() -> None:
    # A white prior seen whole is solved by one product. Catches: a division by nothing in the second.
    prior = po.Gaussian(torch.zeros(6, dtype=F64), torch.eye(6, dtype=F64))
    likelihood = po.GaussianLikelihood(po.operators.Identity((6,)), std=0.5)
    target, x = po.Posterior(prior, likelihood, normal(6, seed=3)), normal(2, 6, seed=4)
    one, more = (estimate(MMPS(solver="gmres", iterations=k), target, x, 1.0) for k in (1, 4))
    assert torch.allclose(one, more, rtol=1e-10)
    # No residual at all is left alone.
    met = po.Posterior(prior, likelihood, x[0] / 2)
    assert torch.allclose(estimate(MMPS(solver="gmres"), met, x[:1], 1.0), x[:1] / 2)


def test_a_sample_that_has_run_away_leaves_the_others() -> None:
    # Catches: an error from inside PyTorch for the whole batch.
    prior = po.Gaussian(torch.zeros(6, dtype=F64), torch.eye(6, dtype=F64))
    operator = po.operators.Function(lambda z: z.sqrt(), (6,))
    target = po.Posterior(prior, po.GaussianLikelihood(operator, std=0.5), torch.ones(6))
    x = normal(2, 6, seed=4).abs()
    x[1, 0] = -1.0
    for solver in ("cg", "gmres"):
        found = estimate(MMPS(solver=solver), target, x, 1.0)
        alone = estimate(MMPS(solver=solver), target, x[:1], 1.0)
        assert torch.allclose(found[:1], alone, rtol=1e-12) and found[1].isnan().all()
