"""Solvers: measured order of convergence, and the law of the samples."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

import posteria as po
from helpers import F64, gaussian, mixture, normal
from posteria.core.meter import Meter
from posteria.core.rng import Rng
from posteria.core.state import State

ORDER = {"ddim": 1, "heun": 2, "dpmpp2m": 2}


def flow(prior: po.Gaussian, x: torch.Tensor, sigma: float, sigma_next: float) -> torch.Tensor:
    """The exact probability flow of a Gaussian: each eigendirection shrinks with the standard deviation of its law."""
    values, vectors = torch.linalg.eigh(prior.covariance)
    factor = ((values + sigma_next**2) / (values + sigma**2)).sqrt()
    return prior.mean + ((x - prior.mean) @ vectors * factor) @ vectors.mT


@pytest.mark.parametrize("name", ORDER)
def test_measured_order_is_the_documented_order(name: str) -> None:
    # Catches: one wrong letter in a multistep formula (a published library's second-order sampler
    # converges at order 1).
    prior, solver, rng = gaussian(), po.solvers.SOLVERS[name](), Rng([0])
    x = 10 * normal(1, 4)
    exact = flow(prior, x, 10.0, 0.1)
    errors, counts = [], [40, 80, 160, 320]
    for n in counts:
        levels = np.geomspace(10.0, 0.1, n + 1).tolist()
        state = State(x=x, x0=x)
        for sigma, sigma_next in pairwise(levels):
            state = solver(prior, state, sigma, sigma_next, rng)
        errors.append((state.x - exact).norm().item())
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(ORDER[name], abs=0.2)


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("name", [*ORDER, "ddpm"])
def test_samples_follow_the_prior(name: str) -> None:
    prior = mixture(1, k=3)
    sampler = po.Unconditional(
        solver=po.solvers.SOLVERS[name](), schedule=po.Karras(steps=200, sigma_min=1e-3)
    )
    x = sampler.sample(prior, seeds=range(4000))[:, 0]
    exact = prior.sample(20_000, torch.Generator().manual_seed(1))[:, 0]
    assert stats.ks_2samp(x.numpy(), exact.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "cost"), [("ddim", 10), ("ddpm", 10), ("dpmpp2m", 10), ("heun", 19)]
)
def test_cost(name: str, cost: int) -> None:
    counted = po.diffusion.Counted(gaussian())
    po.Unconditional(solver=po.solvers.SOLVERS[name](), schedule=po.Karras(steps=10)).sample(
        counted, seeds=[0, 1]
    )
    assert counted.meter == Meter(forward=2 * cost)


def test_ancestral_step_has_the_bridge_s_variance() -> None:
    prior = po.Gaussian(torch.zeros(1, dtype=F64), torch.eye(1, dtype=F64))
    n, sigma, sigma_next = 20_000, 2.0, 1.0
    x = torch.ones(n, 1, dtype=F64)
    state = po.solvers.DDPM()(prior, State(x=x, x0=x), sigma, sigma_next, Rng(range(n)))
    x0 = 1 / (1 + sigma**2)
    mean = x0 + sigma_next**2 / sigma**2 * (1 - x0)
    variance = sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2
    assert state.x.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / n))
    assert state.x.var().item() == pytest.approx(variance, rel=0.05)
