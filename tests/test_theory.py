"""What MGPS and MGDM do to a Gaussian, in closed form and by running them."""

import math

import pytest
import torch
from affine import Affine, Problem, full, mgdm, mgps, wasserstein
from helpers import F64, gaussian, mixture, normal
from torch import Tensor

import posteria as po
from posteria.metrics.distribution import sliced_wasserstein


def paper_problem(d: int, seed: int) -> Problem:
    """The linear-Gaussian setup of the MGPS paper (example 3.2), with a draw of our own."""
    m = normal(d, d, seed=seed)
    gram = (m / m.norm(dim=0)) @ (m / m.norm(dim=0)).mT
    covariance = gram + torch.linalg.eigvalsh(gram).mean() * torch.eye(d, dtype=F64)
    a = normal(d // 2, d, seed=seed + 1)
    truth = torch.linalg.cholesky(covariance) @ normal(d, seed=seed + 2)
    y = a @ truth + 0.1 * normal(d // 2, seed=seed + 3)
    return Problem(torch.zeros(d, dtype=F64), covariance, a, y, 0.1)


ALPHAS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
# W2 to the posterior as published for d = 40 (mean of two draws): backward transition x
# likelihood.
PUBLISHED = {
    (False, False): (1.37, 0.93, 0.69, 0.30, 0.38, 1.37, 1.97),
    (False, True): (1.95, 1.39, 1.21, 1.00, 0.75, 0.45, 0.15),
    (True, False): (0.029, 0.072, 0.21, 0.47, 0.91, 1.57, 1.97),
    (True, True): (0.0377,) * 7,
}


@pytest.mark.parametrize(
    "exact",
    PUBLISHED,
    ids=["both approximate", "exact likelihood", "exact backward", "both exact"],
)
def test_distance_to_the_posterior_against_the_midpoint(exact: tuple[bool, bool]) -> None:
    # Catches: a wrong bridge, reference, denoised likelihood or schedule. Other draws of the
    # problem move it by a tenth.
    curve = []
    for alpha in ALPHAS:
        distances = []
        for seed in (0, 10):
            problem = paper_problem(40, seed)
            law = mgps(
                problem,
                po.schedules.Table(steps=299),
                alpha,
                product=full,
                exact_backward=exact[0],
                exact_likelihood=exact[1],
            )
            posterior = problem.posterior()
            distances.append(
                wasserstein(law.offset, law.covariance, posterior.mean, posterior.covariance)
            )
        curve.append(sum(distances) / 2)
    assert curve == pytest.approx(PUBLISHED[exact], rel=0.25)
    if exact == (False, False):
        assert 0 < curve.index(min(curve)) < len(curve) - 1
    elif exact == (True, True):
        assert max(curve) - min(curve) < 1e-3
    else:
        assert curve == sorted(curve, reverse=exact == (False, True))


def small_problem() -> Problem:
    covariance = torch.tensor([[1.0, 0.6, 0.1], [0.6, 1.5, -0.4], [0.1, -0.4, 0.7]], dtype=F64)
    a = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]], dtype=F64)
    mean = torch.tensor([0.5, -1.0, 0.3], dtype=F64)
    return Problem(mean, covariance, a, torch.tensor([1.5, -2.0], dtype=F64), 0.5)


def assert_same_law(x: Tensor, law: Affine, slack: float) -> None:
    """Mean and covariance within Monte Carlo error plus `slack` standard deviations."""
    std, n = law.covariance.diagonal().sqrt(), len(x)
    assert ((x.mean(0) - law.offset) / std).abs().max() < 4 / math.sqrt(n) + slack
    assert ((x.T.cov() - law.covariance) / torch.outer(std, std)).abs().max() < 6 / math.sqrt(
        n
    ) + slack


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_mgps_has_the_law_that_its_formulas_imply(alpha: float) -> None:
    # Catches: any slip in the sampler itself; the fit is run to convergence, so that its optimum
    # is known.
    problem, schedule = small_problem(), po.Karras(steps=8, sigma_min=0.05, sigma_max=20.0)
    sampler = po.MGPS(
        schedule=schedule, alpha=alpha, inner=po.samplers.InnerSteps(250), lr=0.01, carry=False
    )
    x = sampler.sample(problem.target(), seeds=range(1500))
    assert_same_law(x, mgps(problem, schedule, alpha), slack=0.04)


def test_mgdm_has_the_law_that_its_formulas_imply() -> None:
    problem, schedule = small_problem(), po.Karras(steps=8, sigma_min=0.05, sigma_max=20.0)
    sampler = po.MGDM(
        schedule=schedule,
        gibbs=2,
        points=6,
        index=po.samplers.Midpoint(0.6),
        inner=po.samplers.InnerSteps(250),
        lr=0.01,
    )
    x = sampler.sample(problem.target(), seeds=range(1500))
    assert_same_law(x, mgdm(problem, schedule, 6, 2, 0.6), slack=0.04)


def test_likelihood_seen_from_an_earlier_time() -> None:
    # Section 2 of the MGDM paper: E[N(y; A D_s(X_s), std^2) | x_t] is N(y; A D_t(x_t), std^2 I + A
    # (C_t - C_s) A^T), so that its error is exactly A C_s A^T. Catches: times exchanged, the wrong
    # one of the two covariances.
    p, s, t = small_problem(), 0.4, 2.0
    prior = po.Gaussian(p.mean, p.covariance)
    x_t = normal(3, seed=9)
    # The law of x_s given x_t, from the joint Gaussian of the two, without any denoiser.
    cov_s, cov_t = p.covariance + s**2 * p.eye, p.covariance + t**2 * p.eye
    gain = cov_s @ cov_t.inverse()
    mean, covariance = p.mean + gain @ (x_t - p.mean), cov_s - gain @ cov_s
    jacobian = prior.vjp(p.eye, s)[1](p.eye)
    denoised = jacobian.mT @ covariance @ jacobian
    assert torch.allclose(denoised, p.spread(t) - p.spread(s))
    assert torch.allclose(prior(mean, s), prior(x_t, t))


def test_exact_sweeps_leave_their_law_invariant() -> None:
    # The augmented law of MGDM on a Gaussian: x_s | x_0, x_t is Gaussian with precision I/s_p^2 +
    # J^T A^T A J / std^2. Catches: a bridge or a reference that does not belong to the same joint
    # law.
    p, s, t, above = small_problem(), 0.5, 1.5, 3.0
    precision, weighted = p.guide(s)
    cov_s = p.covariance + s**2 * p.eye
    # Joint of (x_0, x_s, x_t) given x_above: start from x_s prop. to guide(x_s) p(x_s) q(x_above |
    # x_s).
    total = precision + cov_s.inverse() + p.eye / (above**2 - s**2)
    x_above = normal(3, seed=3)
    mean = total.inverse() @ (weighted + cov_s.inverse() @ p.mean + x_above / (above**2 - s**2))
    n, generator = 200_000, torch.Generator().manual_seed(0)
    x_s = (
        mean
        + torch.randn(n, 3, dtype=F64, generator=generator)
        @ torch.linalg.cholesky(total.inverse()).mT
    )

    def normal_like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, dtype=F64, generator=generator)

    def pinned(low: Tensor, high: Tensor, a: float, b: float, c: float) -> Tensor:
        weight, std = (
            (b**2 - a**2) / (c**2 - a**2),
            math.sqrt((b**2 - a**2) * (c**2 - b**2) / (c**2 - a**2)),
        )
        return low + weight * (high - low) + std * normal_like(low)

    x_t = pinned(x_s, x_above.expand(n, 3), s, t, above)
    prior = po.Gaussian(p.mean, p.covariance)
    x_0 = prior(x_s, s) + normal_like(x_s) @ torch.linalg.cholesky(p.spread(s)).mT
    # One sweep of block (i).
    variance = s**2 * (t**2 - s**2) / t**2
    sweep = (precision + p.eye / variance).inverse()
    reference = x_0 + s**2 / t**2 * (x_t - x_0)
    again = (reference / variance + weighted) @ sweep + normal_like(x_s) @ torch.linalg.cholesky(
        sweep
    ).mT
    std = total.inverse().diagonal().sqrt()
    assert ((again.mean(0) - mean) / std).abs().max() < 0.01
    assert ((again.T.cov() - total.inverse()) / torch.outer(std, std)).abs().max() < 0.02


@pytest.mark.parametrize("name", ["mgps", "mgdm"])
def test_without_data_they_sample_the_prior(name: str) -> None:
    # Catches: guidance that leaks in without a likelihood; a bridge that loses variance.
    prior = mixture(2)
    flat = po.FunctionLikelihood(lambda y, x: 0 * x.sum(-1))
    sampler = po.samplers.SAMPLERS[name]()
    x = sampler.sample(po.Posterior(prior, flat, torch.zeros(1, dtype=F64)), seeds=range(1000))
    generator = torch.Generator().manual_seed(0)
    exact = [prior.sample(1000, generator) for _ in range(2)]
    floor = sliced_wasserstein(*exact)
    assert sliced_wasserstein(x, exact[0]) < 2.5 * floor


def test_pairing_of_transitions() -> None:
    # p(x_s | x_t) p(x_t) = p(x_s) q(x_t | x_s) on a mixture, by conditioning the mixture of x_s on
    # x_t.
    prior, s, t = mixture(2), 0.5, 1.5
    at_s, at_t = prior.noised(s), prior.noised(t)
    x_s, x_t = normal(2, seed=1), normal(2, seed=2)
    forward = po.GaussianLikelihood(po.operators.Identity((2,)), std=math.sqrt(t**2 - s**2))
    backward = at_s.posterior(forward, x_t)
    left = backward.log_prob(x_s) + at_t.log_prob(x_t)
    right = at_s.log_prob(x_s) + forward.log_prob(x_t, x_s)
    assert left.item() == pytest.approx(right.item())


def test_gaussian_helper_is_the_package_s() -> None:
    p = small_problem()
    prior, x = po.Gaussian(p.mean, p.covariance), normal(3)
    moved = p.denoise(Affine(x, torch.zeros(3, 1, dtype=F64)), 0.7)
    assert torch.allclose(moved.offset, prior(x, 0.7))
    assert gaussian().space.shape == (4,)
