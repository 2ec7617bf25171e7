"""What MGPS and MGDM do to a Gaussian, in closed form and by running them."""

import pytest
import torch

import posteria as po
from affine import Affine, Problem, full, mgps, wasserstein
from common.theory import small_problem
from helpers import F64, gaussian, mixture, normal
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
    (True, True): (0.0377,) * 3,
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
    # Where both are exact the midpoint does not matter.
    for alpha in ALPHAS[::3] if all(exact) else ALPHAS:
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


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("name", ["mgps", "mgdm"])
def test_without_data_they_sample_the_prior(name: str) -> None:
    # Catches: guidance that leaks in without a likelihood; a bridge that loses variance.
    prior = mixture(2)
    flat = po.FunctionLikelihood(lambda y, x: 0 * x.sum(-1))
    sampler = po.samplers.SAMPLERS[name]()
    x = sampler.sample(po.Posterior(prior, flat, torch.zeros(1, dtype=F64)), seeds=range(500))
    generator = torch.Generator().manual_seed(0)
    exact = [prior.sample(500, generator) for _ in range(2)]
    floor = sliced_wasserstein(*exact)
    assert sliced_wasserstein(x, exact[0]) < 2.5 * floor


def test_gaussian_helper_is_the_package_s() -> None:
    p = small_problem()
    prior, x = po.Gaussian(p.mean, p.covariance), normal(3)
    moved = p.denoise(Affine(x, torch.zeros(3, 1, dtype=F64)), 0.7)
    assert torch.allclose(moved.offset, prior(x, 0.7))
    assert gaussian().space.shape == (4,)
