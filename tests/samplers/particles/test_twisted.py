"""The exact sampler: the posterior, its evidence and its calibration, on problems whose answers are known."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from helpers import F64, gaussian, linear_posterior, mixture, normal
from posteria.metrics.calibration import sbc_ranks, uniformity
from posteria.metrics.distribution import (
    mean_error,
    moments,
    sliced_wasserstein,
    two_sample_floor,
    variance_ratio,
)
from posteria.problems.toy import PROBLEMS, gmm25
from posteria.samplers.particles.exact import Exact
from posteria.samplers.particles.twist import Dense, Isotropic, MonteCarlo, Place, Scalar

SMALL = Exact(schedule=po.Karras(steps=8, sigma_min=0.05, sigma_max=50.0), particles=16)


def steps(n: int, **more: float) -> po.Karras:
    return po.Karras(steps=n, sigma_min=0.01, sigma_max=1000.0, **more)


@pytest.mark.parametrize("name", ["gaussian-half", "gaussian-half-small", "gaussian-correlated"])
def test_moments_on_gaussians_of_any_scale(name: str) -> None:
    # Catches: a reverse kernel without the variance of x_0 (6 % too narrow at 200 levels), a twist
    # that assumes unit variance, a start that is too narrow.
    problem = PROBLEMS[name](seed=1)
    x = Exact().sample(problem.target, seeds=range(2048))
    exact = moments(problem.exact)
    assert mean_error(x, exact.mean, exact.std) < 0.05
    assert 0.95 < variance_ratio(x, exact.std) < 1.05


@pytest.mark.parametrize("several", [False, True])
def test_the_constant_of_an_operator_without_a_decomposition(several: bool) -> None:
    # Catches: a signal that divides, a level of noise where there are several, a 2 pi that is lost. At the last level
    # of usual schedules the signal is too small for an evidence to show it.
    matrix = normal(3, 4, seed=5)
    operator = po.operators.LinearFunction(lambda x: x @ matrix.mT, po.Space((4,), F64))
    std = torch.linspace(0.2, 0.5, 3, dtype=F64) if several else 0.3
    likelihood = po.GaussianLikelihood(operator, std=std)
    target = po.Posterior(mixture(), likelihood, normal(3, seed=6))
    at = Place(target.space.zeros(1, 1), 0.4, 0.0, 0.7, 0.0, target.y)
    noise = torch.as_tensor(std, dtype=F64).expand(3).square().diag()
    law = torch.distributions.MultivariateNormal(target.y, noise + 0.7 * matrix @ matrix.mT)
    found = Isotropic().constant(target, at)
    assert float(found) == pytest.approx(float(law.log_prob(target.y)), rel=1e-9)


def test_a_scalar_twist_is_a_normal_density_of_the_mean_and_variance_of_what_is_missed() -> None:
    # Catches: a twist of another temperature, a bias of the other sign, and a slope that is not its gradient: weights
    # mend all of them in the end, at the cost of particles.
    matrix = normal(3, 4, seed=5)
    operator = po.operators.Function(lambda x: torch.tanh(x @ matrix.mT), po.Space((4,), F64))
    likelihood = po.GaussianLikelihood(operator, std=0.3)
    target = po.Posterior(mixture(), likelihood, normal(3, seed=6))
    at = Place(normal(1, 2, 4, seed=7), 0.8, 0.5, 0.6, 0.2, 0.1 * normal(3, seed=8))

    def log_density(x: Tensor) -> Tensor:
        missed = target.y - operator(target.prior(x, at.sigma)) - at.bias
        return -missed.square().sum(-1) / (2 * (0.3**2 + at.measured))

    value = Scalar().evaluate(target, at, po.Rng([0]))
    assert torch.allclose(value.log_value, log_density(at.x))
    with torch.enable_grad():
        x = at.x.clone().requires_grad_()
        slope = torch.autograd.grad(log_density(x).sum(), x)[0]
    assert torch.allclose(torch.as_tensor(value.slope), slope)


@pytest.mark.parametrize("d_y", [1, 2, 4])
def test_at_the_floor_on_a_mixture(d_y: int) -> None:
    # 0.95, 0.70 and 0.88. Catches: weights that forget the push or the twist; wrong shares (published
    # methods are 3 to 85 times above the floor).
    ratios = []
    for seed in range(4):
        problem = gmm25(8, d_y, seed=800 + 10 * d_y + seed)
        floor = two_sample_floor(problem.exact.sample, 512, repetitions=4).mean
        exact = problem.exact.sample(512, torch.Generator().manual_seed(seed))
        x = Exact().sample(problem.target, seeds=range(512))
        ratios.append(sliced_wasserstein(x, exact) / floor)
    assert sum(ratios) / 4 < 1.2


def test_nonlinear_posterior() -> None:
    # Catches: weights of the linearised measurement where the true one is asked for.
    for kind in ("radius", "product"):
        problem = PROBLEMS[kind](seed=2)
        floor = two_sample_floor(problem.exact.sample, 512, repetitions=4).mean
        exact = problem.exact.sample(512, torch.Generator().manual_seed(0))
        x = Exact(schedule=steps(100)).sample(problem.target, seeds=range(512))
        assert sliced_wasserstein(x, exact) < 2 * floor


@pytest.mark.parametrize("dense", [0, 16], ids=["spread", "dense"])
def test_evidence(dense: int) -> None:
    # Catches: a constant that is lost between the twists (log-determinant, 2 pi), weights that
    # are dropped at a resampling.
    errors = []
    for seed in range(4):
        target = linear_posterior(mixture(4, seed=seed))
        sampler = Exact(schedule=steps(100), dense=dense)
        *_, state = sampler.iterate(target, range(512))
        exact = mixture(4, seed=seed).log_evidence(target.likelihood, target.y)
        errors.append(abs(float(state.log_evidence[0] - exact)))
    assert sum(errors) / 4 < 0.15


def test_the_evidence_is_unbiased() -> None:
    # Few particles, whose estimates scatter by 5 to 10 %; 100 steps leave -0.014 +- 0.003. Catches:
    # noise of pairs that is not standard normal, an order that looks at what is drawn later.
    prior = mixture(4, seed=1)
    target = linear_posterior(prior)
    estimates = Exact(schedule=steps(100), particles=16).log_evidence(
        target, range(0, 200 * 16, 16)
    )
    ratio = (estimates - prior.log_evidence(target.likelihood, target.y)).exp()
    assert abs(float(ratio.mean()) - 1) < 0.04


def test_any_log_density() -> None:
    # The Gaussian likelihood, told as a function only. Catches: a Monte Carlo twist whose mean is
    # not divided by its draws, a last weight that is missing.
    prior = gaussian(2)
    target = linear_posterior(prior, m=1)
    given = target.likelihood
    own = po.FunctionLikelihood(given.log_prob)
    exact = prior.posterior(given, target.y)
    *_, state = Exact().with_steps(80).iterate(po.Posterior(prior, own, target.y), range(2048))
    x = state.x.flatten(0, 1)
    std = exact.covariance.diagonal().sqrt()
    assert ((x.mean(0) - exact.mean) / std).abs().max() < 0.1
    assert ((x.var(0) / std**2) - 1).abs().max() < 0.12
    assert abs(float(state.log_evidence.mean() - prior.log_evidence(given, target.y))) < 0.1


def scales(*stds: float, seed: int = 0) -> tuple[po.Gaussian, torch.Tensor]:
    """A Gaussian of these standard deviations along the columns of a random rotation, and that rotation."""
    turn, _ = torch.linalg.qr(normal(len(stds), len(stds), seed=seed))
    covariance = (turn * torch.tensor(stds, dtype=F64) ** 2) @ turn.mT
    return po.Gaussian(normal(len(stds), seed=1), (covariance + covariance.mT) / 2), turn


WIDE, TIGHT = 0, -1
SEVERAL = {
    "a wide one is measured": ((1.0, 1.0, 1.0, 1e-3), [WIDE], 0.1, F64, 16),
    "the tight one is measured": ((1.0, 1.0, 1.0, 1e-3), [TIGHT], 0.01, F64, 16),
    "the tight one is measured, mean variance": ((1.0, 1.0, 1.0, 1e-3), [TIGHT], 0.01, F64, 0),
    "oblique": ((1.0, 1.0, 1.0, 1e-3), [], 0.05, F64, 16),
    # A covariance in float32 has an error of 1e-7 of its largest entry.
    "oblique, float32": ((1.0, 1.0, 1.0, 1e-2), [], 0.05, torch.float32, 16),
    "oblique, mean variance": ((1.0, 1.0, 1.0, 1e-3), [], 0.05, F64, 0),
    "four scales": ((1.0, 0.1, 0.01, 1e-3), [], 0.05, F64, 16),
    "four scales, several measurements": ((1.0, 0.1, 0.01, 1e-3), [WIDE, 1, TIGHT], 0.05, F64, 16),
    "a large signal": ((10.0, 10.0, 0.01), [WIDE], 1.0, F64, 16),
    "a signal below the lowest level": ((1e-3, 1e-3, 1e-3), [WIDE], 1e-4, F64, 16),
}


@pytest.mark.parametrize("case", SEVERAL.values(), ids=SEVERAL)
def test_every_direction_of_a_prior_of_several_scales(case: Any) -> None:
    # Catches: a last draw from a level at which x says nothing of a tight direction, with a root that leaves 0.23
    # sigma there (49 times too wide); noise of the reverse kernel that is the same in all directions (10 to
    # 30 % too wide); levels that end above a small signal.
    stds, measured, std, dtype, dense = case
    prior, turn = scales(*stds)
    rows = turn.mT[measured] if measured else turn.sum(1)[None]
    likelihood = po.GaussianLikelihood(po.operators.Matrix(rows, (len(stds),)), std)
    y = rows @ prior.mean + std * normal(len(rows), seed=2)
    exact = prior.posterior(likelihood, y)
    target = po.Posterior(
        po.Gaussian(prior.mean.to(dtype), prior.covariance.to(dtype)), likelihood, y
    )
    sampler = Exact(schedule=steps(400 if std < 0.05 else 200), dense=dense)
    x = sampler.sample(target, range(3072)).double()
    values, vectors = torch.linalg.eigh(exact.covariance)
    z = ((x - exact.mean) @ vectors) / values.sqrt()
    # Of independent draws the least and largest of four are 0.98 and 1.02.
    assert z.std(0).min() > 0.95 and z.std(0).max() < 1.05
    assert z.mean(0).abs().max() < 0.05


@pytest.mark.parametrize("kind", ["nonlinear", "function"])
def test_a_tight_direction_beside_any_measurement(kind: str) -> None:
    # Catches: a last draw that has the same noise in all directions; a function of one batch axis that is
    # given particles as its first event axis.
    prior = po.Gaussian(
        torch.zeros(4, dtype=F64), torch.diag(torch.tensor([1, 1, 1, 1e-6], dtype=F64))
    )
    wave = po.operators.Function(lambda x: x[:, :1].tanh(), prior.space)
    likelihoods: dict[str, po.likelihood.Likelihood] = {
        "nonlinear": po.GaussianLikelihood(wave, std=0.2),
        "function": po.FunctionLikelihood(lambda y, x: -(x[:, 0] - y[..., 0]).square(), (1,)),
    }
    y = torch.tensor([0.5], dtype=F64)
    sampler = Exact(schedule=steps(80))
    x = sampler.sample(po.Posterior(prior, likelihoods[kind], y), range(4096))
    assert (x[:, 1:].std(0) / prior.std[1:] - 1).abs().max() < 0.05
    if kind == "function":  # the posterior of the first entry is N(1/3, 1/3)
        assert abs(x[:, 0].mean() - 1 / 3) < 0.05 and abs(x[:, 0].std() * 3**0.5 - 1) < 0.05


def test_a_tight_component_of_a_mixture() -> None:
    # Catches: levels that end where the component is not seen, and a share of it that the noise there decides.
    means = torch.tensor([[-2.0, 0, 0], [2, 1, 0], [0, 0, 0]], dtype=F64)
    widths = torch.tensor([0.5, 0.2, 1e-6], dtype=F64)[:, None, None]
    prior = po.GaussianMixture(
        torch.tensor([0.6, 0.35, 0.05]), means, widths * torch.eye(3, dtype=F64)
    )
    operator = po.operators.Matrix(torch.tensor([[1.0, 0.5, 0.0]], dtype=F64))
    likelihood, y = po.GaussianLikelihood(operator, std=0.5), torch.tensor([0.3], dtype=F64)
    exact = prior.posterior(likelihood, y)
    x = Exact().sample(po.Posterior(prior, likelihood, y), range(4096))
    tight = x.norm(dim=1) < 8e-3
    assert 0.5 < exact.weights[2] < 0.9
    assert abs(tight.double().mean() - exact.weights[2]) < 0.04
    assert (x[tight].std(0) / 1e-3 - 1).abs().max() < 0.05


def test_levels_that_say_too_little_are_refused() -> None:
    # Catches: one step, of which x_0 would be drawn at the highest level, 220 times too wide.
    target = linear_posterior(gaussian(4))
    for schedule in (steps(1), po.schedules.VP(steps=1)):
        with pytest.raises(po.InputError, match="says too little of x_0"):
            Exact(schedule=schedule).sample(target, range(2))


def test_levels_end_where_every_direction_is_resolved() -> None:
    # Catches: a mean over directions in place of the narrowest one, which ends ten times too high here.
    narrow = torch.diag(torch.tensor([0.01, 1.0, 1.0, 1.0], dtype=F64))
    prior = po.Gaussian(torch.zeros(4, dtype=F64), narrow)
    target = linear_posterior(prior)
    *_, state = Exact(schedule=steps(100), pinned=0.8).iterate(target, range(2))
    lowest = float(state.levels[-2])
    assert 0.02 < lowest < 0.05  # 0.05 is where the narrowest is resolved to 0.8
    *_, state = Exact(schedule=steps(100), pinned=1.0).iterate(target, range(2))
    assert abs(float(state.levels[-2]) - 0.01) < 1e-12


def test_which_twist() -> None:
    sampler, prior = Exact(dense=2), gaussian(4)
    few, many = linear_posterior(prior, m=2), linear_posterior(prior, m=3)
    bent = po.operators.Function(torch.sin, po.Space((4,), F64))
    nonlinear = po.Posterior(prior, po.GaussianLikelihood(bent, std=1.0), normal(4))
    own = po.Posterior(prior, po.FunctionLikelihood(lambda y, x: -x.abs().sum(-1)), normal(1))
    kinds = [type(sampler.twist(target)) for target in (few, many, nonlinear, own)]
    assert kinds == [Dense, Isotropic, Scalar, MonteCarlo]


def test_noise_of_several_levels_is_whitened() -> None:
    # Catches: rows that are divided by one another's noise level.
    prior = gaussian(3)
    std = torch.tensor([0.1, 1.0, 3.0], dtype=F64)
    likelihood = po.GaussianLikelihood(po.operators.Matrix(normal(3, 3, seed=4)), std=std)
    y = normal(3, seed=5)
    exact = prior.posterior(likelihood, y)
    for dense in (0, 16):
        sampler = Exact(schedule=steps(100), dense=dense)
        x = sampler.sample(po.Posterior(prior, likelihood, y), seeds=range(2048))
        scale = exact.covariance.diagonal().sqrt()
        assert mean_error(x, exact.mean, scale) < 0.1
        assert 0.9 < variance_ratio(x, scale) < 1.1


def test_cost_is_that_of_the_levels_and_of_the_looks_at_the_prior() -> None:
    target = linear_posterior(mixture(3))
    counted = po.diffusion.Counted(target.prior)
    measured = po.Posterior(counted, target.likelihood, target.y)
    SMALL.sample(measured, seeds=range(16))
    # Of 32 draws D and 3 products with its Jacobian at 8 levels; the last draw takes 8 products and an evaluation.
    looks, last = (23 + 8) * 32, 16
    assert counted.meter.forward == looks + 8 * 16 + last
    assert counted.meter.backward == 3 * 8 * 32 + (8 * 2 + 8) * 16


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian-half", "gmm25-8-2"])
def test_calibration(name: str) -> None:
    # Simulation-based calibration, 500 simulations: a truth and its measurement, ranked among the
    # samples.
    ranks, generator = [], torch.Generator().manual_seed(0)
    for seed in range(500):
        problem = PROBLEMS[name](seed=seed)
        # A population of its own: the noise of one and the same would be in all ranks.
        seeds = range(256 * seed, 256 * seed + 99)
        x = Exact(schedule=steps(150), particles=256).sample(problem.target, seeds)
        ranks.append(sbc_ranks(x, problem.truth, generator))
    assert (uniformity(torch.stack(ranks), 99, bins=20) > 0.01 / 8).all()


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 1.5}, {"dense": -1}, {"particles": 1}, {"pinned": 0.0}],
    ids=lambda w: next(iter(w)),
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(po.InputError, match=next(iter(wrong))):
        Exact(**wrong)  # type: ignore[arg-type]


def test_a_log_density_may_exclude_signals() -> None:
    # A half of a Gaussian, whose evidence is 1/2. Catches: a particle that is excluded, whose slope is nan and ends the
    # run inside PyTorch; a nan that is taken for a weight of 0.
    prior, y = po.Gaussian(torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64)), torch.zeros(())
    sampler = Exact(schedule=po.Karras(steps=30, sigma_max=40.0), particles=512)
    half = po.FunctionLikelihood(lambda y, x: torch.where(x[:, 0] > 0, 0.0 * x[:, 0], -math.inf))
    run = sampler.run(po.Posterior(prior, half, y), range(1024))
    x = run.x[:, 0]
    assert run.x[:, 0].min() > 0
    assert run.log_evidence is not None
    assert (run.log_evidence - math.log(0.5)).abs().max() < 0.3
    assert abs(x.mean() - math.sqrt(2 / math.pi)) < 0.08
    assert 0.85 < x.var() / (1 - 2 / math.pi) < 1.15
    unknown = po.FunctionLikelihood(lambda y, x: x[:, 0].log())
    with pytest.raises(po.InputError, match="weight of a particle of Exact is nan"):
        sampler.sample(po.Posterior(prior, unknown, y), [0])
