"""Samples of tilted laws that are known exactly."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, wasserstein_distance
from torch import Tensor

import posteria as po
from common.tilted import generator, quadrature
from helpers import F64, normal
from posteria.analytic.tilted import TiltedQuadrature
from posteria.core.rng import Rng
from posteria.metrics.distribution import covariance_error, mean_error, moments
from posteria.problems.tilted import (
    TILTED_PROBLEMS,
    TiltedProblem,
    cfgig_toy,
    gaussian_pair,
    narrow_mode,
    rare_mode,
    three_kinds,
    wasserstein_1d,
)

# Problems.


@pytest.mark.parametrize("name", TILTED_PROBLEMS)
def test_exact_law_is_the_tilted_one(name: str) -> None:
    # Catches: a law of another weight than the target's, draws of another law than the density.
    problem = TILTED_PROBLEMS[name]()
    target, law = problem.target, moments(problem.exact)
    x = problem.exact.sample(4000, generator())
    assert x.shape == (4000, *target.space.shape) and x.dtype == F64
    given, free = target.conditional, target.unconditional
    assert isinstance(given, po.Gaussian | po.GaussianMixture)
    assert isinstance(free, po.Gaussian | po.GaussianMixture)
    w = target.weight
    gap = w * given.log_prob(x) + (1 - w) * free.log_prob(x) - problem.exact.log_prob(x)
    assert torch.allclose(gap, gap[:1].expand_as(gap), atol=1e-8)
    d = target.space.size
    assert mean_error(x, law.mean, law.std) < 4 / math.sqrt(len(x))
    assert covariance_error(x, law.covariance) < 4 * math.sqrt((d + 1) / len(x))
    single = TILTED_PROBLEMS[name](dtype=torch.float32)
    assert single.target.space.dtype == single.exact.sample(2, generator()).dtype == torch.float32
    lighter = TILTED_PROBLEMS[name](1.5)
    assert not torch.allclose(moments(lighter.exact).mean, law.mean, atol=1e-3)


def shares(law: TiltedQuadrature | po.GaussianMixture, centers: Tensor) -> Tensor:
    """Of the points nearest to each center, by a sum over a grid."""
    side = torch.linspace(-8, 8, 20_001 if centers.shape[1] == 1 else 501, dtype=F64)
    points = side[:, None] if centers.shape[1] == 1 else torch.cartesian_prod(side, side)
    nearest = torch.stack([((points - center) ** 2).sum(-1) for center in centers]).argmin(0)
    weights = law.log_prob(points).softmax(0)
    return torch.zeros(len(centers), dtype=F64).index_add(0, nearest, weights)


@pytest.mark.parametrize(
    ("build", "tilted"),
    [
        (rare_mode, [0.758, 0.242]),
        (narrow_mode, [0.872, 0.128]),
        (three_kinds, [0.306, 0.161, 0.533]),
    ],
)
def test_the_tilt_moves_more_than_a_third_of_the_mass(
    build: type[TiltedProblem], tilted: list[float]
) -> None:
    # The numbers of the docstrings. Catches: an edit by which a problem becomes easy: without mass to move
    # every sampler that starts from the conditional law looks right.
    problem = build()
    given = problem.target.conditional
    assert isinstance(given, po.GaussianMixture)
    before, after = shares(given, given.means), shares(quadrature(problem), given.means)
    assert torch.allclose(before, given.weights, atol=2e-3)
    assert torch.allclose(after, torch.tensor(tilted, dtype=F64), atol=1e-3)
    assert float((after - before).abs().sum()) / 2 > 1 / 3
    gaps = torch.cdist(given.means, given.means)
    widest = torch.linalg.eigvalsh(given.covariances).max().sqrt()
    assert gaps[gaps > 0].min() > 5 * widest


def test_known_moments_of_the_toy() -> None:
    law = quadrature(cfgig_toy())
    assert float(law.mean) == pytest.approx(2.002, abs=1e-3)
    assert float(law.covariance.sqrt()) == pytest.approx(0.550, abs=1e-3)
    pair = gaussian_pair(d=6, seed=2)
    assert pair.target.space.shape == (6,)
    with pytest.raises(po.InputError, match="d=1"):
        gaussian_pair(d=1)


def test_distance_to_a_law() -> None:
    # Catches: a distance to the cells in place of the law, a sign, a sample outside of the box.
    law = quadrature(cfgig_toy())
    points, below = law.cumulative()
    exact = law.sample(3000, generator())
    assert kstest(exact[:, 0].numpy(), lambda z: np.interp(z, points, below))[1] > 0.01
    quantiles = torch.from_numpy(np.interp((np.arange(200_000) + 0.5) / 200_000, below, points))
    assert wasserstein_1d(quantiles, law) < 1e-5
    assert wasserstein_1d(quantiles + 0.3, law) == pytest.approx(0.3, abs=1e-6)
    assert wasserstein_1d(quantiles - 9.0, law) == pytest.approx(9.0, abs=1e-6)
    # One point: the mean distance to it.
    middles, masses = (points[1:] + points[:-1]) / 2, below.diff()
    for point in (1.4, -20.0):
        distance = float(masses @ (middles - point).abs())
        assert wasserstein_1d(torch.tensor([point]), law) == pytest.approx(distance, abs=1e-5)
    few = normal(37)
    assert wasserstein_1d(few, law) == pytest.approx(
        wasserstein_distance(few.numpy(), quantiles.numpy()), abs=1e-5
    )
    assert cfgig_toy().wasserstein(exact) == wasserstein_1d(exact, law)
    floor = [wasserstein_1d(law.sample(4000, generator(s)), law) for s in range(10)]
    assert sum(floor) / 10 == pytest.approx(0.55 / math.sqrt(4000), rel=0.3)
    with pytest.raises(po.InputError, match="one dimension"):
        three_kinds().wasserstein(normal(5, 2))
    with pytest.raises(po.CapabilityError, match="wasserstein needs a TiltedQuadrature"):
        gaussian_pair().wasserstein(normal(5, 4))
    with pytest.raises(po.InputError, match="at least 1 sample"):
        wasserstein_1d(torch.zeros(0), law)
    # Catches: samples of the plane that are taken for twice as many numbers.
    with pytest.raises(po.ShapeError, match=r"are \[n\] or \[n, 1\], not \(5, 2\)"):
        wasserstein_1d(normal(5, 2), law)


@pytest.mark.parametrize("build", [cfgig_toy, rare_mode])
def test_the_ideal_denoiser_draws_the_law(build: type[TiltedProblem]) -> None:
    # In one dimension the probability flow takes quantiles to quantiles, so that each sample has one right
    # answer, and Heun's method an error of second order. It moves the mass that CFGiG leaves where it is.
    # Catches: an error of the denoiser at any level.
    problem, n, top = build(), 300, 80.0
    law = quadrature(problem)
    points, below = law.cumulative()
    start = top * Rng(range(n)).normal(law.space)
    z = (start - (points[1:] + points[:-1]) / 2) / top
    share = (below.diff() * torch.special.ndtr(z)).sum(1)
    right = torch.from_numpy(np.interp(share, below, points))[:, None]
    errors = []
    for steps in (24, 48):
        x = po.Unconditional(schedule=po.Karras(steps=steps)).sample(law, range(n))
        errors.append(float((x - right).abs().mean()))
    assert errors[1] < 4e-3 and 3.4 < errors[0] / errors[1] < 5.2, errors
    floor = [problem.wasserstein(law.sample(n, generator(seed))) for seed in range(10)]
    assert problem.wasserstein(x) < 2 * sum(floor) / 10


def test_the_ideal_denoiser_draws_the_law_in_the_plane() -> None:
    problem = three_kinds()
    law, n = quadrature(problem), 400
    schedule = po.schedules.LogLinear(steps=12, sigma_min=0.1, sigma_max=40.0)
    x = po.Unconditional(schedule=schedule).sample(law, range(n))
    given = problem.target.conditional
    assert isinstance(given, po.GaussianMixture)
    found = torch.bincount(torch.cdist(x, given.means).argmin(1), minlength=3) / n
    spread = (shares(law, given.means) * (1 - shares(law, given.means)) / n).sqrt()
    assert ((found - shares(law, given.means)).abs() < 4 * spread).all()
