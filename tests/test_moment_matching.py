"""PiGDM, MMPS, TMPD and LGD: Gaussians around the denoised signal, with more or less of its covariance."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers import F64, gaussian, linear_posterior, mixture, normal, random_covariance
from torch import Tensor

import posteria as po
from posteria.guidance import StepInfo
from posteria.guidance.likelihood.smoothed import smoothed_score
from posteria.metrics.distribution import sliced_wasserstein
from posteria.problems.toy import gmm25
from posteria.samplers.ruled import LGD, MMPS, TMPD, PiGDM, RuledSampler
from posteria.testing import check_sampler, example_posterior

TEN = po.schedules.Table(steps=10)
SMALL: dict[str, po.samplers.Sampler[Any]] = {
    "mmps": MMPS(schedule=TEN),
    "pigdm": PiGDM(schedule=TEN),
    "pigdm published": PiGDM(schedule=TEN, prior_std=1.0, order=1, strength=1.0),
    "tmpd": TMPD(schedule=TEN),
    "lgd": LGD(schedule=TEN, points=8),
}
KINDS = [(name, "linear") for name in SMALL] + [("mmps", "nonlinear"), ("lgd", "nonlinear")]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_battery(name: str, kind: str) -> None:
    check_sampler(SMALL[name], example_posterior(kind))


def white(s0: float, d: int = 8) -> po.Posterior:
    """N(0, s0^2) seen in half of its entries."""
    prior = po.Gaussian(torch.zeros(d, dtype=F64), s0**2 * torch.eye(d, dtype=F64))
    likelihood = po.GaussianLikelihood(
        po.operators.Inpainting(torch.arange(d) < d // 2), std=s0 / 2
    )
    return po.Posterior(prior, likelihood, s0 * normal(d // 2, seed=4))


def correlated(scale: float = 1.0, d: int = 8) -> po.Posterior:
    prior = po.Gaussian(scale * normal(d), scale**2 * random_covariance(d))
    likelihood = po.GaussianLikelihood(po.operators.Matrix(normal(4, d, seed=1)), std=0.5 * scale)
    return po.Posterior(prior, likelihood, 2 * scale * normal(4, seed=2))


def estimate(sampler: RuledSampler, target: po.Posterior, x: Tensor, sigma: float) -> Tensor:
    """E[x_0 | x, y] by the rule of a sampler."""
    rule = sampler.rule
    return rule(rule.arrange(target), x, StepInfo(sigma, 0.0, 0, 1), {}).x0


def exact(target: po.Posterior) -> po.Gaussian:
    assert isinstance(target.prior, po.Gaussian)
    return target.prior.posterior(target.likelihood, target.y)


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


@pytest.mark.parametrize("problem", [white(1.0), white(0.25), correlated(), correlated(0.25)])
def test_defaults_of_mmps_are_exact_on_gaussians(problem: po.Posterior) -> None:
    # 6000 samples have 0.007 to 0.011 and 0.991 to 1.005. Catches: a schedule or a stopping rule
    # that knows the scale of the data.
    x, law = MMPS().sample(problem, seeds=range(800)), exact(problem)
    std = law.covariance.diagonal().sqrt()
    assert ((x.mean(0) - law.mean) / std).square().mean().sqrt() < 0.06
    assert 0.95 < (x.var(0) / std**2).mean() < 1.05


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


def test_the_published_update_of_pigdm() -> None:
    # In the paper's units: x_vp, abar, r^2 = 1 - abar, and the gradient in x_vp weighted by
    # r^2 sqrt(abar abar_next). Catches: a factor of sqrt(abar) lost on the way to x = x_vp / sqrt(abar).
    target, sigma, after = linear_posterior(gaussian()), 0.8, 0.5
    likelihood = target.likelihood
    assert isinstance(likelihood, po.GaussianLikelihood)
    assert isinstance(likelihood.operator, po.operators.Matrix)
    a, std = likelihood.operator.matrix(), 0.5
    abar, abar_next = 1 / (1 + sigma**2), 1 / (1 + after**2)
    sampler = PiGDM(prior_std=1.0, eta=0.0, order=1, strength=1.0)
    target, _ = sampler.arrange(target, [0, 1])
    state = sampler.init(target, po.Rng([0, 1]))
    x_vp = normal(2, 4, seed=3)
    state = replace(state, x=x_vp / math.sqrt(abar))
    got = sampler.step(target, state, sigma, after, po.Rng([0, 1])).x * math.sqrt(abar_next)

    z = x_vp.clone().requires_grad_()
    x0 = target.prior(z / math.sqrt(abar), sigma)
    noise = (z - math.sqrt(abar) * x0) / math.sqrt(1 - abar)
    r2 = 1 - abar
    inverse = (a @ a.mT + std**2 / r2 * torch.eye(2, dtype=F64)).inverse()
    residual = target.y - x0 @ a.mT
    (gradient,) = torch.autograd.grad(-((residual @ inverse) * residual).sum() / 2, z)
    plain = math.sqrt(abar_next) * x0 + math.sqrt(1 - abar_next) * noise
    assert torch.allclose(got, plain + math.sqrt(abar * abar_next) * gradient, atol=1e-10)


def test_lgd_in_one_dimension() -> None:
    # Prior N(0, 1), x_vp = 1 at abar = 1/2, y = 2 with std 1/2: the exact guidance is 1.219 and that of
    # the denoised point alone 3.657. Catches: a log-sum-exp gradient divided by the number of draws.
    prior = po.Gaussian(torch.zeros(1, dtype=F64), torch.eye(1, dtype=F64))
    likelihood = po.GaussianLikelihood(po.operators.Identity((1,)), std=0.5)
    target = po.Posterior(prior, likelihood, torch.tensor([2.0], dtype=F64))

    def guidance(points: int, seeds: int, r: float = math.sqrt(0.5)) -> float:
        x0 = torch.full((seeds, 1), math.sqrt(0.5), dtype=F64)
        cloud = r * po.Rng(range(seeds)).normal(target.space, points)
        score = smoothed_score(target, x0, cloud)
        return float(math.sqrt(0.5) * score.mean())

    assert guidance(1, 2, r=0.0) == pytest.approx(3.657, abs=1e-3)
    assert guidance(20_000, 20) == pytest.approx(1.219, abs=0.01)
    # Of few draws the mean is too long; their median at n = 10 is 1.366.
    assert guidance(100, 2000) == pytest.approx(1.236, abs=0.02)
    assert guidance(10, 4000) == pytest.approx(1.445, abs=0.05)


def test_lgd_takes_any_likelihood_and_one_measurement_a_sample() -> None:
    # Catches: measurements of one sample scored with the draws of another.
    target, sampler = example_posterior(), SMALL["lgd"]
    likelihood = target.likelihood

    def log_prob(y: Tensor, x: Tensor) -> Tensor:
        return likelihood.log_prob(y, x)

    ys = normal(3, 4, seed=5)
    for law in (likelihood, po.FunctionLikelihood(log_prob, shape=(4,))):
        together = sampler.sample(po.Posterior(target.prior, law, ys), seeds=[4, 5, 6])
        for i in range(3):
            alone = sampler.sample(po.Posterior(target.prior, law, ys[i]), seeds=[4 + i])
            assert torch.allclose(alone[0], together[i], atol=1e-10)
    one = po.Posterior(target.prior, likelihood, ys[:1])
    assert torch.equal(
        sampler.sample(one, [1, 2]),
        sampler.sample(po.Posterior(target.prior, likelihood, ys[0]), [1, 2]),
    )


def test_lgd_reaches_no_farther_than_it_may() -> None:
    # With little noise and few draws the guidance is that of the nearest draw, far too long; the
    # iterates then grow from step to step. Catches: samples of 1e50.
    target = gmm25(8, 4, 0).target
    sampler = LGD(schedule=po.Karras(steps=50), points=8)
    assert sampler.sample(target, range(20)).abs().max() < 100
    unbounded = LGD(schedule=po.Karras(steps=50), points=8, reach=None)
    assert unbounded.sample(target, range(20)).abs().max() > 1e6


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
    (MMPS.published("paper"), (64, 64)),
    (PiGDM(schedule=TEN), (10 + 736, 10)),
    (PiGDM.published("paper"), (999, 999)),
    (TMPD(schedule=TEN), (10, 20)),
    (TMPD.published("paper"), (999, 1998)),
    (LGD(schedule=TEN, points=5), (10 + 736, 10)),
    (LGD.published("mc10"), (999, 999)),
    (LGD.published("mc100"), (999, 999)),
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
