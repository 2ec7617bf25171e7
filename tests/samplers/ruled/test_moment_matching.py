"""PiGDM, MMPS, TMPD and LGD: Gaussians around the denoised signal, with more or less of its covariance."""

from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from common.moment_matching import SMALL, TEN, correlated, estimate, exact
from common.sampler import others
from helpers import F64, linear_posterior, mixture, normal
from posteria.metrics.distribution import sliced_wasserstein
from posteria.problems.toy import gmm25
from posteria.samplers.ruled import LGD, MMPS, TMPD, PiGDM
from posteria.testing import check_sampler, example_posterior


@pytest.mark.parametrize("name", others(SMALL))
def test_battery(name: str) -> None:
    check_sampler(SMALL[name], example_posterior())


@pytest.mark.parametrize("sigma", [0.01, 0.3, 2.0, 80.0])
@pytest.mark.parametrize("kind", ["matrix", "composed", "levels"])
def test_moments_of_a_gaussian_are_matched(kind: str, sigma: float) -> None:
    # Catches: a covariance of the wrong scale (sigma J for sigma^2 J), noise entries whose own levels
    # are lost, an operator without a closed form that is not linearised at D(x).
    target = correlated()
    likelihood = target.likelihood
    assert isinstance(likelihood, po.GaussianLikelihood)
    if kind == "levels":
        likelihood = po.GaussianLikelihood(likelihood.operator, torch.linspace(0.2, 2, 4))
    answer = exact(po.Posterior(target.prior, likelihood, target.y))
    if kind == "composed":
        eye = po.operators.Function(lambda x: 1 * x, (8,))
        operator = po.operators.Composed(likelihood.operator, eye)
        likelihood = po.GaussianLikelihood(operator, likelihood.std)
    x = 3 * (1 + sigma) * normal(5, 8)
    target = po.Posterior(target.prior, likelihood, target.y)
    got = estimate(MMPS(tolerance=0), target, x, sigma)
    assert torch.allclose(got, answer(x, sigma), rtol=1e-7, atol=1e-7)


def test_other_covariances_are_exact_where_they_say_so() -> None:
    # PiGDM for a white prior and TMPD for independent entries, through an operator that mixes them.
    # Catches: r^2 of another convention, a variance where a standard deviation belongs.
    x, a, y = 2 * normal(5, 6), normal(3, 6, seed=1), normal(3, seed=2)
    likelihood = po.GaussianLikelihood(po.operators.Matrix(a), std=0.2)
    for sigma in (0.05, 1.0, 30.0):
        prior = po.Gaussian(normal(6), 0.09 * torch.eye(6, dtype=F64))
        target = po.Posterior(prior, likelihood, y)
        got = estimate(PiGDM(prior_std=0.3), target, x, sigma)
        assert torch.allclose(got, exact(target)(x, sigma), atol=1e-9)
        prior = po.Gaussian(normal(6), torch.diag(torch.linspace(0.1, 3, 6, dtype=F64)))
        target = po.Posterior(prior, likelihood, y)
        assert torch.allclose(
            estimate(TMPD(), target, x, sigma), exact(target)(x, sigma), atol=1e-6
        )


SOLVERS: list[tuple[float, int, po.solvers.Solver]] = [
    (0.0, 1, po.DDIM()),
    (1.0, 1, po.solvers.DDPM()),
    (0.0, 2, po.solvers.DPMpp2M()),
]


@pytest.mark.parametrize(("eta", "order", "solver"), SOLVERS)
def test_it_is_the_solver_on_the_exact_posterior(
    eta: float, order: int, solver: po.solvers.Solver
) -> None:
    # Where the guided denoiser is that of the posterior, sampling is unconditional sampling of the
    # posterior. Catches: an extrapolation from the unguided estimate, a step of the wrong length.
    target, schedule, seeds = correlated(), po.Karras(steps=12), [0, 1, 2]
    got = MMPS(schedule=schedule, eta=eta, order=order, tolerance=0).sample(target, seeds)
    same = po.Unconditional(schedule=schedule, solver=solver).sample(exact(target), seeds)
    assert torch.allclose(got, same, atol=1e-6)


class Backwards(po.Denoiser):
    """A denoiser whose Jacobian is minus the identity."""

    space = po.Space((3,), F64)

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return -x


def test_a_jacobian_that_is_no_covariance() -> None:
    # std = sigma makes std^2 + sigma^2 A J A^T zero. Catches: a division by it, and a step without
    # bound in a direction along which a network's Jacobian is negative.
    likelihood = po.GaussianLikelihood(po.operators.Identity((3,)), std=0.5)
    target, x = po.Posterior(Backwards(), likelihood, normal(3)), normal(4, 3, seed=1)
    got = estimate(MMPS(), target, x, 0.5)
    assert torch.allclose(got, -x - (target.y + x) / 2, atol=1e-12)


def test_rows_that_sum_to_less_than_zero() -> None:
    # The last row of u u^T sums to -2; the mean of the rows is 1. Catches: a negative variance, or
    # none at all, which guides without bound.
    u = torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=F64)
    prior = po.Gaussian(torch.zeros(4, dtype=F64), torch.outer(u, u) + 0.01 * torch.eye(4))
    likelihood = po.GaussianLikelihood(po.operators.Identity((4,)), std=0.1)
    target, x, sigma = po.Posterior(prior, likelihood, normal(4)), normal(2, 4, seed=1), 1e3
    jacobian = prior.covariance @ (prior.covariance + sigma**2 * torch.eye(4)).inverse()
    rows = sigma**2 * jacobian.sum(1)
    rows[3] = rows.mean()
    x0 = prior(x, sigma)
    expected = x0 + sigma**2 * ((target.y - x0) / (0.01 + rows)) @ jacobian
    assert torch.allclose(estimate(TMPD(), target, x, sigma), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["pigdm", "pigdm published"])
def test_a_decomposition_changes_nothing(name: str) -> None:
    # Catches: a solve in the wrong basis or without the noise.
    prior, a, y = mixture(), normal(2, 4, seed=11), normal(2, seed=12)
    samples = [
        SMALL[name].sample(
            po.Posterior(prior, po.GaussianLikelihood(operator, std=0.5), y), [0, 1]
        )
        for operator in (
            po.operators.Matrix(a),
            po.operators.LinearFunction(lambda x: x @ a.to(x).mT, po.Space((4,), F64)),
        )
    ]
    assert torch.allclose(*samples, atol=1e-6)


Interval = tuple[float, float]
SHORT = LGD(schedule=po.Karras(steps=100), points=16)
# Mean error in posterior standard deviations (root mean square over entries) and variance ratio on a
# correlated Gaussian at a quarter of unit scale; sliced Wasserstein-1 on gmm25 (d = 8, d_y = 4,
# seeds 2 and 4; exact draws have 0.1).
RECORDED: dict[str, tuple[po.samplers.Sampler[Any], Interval, Interval, Interval]] = {
    "mmps": (MMPS(), (0.0, 0.09), (0.94, 1.06), (0.08, 0.25)),
    "pigdm": (PiGDM(), (0.16, 0.36), (0.99, 1.13), (1.1, 1.55)),
    "tmpd": (TMPD(), (0.20, 0.38), (0.91, 1.05), (1.9, 2.5)),
    "lgd": (SHORT, (0.12, 0.30), (0.90, 1.10), (0.18, 0.50)),
}


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_errors(name: str) -> None:
    sampler, *intervals = RECORDED[name]
    problem = correlated(0.25)
    x, law = sampler.sample(problem, seeds=range(400)), exact(problem)
    std = law.covariance.diagonal().sqrt()
    error = float(((x.mean(0) - law.mean) / std).square().mean().sqrt())
    ratio = float((x.var(0) / std**2).mean())
    distances = []
    for seed in (2, 4):
        mixed = gmm25(8, 4, seed)
        draws = mixed.exact.sample(200, torch.Generator().manual_seed(0))
        distances.append(sliced_wasserstein(sampler.sample(mixed.target, range(200)), draws))
    measured = (error, ratio, sum(distances) / 2)
    for value, (low, high) in zip(measured, intervals, strict=True):
        assert low <= value <= high


# Evaluations / vjps per sample. Two measurements: MMPS stops after two iterations. Measuring the
# prior takes 23 evaluations of 32 draws, once.
COST: list[tuple[po.samplers.Sampler[Any], tuple[int, int]]] = [
    (MMPS(schedule=TEN), (10, 20)),
    (MMPS(schedule=TEN, iterations=1), (10, 10)),
    (PiGDM(schedule=TEN), (10 + 736, 10)),
    (TMPD(schedule=TEN), (10, 20)),
    (LGD(schedule=TEN, points=5), (10 + 736, 10)),
]


@pytest.mark.parametrize(("sampler", "cost"), COST)
def test_cost(sampler: po.samplers.Sampler[Any], cost: tuple[int, int]) -> None:
    # Catches: a product with the Jacobian made twice, draws that are each denoised.
    target = linear_posterior(mixture(2))
    counted = po.diffusion.Counted(target.prior)
    sampler.sample(po.Posterior(counted, target.likelihood, target.y), seeds=[0])
    assert (counted.meter.forward, counted.meter.backward) == cost


def test_what_they_refuse() -> None:
    curved = example_posterior("nonlinear")
    for kind in (PiGDM, TMPD):
        with pytest.raises(
            po.CapabilityError,
            match=f"{kind.__name__} needs a LinearOperator; this is a Function",
        ):
            kind().sample(curved, seeds=[0])
    counts = po.PoissonLikelihood(po.operators.Identity((2, 3)), peak=10.0)
    target = po.Posterior(curved.prior, counts, torch.ones(2, 3))
    for other in (MMPS, PiGDM, TMPD):
        with pytest.raises(
            po.CapabilityError, match="needs a GaussianLikelihood; this is a PoissonLikelihood"
        ):
            other().sample(target, seeds=[0])


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (MMPS, {"iterations": 0}),
        (MMPS, {"tolerance": 1.0}),
        (MMPS, {"eta": 1.5}),
        (MMPS, {"order": 3}),
        (PiGDM, {"prior_std": 0.0}),
        (PiGDM, {"strength": -1.0, "order": 1}),
        (PiGDM, {"strength": 1.0, "order": 2}),
        (PiGDM, {"eta": -0.1}),
        (TMPD, {"eta": float("nan")}),
        (TMPD, {"order": 0}),
        (LGD, {"points": 0}),
        (LGD, {"prior_std": float("inf")}),
        (LGD, {"reach": 0.0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(po.InputError, match=next(iter(wrong))):
        kind(**wrong)
