"""The tempered sampler: its law, its evidence and what its moves keep, where they are known."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import posteria as po
from helpers import F64, gaussian, linear_posterior, mixture, normal
from posteria.metrics.distribution import sliced_wasserstein, two_sample_floor
from posteria.samplers import cost
from posteria.samplers.particles.tempered.measurement import TemperedState
from posteria.samplers.particles.tempered.reflection import reach
from posteria.samplers.particles.tempered.sampler import Tempered
from posteria.target import metered

SHORT = po.Karras(steps=20, sigma_max=100.0)


def oblique(several: bool) -> po.Posterior:
    """Four directions of which one is a hundred times tighter, none along an axis, and a matrix across them."""
    axes = torch.linalg.qr(normal(4, 4, seed=3)).Q
    stds = torch.tensor([1.0, 0.8, 0.5, 0.01], dtype=F64)
    prior = po.Gaussian(normal(4, seed=4), (axes * stds**2) @ axes.mT)
    std = torch.tensor([0.05, 0.4], dtype=F64) if several else 0.2
    operator = po.operators.Matrix(normal(2, 4, seed=5))
    return po.Posterior(prior, po.GaussianLikelihood(operator, std), normal(2, seed=6))


def whitened(x: Tensor, law: po.Gaussian) -> Tensor:
    """Draws of a Gaussian as standard normal ones."""
    root = torch.linalg.cholesky(law.covariance)
    return torch.linalg.solve_triangular(root, (x - law.mean).mT, upper=False).mT


@pytest.mark.parametrize("several", [False, True], ids=["one noise", "two noises"])
def test_law_and_evidence_of_a_gaussian_with_a_tight_oblique_direction(several: bool) -> None:
    # Catches: z without its share of the noise, a reflection about another point than D(z), noise levels that are
    # not taken entry by entry, a constant that the decomposition loses, log-determinants of the tempered noise.
    target = oblique(several)
    assert isinstance(target.prior, po.Gaussian)
    exact = target.prior.posterior(target.likelihood, target.y)
    run = Tempered(schedule=SHORT, particles=512).run(target, range(1024))
    z = whitened(run.x, exact)
    assert z.mean(0).abs().max() < 0.1
    assert (torch.cov(z.mT) - torch.eye(4, dtype=F64)).abs().max() < 0.12
    assert run.log_evidence is not None
    error = run.log_evidence - target.prior.log_evidence(target.likelihood, target.y)
    assert abs(float(error.mean())) < 0.12


@pytest.mark.parametrize("seed", [0, 1])
def test_law_and_evidence_of_a_mixture(seed: int) -> None:
    # Ratios 0.9 to 1.3 and errors to 0.15 nat. Catches: shares of modes that the weights do not decide.
    target = linear_posterior(mixture(seed=seed))
    assert isinstance(target.prior, po.GaussianMixture)
    exact = target.prior.posterior(target.likelihood, target.y)
    floor = two_sample_floor(exact.sample, 512, repetitions=4).mean
    runs = Tempered(schedule=SHORT, particles=512).run(target, range(2 * 512))
    draws = exact.sample(1024, torch.Generator().manual_seed(1)).split(512)
    pairs = zip(runs.x.split(512), draws, strict=True)
    assert sum(sliced_wasserstein(x, y) for x, y in pairs) / 2 < 1.6 * floor
    assert runs.log_evidence is not None
    error = runs.log_evidence - target.prior.log_evidence(target.likelihood, target.y)
    assert abs(float(error.mean())) < 0.25


@pytest.mark.parametrize(("tau", "reach"), [(0.0, math.inf), (0.3, math.inf), (0.3, 0.25)])
def test_moves_keep_the_tempered_posterior(tau: float, reach: float) -> None:
    # An identity: exact draws go in, and exact draws come out. Catches: a measurement noise of z or a gain that
    # leaves another law in place, which sweeps between weights would hide; a reverse run that ends with an estimate,
    # which has none of the variance that is left at its last level.
    target, n = oblique(several=False), 40_000
    assert isinstance(target.prior, po.Gaussian)
    sampler = Tempered(particles=n, points=4, reflections=1 if reach < tau else 2)
    problem, rng = sampler.arrange(target, [0])
    noise = normal(1, 1, 2, seed=9)
    matrix = target.likelihood.operator.matrix()  # type: ignore[attr-defined]
    u, s, _ = torch.linalg.svd(matrix)
    y = target.y + u @ (math.sqrt(tau) * s * noise[0, 0])
    # The tempered measurement is one of the operator in the basis in which its noise is independent.
    variance = 0.2**2 + tau * s**2
    seen = po.operators.Matrix((u.mT @ matrix) / variance.sqrt()[:, None])
    exact = target.prior.posterior(po.GaussianLikelihood(seen, 1.0), (u.mT @ y) / variance.sqrt())
    x = exact.sample(n, torch.Generator().manual_seed(2))[None]
    zeros = torch.zeros(1, n, dtype=F64)
    state = TemperedState(
        x=x,
        x0=x,
        log_weight=zeros,
        log_evidence=zeros[:, 0],
        tau=torch.tensor([tau], dtype=F64),
        noise=noise,
        reach=reach,
    )
    *_, moved = sampler._move(problem, state, rng)
    z = whitened(moved[0], exact)
    assert z.mean(0).abs().max() < 5 / n**0.5
    # What is reflected is exact, and a run of few evaluations nearly.
    error = (torch.cov(z.mT) - torch.eye(4, dtype=F64)).abs().max()
    assert error < (7 / n**0.5 if reach > tau else 0.1)


def test_reflections_reach_as_far_as_a_law_is_symmetric() -> None:
    # Catches: a reach that grows with the distance of modes rather than with their width, one of a fixed size.
    assert reach(gaussian()) == math.inf
    for scale in (1.0, 0.1):
        covariances = (0.1 * scale) ** 2 * torch.eye(2, dtype=F64).expand(2, 2, 2)
        means = torch.tensor([[-scale, 0.0], [scale, 0.0]], dtype=F64)
        apart = po.GaussianMixture(torch.tensor([0.3, 0.7], dtype=F64), means, covariances)
        assert 0.05 * scale < reach(apart) < 0.45 * scale


def test_moves_reach_all_modes_where_the_noise_allows_it() -> None:
    # Catches: reflections alone where the measurement itself is noisier than they reach, which never leave a mode and
    # whose errors add up.
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=F64)
    prior = po.GaussianMixture(
        torch.tensor([0.3, 0.7], dtype=F64), means, 0.01 * torch.eye(2, dtype=F64).expand(2, 2, 2)
    )
    target = po.Posterior(
        prior, po.GaussianLikelihood(po.operators.Identity((2,)), 2.0), torch.zeros(2, dtype=F64)
    )
    n = 2000
    sampler = Tempered(particles=n)
    problem, rng = sampler.arrange(target, [0])
    x = means[0] + 0.1 * normal(1, n, 2, seed=3)
    zeros = torch.zeros(1, n, dtype=F64)
    state = TemperedState(
        x=x,
        x0=x,
        log_weight=zeros,
        log_evidence=zeros[:, 0],
        tau=zeros[:, 0],
        noise=torch.zeros(1, 1, 2, dtype=F64),
        reach=reach(prior),
    )
    for _ in range(6):
        *_, moved = sampler._move(problem, state, rng)
        state = replace(state, x=moved, count=state.count + 1)
    right = moved[0, :, 0] > 0
    assert abs(float(right.double().mean()) - 0.7) < 0.05
    spread = (moved[0] - means[right.long()]).std(0)
    assert (spread - 0.1).abs().max() < 0.02


def test_the_way_down_keeps_a_wide_mode() -> None:
    # Catches: a measurement that stays as precise as it is while its stated noise is large: the narrow mode then
    # has all but e^-9 of the weight on the way, and the posterior's own mode is lost for good.
    d = 100
    means = torch.zeros(2, d, dtype=F64)
    means[1, 0] = 2.0
    covariances = torch.stack([c * torch.eye(d, dtype=F64) for c in (0.02, 0.06)])
    prior = po.GaussianMixture(torch.tensor([0.5, 0.5], dtype=F64), means, covariances)
    mask = torch.ones(d, dtype=torch.bool)
    likelihood = po.GaussianLikelihood(po.operators.Inpainting(mask, (d,)), 0.1)
    y = prior.means[1] + math.sqrt(0.07) * normal(d, seed=1)
    y[0] = 1.0
    exact = prior.posterior(likelihood, y)
    assert exact.weights[1] > 0.99
    x = Tempered(particles=64).sample(po.Posterior(prior, likelihood, y), range(64))
    assert exact._at(x, 1e-3)[2][:, 1].mean() > 0.95


def test_the_cost_is_the_one_that_is_declared() -> None:
    target, sampler = linear_posterior(mixture()), Tempered(particles=16, schedule=SHORT)
    counted, meter = metered(target)
    sampler.sample(counted, [0])
    # Draws of the prior and the level of reflections, which are measured once a prior.
    assert meter.forward - sampler.evaluations(target) == 23 * 32 + 3 * 10 * 4 * 32
    before = meter.forward
    sampler.sample(counted, [0])
    assert meter.forward - before == sampler.evaluations(target)
    assert meter.backward == 0
    bought = po.at_budget(Tempered(reach=0.3), target, 500)
    assert 480 < cost(bought, target) <= 500


def test_the_measurement_has_no_noise_along_its_leading_directions() -> None:
    # An identity. Catches: a projection on other directions than the leading ones, which modes are told apart by, and
    # one that takes noise away from the others.
    operator = po.operators.Inpainting(torch.arange(16) < 12, (16,))
    target = po.Posterior(
        po.Gaussian(torch.zeros(16, dtype=F64), torch.eye(16, dtype=F64)),
        po.GaussianLikelihood(operator, 0.1),
        torch.zeros(12, dtype=F64),
    )
    problem, _ = Tempered().arrange(target, [0, 1])
    x, noise = normal(2, 64, 16, seed=1), normal(2, 1, 12, seed=2)
    quiet = problem.quiet(noise, x)
    for seen, before, after in zip(problem.measured(x), noise, quiet, strict=True):
        axes = torch.linalg.svd(seen - seen.mean(0)).Vh
        assert (after @ axes[:4].mT).abs().max() < 1e-9
        assert torch.allclose(after @ axes[4:].mT, before @ axes[4:].mT, atol=1e-9)


def test_levels_are_equally_far_from_each_other() -> None:
    # Catches: a way whose length is known too late, so that one of its steps, most often the last, is far too long:
    # the posterior is then that of a few particles, and log p(y) is off by many times 0.5.
    prior = po.Gaussian(torch.zeros(40, dtype=F64), torch.eye(40, dtype=F64))
    operator = po.operators.Inpainting(torch.ones(40, dtype=torch.bool), (40,))
    target = po.Posterior(prior, po.GaussianLikelihood(operator, 0.1), normal(40, seed=3))
    sampler = Tempered(schedule=po.Karras(steps=40, sigma_max=100.0), reach=math.inf)
    run = sampler.run(target, range(256))
    assert run.ess is not None and run.ess[0] > 0.3 * 256
    assert run.log_evidence is not None
    exact = prior.log_evidence(target.likelihood, target.y)
    assert abs(float(run.log_evidence[0] - exact)) < 0.5


def test_a_population_is_a_function_of_its_seed() -> None:
    # Catches: levels, noises or moves of one population that another one of the batch decides.
    target, sampler = linear_posterior(mixture()), Tempered(particles=16, schedule=SHORT)
    both = sampler.run(target, range(32))
    alone = sampler.run(target, range(16, 32))
    assert torch.allclose(both.x[16:], alone.x, rtol=0, atol=1e-10)
    assert both.log_evidence is not None and alone.log_evidence is not None
    assert torch.allclose(both.log_evidence[1:], alone.log_evidence)


def test_the_effective_size_is_that_of_the_particles_that_are_given_back() -> None:
    # Catches: a size of all states that the particles were taken from: of one that has all the weight it is 1.
    target = linear_posterior(mixture())
    far = replace(target, y=torch.full_like(target.y, 5.0))
    for posterior, least, most in ((target, 1.3, 16.0), (far, 1.0, 2.0)):
        run = Tempered(particles=16, schedule=SHORT).run(posterior, range(16))
        assert run.ess is not None and least <= float(run.ess[0]) <= most


def test_what_it_cannot_do_is_refused_in_a_sentence() -> None:
    target = linear_posterior(mixture())
    with pytest.raises(po.InputError, match="is not far above the prior"):
        Tempered(schedule=po.Karras(sigma_max=2.0)).sample(target, [0])
    for name, value in {
        "particles": 3,
        "threshold": 1.0,
        "points": 1,
        "reflections": 0,
        "rest": 1.0,
        "reach": 0.0,
    }.items():
        with pytest.raises(po.InputError, match=f"{name} of Tempered"):
            Tempered(**{name: value})
    with pytest.raises(po.CapabilityError, match="LinearOperator"):
        curved = po.operators.Function(lambda x: x**2, (4,))
        likelihood = po.GaussianLikelihood(curved, 0.1)
        Tempered().sample(po.Posterior(target.prior, likelihood, torch.ones(4)), [0])
    with pytest.raises(po.InputError, match=r"measures nothing: .* the posterior is the prior"):
        blind = po.GaussianLikelihood(po.operators.Matrix(torch.zeros(2, 4)), 0.1)
        Tempered().sample(po.Posterior(target.prior, blind, torch.ones(2)), [0])
    with pytest.raises(po.InputError, match="noise level"):
        po.GaussianLikelihood(target.likelihood.operator, 0.0)  # type: ignore[attr-defined]
