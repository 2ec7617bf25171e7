"""Problems with exact answers: the answers against others."""

import math

import pytest
import torch
from scipy.stats import kstest

import posteria as po
from helpers import F64
from posteria.analytic.quadrature import Quadrature
from posteria.metrics.distribution import (
    covariance_error,
    mean_error,
    moments,
    sliced_wasserstein,
    two_sample_floor,
    variance_ratio,
)
from posteria.problems.toy import (
    PROBLEMS,
    Problem,
    banana,
    gaussian_correlated,
    gaussian_half,
    gmm25,
    nonlinear_2d,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reference(problem: Problem, n: int = 400_000) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Draws of the prior with weights of the posterior, and the log of the mean likelihood."""
    target = problem.target
    assert isinstance(target.prior, po.GaussianMixture)
    x = target.prior.sample(n, generator(99))
    log_weight = target.likelihood.log_prob(target.y, x)
    evidence = float(log_weight.logsumexp(0)) - math.log(n)
    return x, log_weight.softmax(0), evidence


@pytest.mark.parametrize("name", PROBLEMS)
def test_exact_law_is_the_posterior(name: str) -> None:
    # Catches: the answer to another measurement, a noise level that the likelihood does not have,
    # an evidence in other units.
    problem = PROBLEMS[name](seed=1)
    target = problem.target
    x = problem.exact.sample(500, generator())
    assert x.shape == (500, *target.space.shape) and x.dtype == F64
    prior = target.prior
    assert isinstance(prior, po.Gaussian | po.GaussianMixture)
    joint = prior.log_prob(x) + target.likelihood.log_prob(target.y, x)
    assert torch.allclose(joint - problem.log_evidence, problem.exact.log_prob(x), atol=1e-6)
    law = moments(problem.exact)
    d, n = target.space.size, len(x)
    assert mean_error(x, law.mean, law.std) < 4 / math.sqrt(n)
    assert abs(variance_ratio(x, law.std) - 1) < 0.3
    # Entries of a sample covariance scatter by about 1 / sqrt(n), more where modes are rare.
    assert covariance_error(x, law.covariance) < 3 * math.sqrt((d + 1) / (n - 1))


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_seed_is_an_instance(name: str) -> None:
    a, b, other = PROBLEMS[name](seed=3), PROBLEMS[name](seed=3), PROBLEMS[name](seed=4)
    assert torch.equal(a.target.y, b.target.y) and torch.equal(a.truth, b.truth)
    assert not torch.equal(a.target.y, other.target.y)
    single = PROBLEMS[name](seed=3, dtype=torch.float32)
    assert single.truth.dtype == single.target.y.dtype == torch.float32
    assert single.exact.sample(2, generator()).dtype == torch.float32
    joint = single.target.likelihood.log_prob(single.target.y, single.truth)
    assert joint.dtype == torch.float32 and math.isfinite(single.log_evidence)


def test_half_of_a_gaussian_is_seen() -> None:
    # In units of the scale all scales have one posterior.
    small, large = gaussian_half(0.25, 6, seed=2), gaussian_half(1.0, 6, seed=2)
    mean, covariance = moments(large.exact)
    assert torch.allclose(4 * moments(small.exact).mean, mean)
    assert torch.allclose(16 * moments(small.exact).covariance, covariance)
    assert torch.allclose(covariance.diagonal(), torch.tensor([0.2] * 3 + [1.0] * 3, dtype=F64))
    assert torch.allclose(mean[:3], 0.8 * large.target.y) and (mean[3:] == 0).all()
    # What the docstring says of samples that ignore the measurement.
    gaps = [moments(gaussian_half(seed=s).exact).mean[:4] / math.sqrt(0.2) for s in range(400)]
    assert float(torch.stack(gaps).square().mean().sqrt()) == pytest.approx(2, rel=0.06)
    with pytest.raises(po.InputError, match="scale"):
        gaussian_half(0.0)


def test_correlated_gaussian_has_the_spectrum_of_its_docstring() -> None:
    problem = gaussian_correlated(10, 4, seed=5)
    prior = problem.target.prior
    assert isinstance(prior, po.Gaussian)
    values = torch.linalg.eigvalsh(prior.covariance).flip(0)
    assert torch.allclose(values, torch.arange(1, 11, dtype=F64) ** -2.0)
    assert problem.target.y.shape == (4,) and problem.truth.shape == (10,)
    with pytest.raises(po.InputError, match="d_y=11"):
        gaussian_correlated(10, 11)


def test_gmm25_refuses_what_it_is_not() -> None:
    with pytest.raises(po.InputError, match="d=7"):
        gmm25(7, 2, seed=0)
    with pytest.raises(po.InputError, match="d_y=9"):
        gmm25(8, 9, seed=0)


def test_gmm25_in_many_dimensions() -> None:
    # Catches: 25 decompositions where one serves, tensors [n, 25, 200, 200].
    problem = gmm25(200, 4, seed=0)
    x = problem.exact.sample(2000, generator())
    floor = two_sample_floor(problem.exact.sample, 200, repetitions=3)
    assert sliced_wasserstein(x, problem.exact.sample(200, generator(1))) < 3 * floor.mean


def test_banana_is_smooth_and_bent() -> None:
    prior = banana().target.prior
    assert isinstance(prior, po.GaussianMixture)
    a = torch.linspace(-1.5, 1.5, 301, dtype=F64)
    ridge = prior.log_prob(torch.stack([a, (a**2 - 1) / 2], -1))
    # No ripple: along the ridge the density bends down everywhere, as a Gaussian's does.
    assert (ridge.diff().diff() < 0).all()
    x = prior.sample(20_000, generator())
    assert torch.corrcoef(x.mT)[0, 1].abs() < 0.05
    assert torch.corrcoef(torch.stack([x[:, 0] ** 2, x[:, 1]]))[0, 1] > 0.9


def test_quadrature_against_a_mixture_in_closed_form() -> None:
    # Catches: the volume of a cell left out of the evidence, axes that are swapped, a covariance
    # about 0.
    problem = banana(seed=1)
    target, law = problem.target, moments(problem.exact)
    prior = target.prior
    assert isinstance(prior, po.GaussianMixture)
    grid = Quadrature(
        lambda x: prior.log_prob(x) + target.likelihood.log_prob(target.y, x),
        low=[-5, -3],
        high=[5, 7],
        cells=200,
    )
    assert grid.log_evidence == pytest.approx(problem.log_evidence, abs=1e-10)
    assert torch.allclose(grid.mean, law.mean, atol=1e-10)
    assert torch.allclose(grid.covariance, law.covariance, atol=1e-10)
    x = problem.exact.sample(3000, generator())
    assert torch.allclose(grid.log_prob(x), problem.exact.log_prob(x), atol=1e-9)
    floor = two_sample_floor(problem.exact.sample, 3000, repetitions=10)
    distance = sliced_wasserstein(grid.sample(3000, generator(1)), x)
    assert distance < floor.mean + 5 * math.sqrt(10) * floor.standard_error


def test_draws_of_a_coarse_quadrature_are_exact() -> None:
    # Catches: draws that are uniform within their cell, whose variance is 1 + 0.5^2 / 12.
    law = Quadrature(lambda x: -(x[:, 0] ** 2) / 2, low=[-6], high=[6], cells=24)
    x = law.sample(100_000, generator())[:, 0]
    assert law.log_evidence == pytest.approx(math.log(2 * math.pi) / 2)
    assert kstest(x, "norm").pvalue > 1e-3
    assert float(x.var()) == pytest.approx(1, abs=0.015)
    assert law.sample(0, generator()).shape == (0, 1)
    assert law.log_prob(x[:6].reshape(2, 3, 1)).shape == (2, 3)
    assert torch.equal(law.sample(5, generator(3)), law.sample(5, generator(3)))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["radius", "product"])
def test_nonlinear_posterior_against_importance_sampling(kind: str, seed: int) -> None:
    problem = nonlinear_2d(kind, seed)
    assert isinstance(problem.exact, Quadrature)
    x, weight, evidence = reference(problem)
    effective = float(1 / (weight**2).sum())
    assert effective > 5000
    assert problem.log_evidence == pytest.approx(evidence, abs=5 / math.sqrt(effective))
    mean = weight @ x
    covariance = (x - mean).mT @ (weight[:, None] * (x - mean))
    law = moments(problem.exact)
    error = 5 * float(law.std.max()) / math.sqrt(effective)
    assert torch.allclose(law.mean, mean, atol=error)
    assert torch.allclose(law.covariance, covariance, atol=2 * float(law.std.max()) * error)
    # Not only moments: an equal number of exact draws by another way.
    chosen = x[torch.multinomial(weight, 2000, replacement=True, generator=generator())]
    floor = two_sample_floor(problem.exact.sample, 2000, repetitions=10)
    distance = sliced_wasserstein(problem.exact.sample(2000, generator(1)), chosen)
    assert distance < floor.mean + 5 * math.sqrt(10) * floor.standard_error


def test_nonlinear_problems_have_more_than_one_mode() -> None:
    x = nonlinear_2d("product", seed=1).exact.sample(2000, generator())
    share = float((x[:, 0] > 0).double().mean())
    assert 0.05 < share < 0.95
    with pytest.raises(po.InputError, match="no kind 'ring'"):
        nonlinear_2d("ring")


def test_a_sampler_runs_on_each() -> None:
    sampler = po.DPS(schedule=po.Karras(steps=5))
    for name, build in PROBLEMS.items():
        x = sampler.sample(build(seed=0).target, seeds=range(2))
        assert x.isfinite().all(), name


def test_quadrature_says_what_it_cannot_do() -> None:
    def log_density(x: torch.Tensor) -> torch.Tensor:
        return -(x**2).sum(-1) / 2

    with pytest.raises(po.InputError, match="beyond the box"):
        Quadrature(log_density, [-2, -6], [2, 6], cells=100)
    with pytest.raises(po.InputError, match="too rough for cells=10"):
        Quadrature(log_density, [-6, -6], [6, 6], cells=10)
    with pytest.raises(po.InputError, match="lower corner"):
        Quadrature(log_density, [6, -6], [-6, 6])
    with pytest.raises(po.ShapeError, match="two corners"):
        Quadrature(log_density, [-6, -6], [6])
    with pytest.raises(po.InputError, match="above 0 somewhere"):
        Quadrature(lambda x: x[:, 0] - math.inf, [-6], [6])
    for cells in (1, 100.5):
        with pytest.raises(po.InputError, match="cells is an integer of at least 2"):
            Quadrature(log_density, [-6], [6], cells=cells)  # type: ignore[arg-type]
    for wrong in (lambda x: -(x**2) / 2, lambda x: log_density(x.float())):
        with pytest.raises(po.ShapeError, match="to one number each; this one gives"):
            Quadrature(wrong, [-6], [6])
    with pytest.raises(po.ShapeError, match="x has shape"):
        Quadrature(log_density, [-6, -6], [6, 6]).log_prob(torch.zeros(3))
