"""DAPS, PnP-DM, RED-diff, DCPS, and DiffPIR's solves: laws on Gaussians, errors, costs, and what is refused."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from common.sampler import others
from helpers import F64, gaussian, linear_posterior, normal
from posteria.linear_gaussian import Linear, Narrowed, gaussian_problem, linear, posterior_mean
from posteria.metrics.distribution import sliced_wasserstein
from posteria.problems.toy import gmm25
from posteria.samplers.fitted.dcps import DCPS
from posteria.samplers.splitting.daps import DAPS
from posteria.samplers.splitting.diffpir import DiffPIR
from posteria.samplers.splitting.langevin import Langevin
from posteria.samplers.splitting.pnp_dm import PnPDM
from posteria.samplers.splitting.red_diff import REDDiff
from posteria.testing import check_sampler, example_posterior

FEW = po.schedules.LogLinear(steps=8, sigma_min=0.05, sigma_max=20.0)
ROUGH = Langevin(steps=4)
SMALL: dict[str, po.samplers.Sampler[Any]] = {
    "daps": DAPS(schedule=FEW),
    "daps langevin": DAPS(schedule=FEW, exact=False, langevin=ROUGH),
    "daps paper": DAPS(
        schedule=FEW,
        ode=3,
        as_published=("spread",),
        exact=False,
        tau=0.2,
        decay=0.1,
        langevin=Langevin(steps=4, lr=1e-3, adaptive=False),
    ),
    "pnp_dm": PnPDM(schedule=FEW, points=2),
    "pnp_dm langevin": PnPDM(
        schedule=FEW, exact=False, ladder=po.Karras(steps=6), last=2, langevin=ROUGH
    ),
    "red_diff": REDDiff(schedule=FEW),
    "red_diff random": REDDiff(schedule=po.schedules.Table(steps=8), order="random", spread=0.1),
    "red_diff paper": REDDiff(schedule=po.schedules.Table(steps=8), averaged=True, weight=0.25),
    "dcps": DCPS(schedule=po.schedules.Table(steps=10), inner=3),
    "dcps paper": DCPS(schedule=po.schedules.Table(steps=10), inner=2, adam=False, lr=1.5),
}


@pytest.mark.parametrize("name", others(SMALL))
def test_battery_on_a_linear_measurement(name: str) -> None:
    check_sampler(SMALL[name], example_posterior("linear"))


@pytest.mark.parametrize("name", [name for name in others(SMALL) if not name.startswith("dcps")])
def test_battery_on_a_nonlinear_measurement(name: str) -> None:
    check_sampler(SMALL[name], example_posterior("nonlinear"))


@pytest.mark.parametrize("name", ["daps", "pnp_dm", "dcps"])
def test_without_a_decomposition_it_is_the_same(name: str) -> None:
    # Catches: a conjugate gradient solve that stops early or adds to the random numbers.
    target = linear_posterior(gaussian())
    matrix = target.likelihood.operator.matrix()  # type: ignore[attr-defined]
    free = po.operators.LinearFunction(lambda x: x @ matrix.to(x).mT, target.space)
    std = torch.full((2,), 0.5, dtype=F64)
    other = po.Posterior(target.prior, po.GaussianLikelihood(free, std=std), target.y)
    a, b = (SMALL[name].sample(t, range(4)) for t in (target, other))
    assert torch.allclose(a, b, atol=1e-5)


BUDGET: dict[str, po.samplers.Sampler[Any]] = {
    "daps": DAPS(schedule=po.schedules.LogLinear(steps=200, sigma_min=0.01, sigma_max=80.0)),
    "daps five steps of the ode": dataclasses.replace(
        DAPS.published("images"), langevin=Langevin(), tau=None, exact=True
    ),
    "pnp_dm": PnPDM(schedule=po.schedules.LogLinear(steps=70, sigma_min=0.02, sigma_max=80.0)),
    "red_diff": REDDiff(
        schedule=po.schedules.LogLinear(steps=200, sigma_min=0.02, sigma_max=80.0)
    ),
    "dcps": DCPS(schedule=po.schedules.Table(steps=30), inner=6),
}
# Root mean square error of the mean in posterior standard deviations, and variance over exact variance.
GAUSSIAN = {
    "daps": ((0.0, 0.16), (0.9, 1.1)),
    "daps five steps of the ode": ((0.14, 0.34), (1.28, 1.55)),
    "pnp_dm": ((0.1, 0.29), (0.95, 1.15)),
    "red_diff": ((0.55, 0.66), (0.02, 0.05)),
    "dcps": ((0.44, 0.65), (0.65, 0.81)),
}
# Sliced Wasserstein-1 on a problem of gmm25 (d = 8, d_y = 4); exact draws have 0.1.
MIXTURE = {
    "daps": (0.6, 1.15),
    "daps five steps of the ode": (0.6, 1.3),
    "pnp_dm": (0.6, 1.3),
    "red_diff": (0.45, 0.75),
    "dcps": (0.6, 1.4),
}


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("name", BUDGET)
def test_moments_on_a_gaussian(name: str) -> None:
    target = linear_posterior(gaussian())
    exact = target.prior.posterior(target.likelihood, target.y)  # type: ignore[attr-defined]
    x = BUDGET[name].sample(target, range(600))
    std = exact.covariance.diagonal().sqrt()
    error = ((x.mean(0) - exact.mean) / std).square().mean().sqrt().item()
    ratio = (x.var(0) / std**2).mean().item()
    (low, high), (least, most) = GAUSSIAN[name]
    assert low <= error <= high
    assert least <= ratio <= most


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("name", BUDGET)
def test_distance_on_a_mixture(name: str) -> None:
    problem = gmm25(8, 4, 1)
    exact = problem.exact.sample(200, torch.Generator().manual_seed(0))
    x = BUDGET[name].sample(problem.target, range(200))
    low, high = MIXTURE[name]
    assert low <= sliced_wasserstein(x, exact) <= high


def counted(sampler: po.samplers.Sampler[Any], target: po.Posterior) -> tuple[int, int]:
    prior = po.diffusion.Counted(target.prior)
    sampler.sample(po.Posterior(prior, target.likelihood, target.y), seeds=[0])
    return prior.meter.forward, prior.meter.backward


# What a measured scale costs: the solver's 2 * 12 - 1 of 32 draws.
SCALE = 23 * 32
COST: list[tuple[po.samplers.Sampler[Any], tuple[int, int]]] = [
    (DAPS(schedule=FEW, ode=3), (SCALE + 8 * 3, 0)),
    (DAPS(schedule=FEW, prior_std=1.0), (8, 0)),
    (PnPDM(schedule=FEW, points=4, last=3), (SCALE + (7 + 3) * 4, 0)),
    # Of the levels 80, 16.6, 2.5, 0.2, 0.002 one, two, ... are below the couplings 4 and 1.
    (
        PnPDM(
            schedule=po.schedules.LogLinear(steps=2, sigma_min=1.0, sigma_max=4.0),
            ladder=po.Karras(steps=5),
            prior_std=1.0,
        ),
        ((1 + 3) + (1 + 2), 0),
    ),
    (REDDiff(schedule=FEW), (SCALE + 8, 0)),
    # 11 fits, 2 of them at the end of a block, and 3 blocks.
    (
        DCPS(schedule=po.schedules.Table(steps=12), inner=4, langevin=2),
        (SCALE + 12 + 9 * 4 + 3 * 2, 9 * 4 + 3 * 2),
    ),
]


@pytest.mark.parametrize(("sampler", "cost"), COST, ids=lambda v: type(v).__name__)
def test_cost(sampler: po.samplers.Sampler[Any], cost: tuple[int, int]) -> None:
    # Catches: an evaluation made twice, a level of the ladder that is visited or left out.
    assert counted(sampler, linear_posterior(gaussian(2))) == cost


def test_what_they_refuse() -> None:
    target = example_posterior("nonlinear")
    own = po.Posterior(
        target.prior, po.FunctionLikelihood(lambda y, x: -x.flatten(1).abs().sum(-1)), target.y
    )
    with pytest.raises(
        po.CapabilityError, match="DCPS needs a LinearOperator; this is a Function"
    ):
        DCPS().sample(target, seeds=[0])
    with pytest.raises(
        po.CapabilityError, match="DAPS needs a GaussianLikelihood; this is a FunctionLikelihood"
    ):
        DAPS(tau=0.1).sample(own, seeds=[0])
    with pytest.raises(
        po.CapabilityError, match="REDDiff needs a LinearOperator; this is a Function"
    ):
        REDDiff(pinv=True).sample(target, seeds=[0])
    with pytest.raises(po.CapabilityError, match="REDDiff needs a GaussianLikelihood"):
        REDDiff(averaged=True).sample(own, seeds=[0])
    for sampler in (SMALL["daps"], SMALL["pnp_dm"], SMALL["red_diff"]):
        assert sampler.sample(own, seeds=[0, 1]).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (DAPS, {"ode": 0}),
        (DAPS, {"lowest": 0.0}),
        (DAPS, {"decay": 1.5}),
        (DAPS, {"tau": -0.1}),
        (DAPS, {"prior_std": 0.0}),
        (Langevin, {"steps": 0}),
        (Langevin, {"lr": 1.5}),
        (PnPDM, {"points": 0}),
        (PnPDM, {"last": 0}),
        (PnPDM, {"prior_std": float("nan")}),
        (REDDiff, {"order": "up"}),
        (REDDiff, {"weighting": "cubic"}),
        (REDDiff, {"weight": -1.0}),
        (REDDiff, {"lr": 0.0}),
        (REDDiff, {"beta2": 1.0}),
        (REDDiff, {"spread": -0.1}),
        (REDDiff, {"prior_std": 0.0}),
        (DCPS, {"blocks": 0}),
        (DCPS, {"langevin": -1}),
        (DCPS, {"inner": -1}),
        (DCPS, {"gamma": 0.0}),
        (DCPS, {"lr": 0.0}),
        (DCPS, {"prior_std": 0.0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(po.InputError, match=next(iter(wrong))):
        kind(**wrong)


def test_nothing_is_divided_by_zero_where_nothing_is_measured() -> None:
    # Catches: the direction of a gradient of length 0, a curvature of 0.
    prior = po.Gaussian(torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64))
    blind = po.operators.Matrix(torch.zeros(1, 2, dtype=F64))
    target = po.Posterior(prior, po.GaussianLikelihood(blind, std=0.1), torch.zeros(1, dtype=F64))
    for sampler in SMALL.values():
        assert sampler.sample(target, seeds=range(3)).isfinite().all()


def blurred(side: int, dtype: torch.dtype) -> tuple[po.Posterior, Tensor]:
    """A white picture behind a blur without a decomposition, and the picture."""
    shape, kernel = (1, side, side), po.operators.gaussian_kernel(7, 1.5)
    kernel[0, 1] += 1e-9  # no product of two lines
    operator = po.operators.Blur(kernel, shape).to(F64, "cpu")
    prior = po.Gaussian(torch.zeros(shape, dtype=dtype), torch.eye(side**2, dtype=dtype))
    truth = normal(1, *shape)
    y = operator(truth)[0] + 0.05 * normal(*shape, seed=1)
    return po.Posterior(prior, po.GaussianLikelihood(operator, std=0.05), y), truth


def solved(target: po.Posterior, x0: Tensor, sigma: float) -> Tensor:
    """The proximal point by a dense solve in float64."""
    operator = target.likelihood.operator.to(F64, "cpu")  # type: ignore[attr-defined]
    a, y = operator.matrix(), target.y.double()
    gram = a.mT @ a + 0.05**2 / sigma**2 * torch.eye(len(a), dtype=F64)
    gap = (y - operator(x0)).flatten(1) @ a
    return x0 + torch.linalg.solve(gram, gap.mT).mT.reshape(x0.shape)


@pytest.mark.parametrize("sigma", [157.0, 10.0, 1.0, 0.05])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("several", [False, True])
def test_diffpir_solves_a_blur_at_every_level(
    sigma: float, dtype: torch.dtype, several: bool
) -> None:
    # Catches: conjugate gradients at levels where they take thousands of iterations (500 left the
    # measurement at 2000 standard deviations of the noise, after minutes).
    target, truth = blurred(14, dtype)
    if several:
        levels = torch.full(target.y.shape, 0.05, dtype=F64)
        operator = target.likelihood.operator  # type: ignore[attr-defined]
        target = po.Posterior(target.prior, po.GaussianLikelihood(operator, levels), target.y)
    sampler, x0 = DiffPIR(), 0.5 * truth
    arranged, _ = sampler.arrange(target, [0])
    x = sampler._proximal(arranged, x0.to(dtype), sigma**2)
    error = (x.double() - solved(target, x0, sigma)).square().mean().sqrt()
    assert error < (1e-3 if dtype == torch.float32 else 1e-8) * sigma


@pytest.mark.parametrize("name", ["daps", "pnp_dm", "pigdm"])
def test_a_blur_is_solved_at_the_highest_level(name: str) -> None:
    # Catches: conjugate gradients that stop early there, and take seconds a picture.
    target, truth = blurred(14, F64)
    arranged, _ = po.samplers.SAMPLERS[name]().arrange(target, [0])
    narrowed = isinstance(arranged, Narrowed)
    known = Linear(arranged.operator, arranged.std) if narrowed else linear(arranged, "This test")
    mean = posterior_mean(known, arranged.y, 0.5 * truth, 157.0**2)
    assert (mean - solved(target, 0.5 * truth, 157.0)).square().mean().sqrt() < 1e-8 * 157.0


def test_diffpir_on_a_blur_too_large_to_decompose() -> None:
    # Catches: a solve that is cut short where the iterates are far from the measurement.
    target, truth = blurred(46, torch.float32)
    sampler, x0 = DiffPIR(), torch.zeros_like(truth).float()
    arranged, _ = sampler.arrange(target, [0])
    operator = target.likelihood.operator  # type: ignore[attr-defined]
    assert arranged.operator is operator
    for sigma in (157.0, 10.0):  # A residual of 1 is that of the noise.
        x = sampler._proximal(arranged, x0, sigma**2)
        assert ((target.y - operator(x)) / 0.05).square().mean().sqrt() < 1.2
    x = sampler._proximal(arranged, x0, 1.0)
    tight = dataclasses.replace(sampler, iterations=400)._proximal(arranged, x0, 1.0)
    assert (x - tight).square().mean().sqrt() < 1e-3
    # The decomposition and the iterations are one algorithm.
    small, truth = blurred(14, F64)
    small.likelihood.operator.tolerance = 1e-8  # type: ignore[attr-defined]
    one, _ = sampler.arrange(small, [0])
    pair = [
        sampler._proximal(t, 0.5 * truth, 1.0) for t in (gaussian_problem(small, by=sampler), one)
    ]
    assert torch.allclose(*pair, atol=1e-5)
