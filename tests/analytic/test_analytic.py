"""Gaussians and mixtures against independent answers."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

import posteria as po
from helpers import F64, gaussian, linear_posterior, mixture, normal, random_covariance
from posteria.core import linalg
from posteria.operators import Matrix
from posteria.testing import check_denoiser

PRIORS = {
    "gaussian": gaussian(),
    "mixture": mixture(),
    "tied": mixture(tied=True),
    "event": po.GaussianMixture(
        torch.ones(2), normal(2, 2, 3), torch.stack([random_covariance(6, i) for i in range(2)])
    ),
}


def reference(prior: po.Gaussian | po.GaussianMixture) -> MultivariateNormal | MixtureSameFamily:
    if isinstance(prior, po.Gaussian):
        return MultivariateNormal(prior.mean, prior.covariance)
    parts = MultivariateNormal(prior.means.flatten(1), prior.covariances)
    return MixtureSameFamily(Categorical(prior.weights), parts)


@pytest.mark.parametrize("name", PRIORS)
def test_battery(name: str) -> None:
    check_denoiser(PRIORS[name])


@pytest.mark.parametrize("name", PRIORS)
def test_density_is_the_library_s(name: str) -> None:
    prior = PRIORS[name]
    x = 2 * normal(5, *prior.space.shape)
    assert torch.allclose(prior.log_prob(x), reference(prior).log_prob(prior.space.flatten(x)))


@pytest.mark.parametrize("sigma", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("name", PRIORS)
def test_denoiser_obeys_tweedie(name: str, sigma: float) -> None:
    # Catches: any error in E[x_0 | x]: x + sigma^2 grad log p_sigma, with the gradient by autograd
    # of another density.
    prior = PRIORS[name]
    x = (1 + sigma) * normal(6, *prior.space.shape)
    score = linalg.score(prior.noised(sigma).log_prob, x)
    assert torch.allclose(prior(x, sigma), x + sigma**2 * score, atol=1e-8)
    assert torch.allclose(prior.score(x, sigma), score, atol=1e-8)


@pytest.mark.parametrize("name", PRIORS)
def test_jacobian_is_symmetric(name: str) -> None:
    # sigma^2 dD/dx is the covariance of x_0 given x.
    prior = PRIORS[name]
    space = prior.space
    x = normal(1, *space.shape).expand(space.size, *space.shape)
    jacobian = space.flatten(
        prior.vjp(x, 0.7)[1](space.unflatten(torch.eye(space.size, dtype=F64)))
    )
    assert torch.allclose(jacobian, jacobian.mT, atol=1e-10)
    assert (torch.linalg.eigvalsh(jacobian) > 0).all()


def test_shared_covariances_change_nothing_but_the_cost() -> None:
    # Catches: the fast path for tied components drifting away from the general one.
    tied = mixture(tied=True)
    nudge = 1e-13 * torch.eye(4, dtype=F64)
    general = po.GaussianMixture(
        tied.weights, tied.means, torch.cat([tied.covariances[:1] + nudge, tied.covariances[1:]])
    )
    assert type(tied._components) is not type(general._components)
    x, v = 3 * normal(7, 4), normal(7, 4, seed=5)
    for sigma in (0.05, 1.0, 40.0):
        (a, a_vjp), (b, b_vjp) = tied.vjp(x, sigma), general.vjp(x, sigma)
        assert torch.allclose(a, b, atol=1e-9)
        assert torch.allclose(a_vjp(v), b_vjp(v), atol=1e-9)


@pytest.mark.parametrize("name", PRIORS)
def test_posterior_is_bayes_rule(name: str) -> None:
    # Catches: a wrong gain, weight or evidence: log p(x|y) must equal log p(x) + log p(y|x) - log
    # p(y) at every x.
    prior = PRIORS[name]
    target = linear_posterior(prior)
    posterior = prior.posterior(target.likelihood, target.y)
    x = 2 * normal(6, *prior.space.shape, seed=3)
    right = prior.log_prob(x) + target.likelihood.log_prob(target.y, x)
    evidence = prior.log_evidence(target.likelihood, target.y)
    assert torch.allclose(posterior.log_prob(x), right - evidence, atol=1e-8)


def test_noise_may_differ_from_entry_to_entry() -> None:
    prior, std = gaussian(), torch.tensor([0.1, 2.0], dtype=F64)
    a, y = normal(2, 4, seed=11), normal(2, seed=12)
    likelihood = po.GaussianLikelihood(po.operators.Matrix(a), std=std)
    posterior = prior.posterior(likelihood, y)
    precision = prior.covariance.inverse() + a.mT @ torch.diag(std**-2) @ a
    mean = torch.linalg.solve(
        precision, prior.covariance.inverse() @ prior.mean + a.mT @ (y / std**2)
    )
    assert torch.allclose(posterior.mean, mean)
    assert torch.allclose(posterior.covariance, precision.inverse())


@pytest.mark.parametrize("name", PRIORS)
def test_draws_have_the_density(name: str, generator: torch.Generator) -> None:
    # Catches: a transposed root of a covariance, weights in the wrong order. The mean of log p is
    # minus the entropy.
    prior, n = PRIORS[name], 20_000
    x = prior.space.flatten(prior.sample(n, generator))
    torch.manual_seed(1)
    other = reference(prior).sample((n,))
    assert ((x.mean(0) - other.mean(0)) / (other.std(0) * math.sqrt(2 / n))).abs().max() < 4.5
    assert (x.T.cov() - other.T.cov()).abs().max() < 0.06 * other.T.cov().abs().max()
    log_p, log_q = (reference(prior).log_prob(z) for z in (x, other))
    assert abs(log_p.mean() - log_q.mean()) < 4.5 * math.sqrt((log_p.var() + log_q.var()) / n)


def test_a_component_that_is_excluded_does_no_harm() -> None:
    # Catches: the logarithm of a weight that underflowed, which makes every density nan.
    prior = po.GaussianMixture(
        torch.ones(2), torch.tensor([[0.0], [1e4]], dtype=F64), torch.ones(2, 1, 1, dtype=F64)
    )
    likelihood = po.GaussianLikelihood(po.operators.Identity((1,)), std=0.1)
    posterior = prior.posterior(likelihood, torch.zeros(1, dtype=F64))
    x = posterior.sample(100, torch.Generator().manual_seed(0))
    assert x.abs().max() < 1
    assert posterior.log_prob(x).isfinite().all()


def test_whole_numbers_are_constants() -> None:
    # Catches: exact means of integers that are refused, or that take a covariance in double precision to single.
    whole = torch.tensor([[2, 1], [1, 2]])
    for covariance, dtype in (whole, torch.float32), (whole.double(), F64):
        law = po.Gaussian(whole[1] - torch.tensor([0, 2]), covariance)
        same = po.GaussianMixture(whole[0, 1:], whole[1:] - torch.tensor([0, 2]), covariance[None])
        assert law.space.dtype == same.space.dtype == dtype
        x = torch.tensor([0.5, 2.0], dtype=dtype)
        expected = po.Gaussian(torch.tensor([1.0, 0.0], dtype=F64), law.covariance.double())
        for each in (law, same):
            assert torch.allclose(each(x, 0.5).double(), expected(x.double(), 0.5), atol=1e-6)


def test_single_precision_stays_single() -> None:
    prior = mixture()
    single = po.GaussianMixture(
        prior.weights.float(), prior.means.float(), prior.covariances.float()
    )
    check_denoiser(single)
    x = normal(5, 4)
    assert torch.allclose(single(x.float(), 0.3).double(), prior(x, 0.3), atol=1e-4)
    far = po.GaussianMixture(
        torch.ones(2), 200 * normal(2, 80).float(), torch.eye(80).expand(2, 80, 80)
    )
    exact = po.GaussianMixture(torch.ones(2), far.means.double(), far.covariances.double())
    x = far.means[:1] + normal(1, 80).float()
    assert torch.allclose(far(x, 0.3).double(), exact(x.double(), 0.3), atol=1e-3)


def test_single_precision_conditions_in_double() -> None:
    # Catches: noise that is lost in the covariance of what is measured twice, where Cholesky's factorisation fails or
    # an evidence of -1642 is off by 5e-3.
    q = torch.linalg.qr(normal(6, 6)).Q
    covariance = (q * torch.logspace(2, -2, 6, dtype=F64)) @ q.mT
    matrix = torch.cat([normal(3, 6), normal(3, 6)]).float()
    covariance = ((covariance + covariance.mT) / 2).float()
    means = normal(2, 6, seed=4).float()
    likelihood, y = (
        po.GaussianLikelihood(Matrix(matrix), std=0.003),
        10 * normal(6, seed=3).float(),
    )
    for single, double in (
        [po.Gaussian(means[0].to(kind), covariance.to(kind)) for kind in (torch.float32, F64)],
        [
            po.GaussianMixture(torch.ones(2), means.to(kind), covariance.to(kind).expand(2, 6, 6))
            for kind in (torch.float32, F64)
        ],
    ):
        evidence = float(double.log_evidence(likelihood, y))
        assert float(single.log_evidence(likelihood, y)) == pytest.approx(evidence, rel=1e-9)
        law, exact = single.posterior(likelihood, y), double.posterior(likelihood, y)
        assert law.space.dtype == torch.float32
        assert torch.allclose(law.mean.double(), exact.mean, atol=1e-5)
    rounded = torch.ones(2, 2) + torch.tensor([[-1e-7, 0.0], [0.0, 0.0]])
    with pytest.raises(po.InputError, match="rounded it: make it in float64"):
        po.Gaussian(torch.zeros(2), rounded)


def test_bad_input() -> None:
    eye = torch.eye(2, dtype=F64)
    with pytest.raises(po.ShapeError, match=r"needs a covariance \(3, 3\), not \(2, 2\)"):
        po.Gaussian(torch.zeros(3, dtype=F64), eye)
    with pytest.raises(po.InputError, match="positive definite; this one has the eigenvalue -1"):
        po.Gaussian(torch.zeros(2, dtype=F64), torch.diag(torch.tensor([1.0, -1.0], dtype=F64)))
    with pytest.raises(po.InputError, match="symmetric"):
        po.Gaussian(torch.zeros(2, dtype=F64), torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=F64))
    with pytest.raises(po.InputError, match="at least one component"):
        po.GaussianMixture(torch.ones(0), torch.zeros(0, 2), torch.zeros(0, 2, 2))
    with pytest.raises(po.InputError, match="weights of a mixture are above 0"):
        po.GaussianMixture(torch.tensor([1.0, 0.0]), torch.zeros(2, 2), eye.expand(2, 2, 2))
    nonlinear = po.GaussianLikelihood(po.operators.Clip((2,)), std=1.0)
    with pytest.raises(
        po.CapabilityError, match="Gaussian needs a LinearOperator; this is a Clip"
    ):
        po.Gaussian(torch.zeros(2, dtype=F64), eye).posterior(nonlinear, torch.zeros(2))


@pytest.mark.parametrize("name", PRIORS)
def test_moments_are_those_of_draws(name: str) -> None:
    # Catches: a mixture whose covariance leaves out the spread of its means, a mean without weights.
    prior = PRIORS[name]
    x = prior.sample(200_000, torch.Generator().manual_seed(0))
    flat = prior.space.flatten(x)
    error = prior.std.max() / math.sqrt(len(x))
    assert torch.allclose(flat.mean(0), prior.mean.flatten(), atol=5 * float(error))
    scale = float(prior.std.max()) ** 2 / math.sqrt(len(x))
    assert torch.allclose(flat.mT.cov(), prior.covariance, atol=8 * scale)
    assert torch.allclose(prior.std.flatten() ** 2, prior.covariance.diagonal())


def test_level_0_and_a_level_each() -> None:
    # Catches: 0 / 0 in the Jacobian of a mixture at level 0, where the denoiser leaves what it is given; a score whose
    # levels, one a sample, are spread over the entries.
    x, eye = torch.tensor([[0.5, -1.0], [2.0, 0.3]], dtype=F64), torch.eye(2, dtype=F64)
    means, weights = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=F64), torch.ones(2, dtype=F64)
    laws: list[po.Gaussian | po.GaussianMixture] = [
        po.Gaussian(means[1], 2 * eye),
        po.GaussianMixture(weights, means, torch.stack([eye, 3 * eye])),
        po.GaussianMixture(weights, means, eye.expand(2, 2, 2)),
    ]
    levels = torch.tensor([0.5, 3.0], dtype=F64)
    for law in laws:
        for zero in (0.0, 0 * levels):
            x0, pullback = law.vjp(x, zero)
            assert torch.allclose(x0, x, atol=1e-12) and torch.allclose(pullback(x), x, atol=1e-12)
        each = [law.score(x[i : i + 1], float(levels[i])) for i in range(2)]
        assert torch.allclose(law.score(x, levels), torch.cat(each))
