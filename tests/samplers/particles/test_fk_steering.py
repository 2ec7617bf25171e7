"""FK steering: potentials that telescope, weights that are carried, and the law that is drawn."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from helpers import F64, gaussian, linear_posterior, mixture, normal
from posteria.core.meter import Meter
from posteria.core.rng import Rng
from posteria.diffusion.kernel import bridge
from posteria.guidance.classifiers.classifier import BayesClassifier
from posteria.guidance.classifiers.classifier_guidance import classified
from posteria.samplers.particles import fk, population
from posteria.samplers.particles.fk import (
    FK,
    Difference,
    FKState,
    Max,
    Potential,
    Sum,
    rewarded,
)
from posteria.target import Tilted
from posteria.testing import check_sampler, example_posterior

SHORT = po.schedules.LogLinear(steps=10, sigma_min=0.05, sigma_max=20.0)
SMALL: dict[str, FK] = {
    "max": FK(schedule=SHORT, particles=16),
    "difference": FK(schedule=SHORT, particles=16, potential=Difference(), threshold=1.0),
    "sum": FK(schedule=SHORT, particles=16, potential=Sum(0.1), threshold=0.0),
    "window": FK(schedule=SHORT, particles=16, every=3, window=(0.2, 0.8)),
}
POTENTIALS: list[Potential] = [Difference(), Max(), Max(0.3), Sum(), Sum(0.02)]


def last(sampler: FK, target: po.Posterior, populations: int) -> FKState:
    """The last state of whole populations."""
    seeds = [k * sampler.particles for k in range(populations)]
    *_, state = sampler.iterate(target, seeds)
    return state


@pytest.mark.parametrize("name", SMALL)
def test_battery(name: str) -> None:
    for kind in ("linear", "nonlinear"):
        given = example_posterior(kind)
        assert isinstance(given.likelihood, po.GaussianLikelihood)
        # Wide, since without a gradient few particles survive a narrow reward.
        likelihood = replace(given.likelihood, std=3.0)
        check_sampler(SMALL[name], po.Posterior(given.prior, likelihood, given.y))


def test_seeds_are_particles_of_populations() -> None:
    # Catches: memory of looks that is not selected with its particle, a population that knows another.
    sampler, target = SMALL["difference"], linear_posterior(mixture())
    sampler = replace(sampler, proposal=mixture(seed=1))
    whole = sampler.sample(target, range(32))
    assert torch.equal(whole, last(sampler, target, 2).x.flatten(0, 1))
    some = [17, 3, 31, 16, 0, 3]
    assert torch.allclose(sampler.sample(target, some), whole[some], rtol=0, atol=1e-10)
    stops = [(state, rng.state().clone()) for state, rng in sampler.checkpoints(target, some)]
    *_, resumed = sampler.iterate(target, some, resume=stops[4])
    assert torch.equal(sampler.draws(target, resumed, some), sampler.sample(target, some))


@pytest.mark.parametrize("name", SMALL)
def test_one_measurement_a_sample(name: str) -> None:
    # Catches: a reward by the measurement of another population.
    prior, sampler = mixture(), SMALL[name]
    likelihood, ys = linear_posterior(prior).likelihood, normal(3, 2, seed=5)[[0, 1, 2, 0]]
    together = sampler.sample(po.Posterior(prior, likelihood, ys), seeds=[4, 5, 22, 7])
    for i, seed in enumerate([4, 5, 22, 7]):
        alone = sampler.sample(po.Posterior(prior, likelihood, ys[i]), seeds=[seed])
        assert torch.allclose(alone[0], together[i], rtol=0, atol=1e-10)


def test_any_event_shape() -> None:
    # Catches: the ratio of the kernels summed over too few axes.
    means, eye = 2 * normal(2, 6), torch.eye(6, dtype=F64).expand(2, 6, 6)
    a, y, samples = normal(3, 6, seed=3), normal(3, seed=4), []
    for event in ((6,), (1, 2, 3)):
        one = po.GaussianMixture(torch.ones(2), means.reshape(2, *event), eye)
        two = po.GaussianMixture(torch.ones(2), means.flip(0).reshape(2, *event) / 2, eye)
        likelihood = po.GaussianLikelihood(po.operators.Matrix(a, event), std=0.5)
        sampler = replace(SMALL["max"], proposal=two)
        samples.append(sampler.sample(po.Posterior(one, likelihood, y), seeds=range(8)))
    assert torch.allclose(samples[0], samples[1].flatten(1), atol=1e-9)


# Weights.


def by_hand(potential: Potential, rewards: list[float], looks: int) -> list[float]:
    """The logs of the potentials of a run of rewards, by the definitions of the paper."""
    if isinstance(potential, Difference):
        return [now - before for before, now in pairwise([0.0, *rewards])]
    past = [rewards[: i + 1] for i in range(len(rewards))]
    if isinstance(potential, Max):
        return [(potential.scale or 1 / looks) * max(seen) for seen in past]
    assert isinstance(potential, Sum)
    return [(potential.scale or 2 / looks / (looks + 1)) * sum(seen) for seen in past]


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("potential", POTENTIALS, ids=str)
def test_potentials_by_hand_and_their_product(
    potential: Potential, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a largest reward that forgets, a sum that counts a look twice, weights at steps
    # without a look; and a last potential that is not the reward of the draw (the official code ends
    # `Max` and `Sum` with the largest reward or the sum).
    target = linear_posterior(mixture(3))
    # Particles that keep their places.
    monkeypatch.setattr(fk, "select", lambda state, rng, threshold: (state, torch.arange(4)[None]))
    sampler = FK(schedule=SHORT, particles=4, threshold=0.0, potential=potential, every=every)

    def reward(x0: Tensor) -> Tensor:
        return target.likelihood.log_prob(target.y, x0)

    levels, prior = SHORT.levels(), target.prior
    rng, states = Rng([0]), list(sampler.iterate(target, [0]))
    x = levels[0] * population.paired(torch.zeros(1, 4, 3, dtype=F64), rng)
    rewards = [reward(prior(x, levels[0]))[0]]
    looks = len(range(0, 10, every))
    for i, (sigma, following) in enumerate(pairwise(levels[:-1])):
        weight, std = bridge(0.0, following, sigma)
        x0 = prior(x, sigma)
        x = x0 + weight * (x - x0) + std * population.paired(x, rng)
        if (i + 1) % every == 0:
            rewards.append(reward(prior(x, following))[0])
        assert torch.allclose(states[i].x, x, rtol=0, atol=1e-12)
        for particle in range(4):
            run = [float(r[particle]) for r in rewards]
            expected = sum(by_hand(potential, run, looks))
            assert float(states[i].log_weight[0, particle]) == pytest.approx(expected, abs=1e-9)
    end = reward(prior(x, levels[-2]))[0]
    evidence = float(end.logsumexp(0)) - math.log(4)
    assert float(states[-1].log_evidence) == pytest.approx(evidence, abs=1e-9)


def chain_evidence(target: po.Posterior, schedule: po.schedules.Schedule) -> float:
    """Log of the mean of p(y | x_0) under the ancestral sampler with few steps, for a Gaussian."""
    prior, likelihood = target.prior, target.likelihood
    assert isinstance(prior, po.Gaussian) and isinstance(likelihood, po.GaussianLikelihood)
    eye, levels = torch.eye(3, dtype=F64), schedule.levels()
    shift, cov = -prior.mean, levels[0] ** 2 * eye
    for sigma, following in pairwise(levels):
        weight, std = bridge(0.0, following, sigma)
        shrink = prior.covariance @ (prior.covariance + sigma**2 * eye).inverse()
        move = (1 - weight) * shrink + weight * eye
        shift, cov = move @ shift, move @ cov @ move.mT + std**2 * eye
    a = likelihood.operator.matrix()
    noise = float(likelihood.std) ** 2 * torch.eye(len(a), dtype=F64)
    law = torch.distributions.MultivariateNormal(a @ (prior.mean + shift), a @ cov @ a.mT + noise)
    return float(law.log_prob(target.y))


@pytest.mark.parametrize("proposed", [False, True], ids=["plain", "proposed"])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("potential", [Difference(), Max(), Sum()], ids=str)
def test_the_evidence_is_unbiased(potential: Potential, threshold: float, proposed: bool) -> None:
    # Catches: weights dropped where a population is not resampled, memory that stays behind when
    # particles are selected, potentials not taken back, a proposal without the ratio of the kernels.
    steps = po.schedules.LogLinear(steps=9, sigma_min=0.1, sigma_max=8.0)
    prior = gaussian(3)
    likelihood = po.GaussianLikelihood(po.operators.Matrix(normal(2, 3, seed=20), (3,)), std=1.0)
    target = po.Posterior(prior, likelihood, torch.tensor([0.7, -0.4], dtype=F64))
    sampler = FK(
        schedule=steps,
        particles=32,
        threshold=threshold,
        potential=potential,
        every=2,
        proposal=prior.posterior(likelihood, target.y) if proposed else None,
    )
    ratio = (last(sampler, target, 1500).log_evidence - chain_evidence(target, steps)).exp()
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / math.sqrt(1500)
    assert 0.01 < float(ratio.std()) < 2


def test_the_best_proposal_leaves_little_to_weigh() -> None:
    # Catches: the ratio upside down. With the moves of the posterior itself the weights are one number in the limit
    # of short steps.
    prior, steps = gaussian(3), po.schedules.LogLinear(steps=60, sigma_min=0.02, sigma_max=60.0)
    likelihood = po.GaussianLikelihood(po.operators.Matrix(normal(2, 3, seed=20), (3,)), std=1.0)
    target = po.Posterior(prior, likelihood, torch.tensor([0.7, -0.4], dtype=F64))
    plain = FK(schedule=steps, particles=32, threshold=0.0, every=100)
    best = replace(plain, proposal=prior.posterior(likelihood, target.y))
    spread = [float(last(s, target, 200).log_evidence.std()) for s in (plain, best)]
    assert spread[1] < 0.5 * spread[0]


# The mixture of the measurements below, its first entry seen with noise 1/2 at 1. Exact: weights
# (.001, .600, .400), mean (1.090, 1.798).


def fixture() -> po.Posterior:
    means = torch.tensor([[-2.0, -1.0], [2.0, 1.0], [0.0, 3.0]], dtype=F64)
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    prior = po.GaussianMixture(shares, means, 0.3 * torch.eye(2, dtype=F64).expand(3, 2, 2))
    row = po.operators.Matrix(torch.tensor([[1.0, 0.0]], dtype=F64), (2,))
    return po.Posterior(prior, po.GaussianLikelihood(row, 0.5), torch.ones(1, dtype=F64))


MEAN = torch.tensor([1.0899, 1.7981], dtype=F64)
HUNDRED = po.schedules.Table(steps=100)


def mean_error(sampler: FK, populations: int = 20) -> tuple[float, Tensor, Tensor]:
    """The mean over populations of the error of the posterior mean, the bias, and its standard error."""
    means = last(sampler, fixture(), populations).x.mean(1)
    bias, error = means.mean(0) - MEAN, (means - MEAN).abs().amax(-1)
    return float(error.mean()), bias, means.std(0) / math.sqrt(populations)


@pytest.mark.parametrize(
    ("potential", "few", "many"),
    # The errors that were asked for at 64 and 1024 particles: .25 and .062 for `Max`, .24 and .16
    # for `Difference`. Ours are .12 to .19 and .034, .17 and .12.
    [(Max(), 0.25, 0.062), (Difference(), 0.24, 0.16), (Sum(), 0.25, 0.062)],
    ids=str,
)
def test_error_of_the_posterior_mean(potential: Potential, few: float, many: float) -> None:
    sampler = FK(schedule=HUNDRED, particles=64, potential=potential)
    small, bias, se = mean_error(sampler, 60)
    large, _, _ = mean_error(replace(sampler, particles=1024), 8)
    assert small < few and large < many
    # N^(-1/2) within a factor of 2 where potentials look ahead well, and no bias beyond the steps'.
    if isinstance(potential, Max):
        assert 2 < small / large < 8
    assert (bias.abs() < 3 * se + 0.04).all()


def test_dropped_weights_are_a_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the official code does where the effective size is high. Catches: us doing it.
    def dropping(state: Any, rng: Rng, threshold: float) -> Any:
        chosen, ancestors = population.select(state, rng, threshold)
        return replace(chosen, log_weight=torch.zeros_like(chosen.log_weight)), ancestors

    sampler = FK(schedule=HUNDRED, particles=256, potential=Difference(), every=5)
    error, bias, se = mean_error(sampler)
    assert error < 0.2 and (bias.abs() < 3 * se + 0.04).all()
    monkeypatch.setattr(fk, "select", dropping)
    _, bias, _ = mean_error(sampler)
    assert bias.abs().max() > 0.3


# The law that is steered.


def test_a_reward_tilts_a_guided_law() -> None:
    # Catches: the weights of a guided denoiser left out, the scale of a reward used twice. A Gaussian
    # pair of equal covariances, where guidance is exact, and a linear reward: N(m_w + scale C b, C).
    center = gaussian(3, seed=1)
    given = po.Gaussian(center.mean + 1.0, center.covariance)
    target = Tilted(po.Family(center, {0: given}), po.Label(0), 2.0)
    b = torch.tensor([0.8, -0.5, 0.3], dtype=F64)
    steered = rewarded(target, lambda x: x @ b, scale=1.5)
    # Fine steps, since the ancestral sampler is narrower than the prior by its steps.
    schedule = po.schedules.LogLinear(steps=120, sigma_min=0.02, sigma_max=80.0)
    x = last(FK(schedule=schedule, particles=512, every=4), steered, 8).x
    expected = center.mean + 2.0 + 1.5 * center.covariance @ b
    std = center.covariance.diagonal().sqrt()
    assert ((x.mean((0, 1)) - expected) / std).abs().max() < 0.12
    spread = torch.cov(x.flatten(0, 1).mT) / (std * std[:, None])
    assert (spread - center.covariance / (std * std[:, None])).abs().max() < 0.15


def test_a_proposal_by_another_law_changes_the_error_and_not_the_law() -> None:
    # Catches: a tilted law that is only that of the rule. Guidance of a class with weight 2 draws too
    # narrow a law; with its moves as proposals and the exact classifier as the reward the draws are those of
    # p(x) p(c | x)^2. In one dimension, against quadrature.
    means = torch.tensor([[-1.0], [0.5], [2.0]], dtype=F64)
    variances = torch.tensor([0.5, 0.3, 0.6], dtype=F64)
    laws = [po.Gaussian(m, v.reshape(1, 1)) for m, v in zip(means, variances, strict=True)]
    free = po.GaussianMixture(torch.ones(3, dtype=F64), means, variances[:, None, None])
    target = Tilted(po.Family(free, dict(enumerate(laws))), po.Label(1), 2.0)
    classifier = BayesClassifier(laws)
    posterior = classified(target, classifier)
    grid = torch.linspace(-8, 8, 8001, dtype=F64)[:, None]
    log_density = free.log_prob(grid) + 2 * classifier.log_prob(1, grid)
    share = log_density.softmax(0)
    mean = float((share * grid[:, 0]).sum())
    std = math.sqrt(float((share * (grid[:, 0] - mean) ** 2).sum()))
    schedule = po.schedules.LogLinear(steps=80, sigma_min=0.03, sigma_max=40.0)
    guided = Tilted(target.prior, target.condition, 2.0)
    for proposal in (None, guided, guided.conditional):
        sampler = FK(schedule=schedule, particles=512, every=4, proposal=proposal)
        x = last(sampler, posterior, 8).x[..., 0]
        assert abs(float(x.mean()) - mean) < 0.05 * std
        assert abs(float(x.std()) / std - 1) < 0.07
    rule = po.Unconditional(schedule=schedule, solver=po.solvers.DDPM()).sample(
        guided, range(2000)
    )
    assert float(rule.std()) / std < 0.88


def test_impossible_signals_are_never_drawn() -> None:
    # Catches: inf - inf, a particle that is lost because its estimate was once impossible.
    prior = mixture(2, k=2)

    def reward(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 1.5, 0.0, -math.inf)

    draws = prior.sample(20000, torch.Generator().manual_seed(0))
    share = float((draws[:, 0] > 1.5).double().mean())
    steps = po.schedules.LogLinear(steps=40, sigma_min=0.05, sigma_max=40.0)
    for potential in (Difference(), Max(), Sum()):
        sampler = FK(schedule=steps, particles=128, potential=potential)
        assert (last(sampler, rewarded(prior, reward), 20).x[..., 0] > 1.5).all()
    # Without looks it is rejection, whose evidence is the share of the possible.
    state = last(replace(sampler, window=(0.99, 1.0)), rewarded(prior, reward), 40)
    assert (state.x[..., 0] > 1.5).all()
    assert abs(float(state.log_evidence.exp().mean()) - share) < 0.02


@pytest.mark.parametrize(
    ("sampler", "forward", "rewards"),
    [
        (SMALL["max"], 160, 11),
        (SMALL["window"], 160, 3),
        (replace(SMALL["max"], every=20), 160, 2),
        (replace(SMALL["max"], every=4, window=(0.5, 0.5)), 160, 1),
    ],
)
def test_cost(sampler: FK, forward: int, rewards: int) -> None:
    # Catches: an evaluation for every look, a gradient of a reward that has none.
    prior, calls = po.diffusion.Counted(mixture(3)), 0

    def reward(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return (x[:, 0] > 0).to(x)

    sampler.sample(rewarded(prior, reward), seeds=[0, 1, 2])
    assert (prior.meter, calls) == (Meter(forward=forward), rewards)
    other = po.diffusion.Counted(mixture(3))
    sampler = replace(sampler, proposal=other)
    sampler.sample(rewarded(mixture(3), reward), seeds=[0])
    # The last move is the prior's.
    assert other.meter.forward == forward - 16


def test_published_settings_look_as_often_as_they_say() -> None:
    images = FK.published("images")
    assert [i for i in range(100) if images.looks_at(i)] == [20, 40, 60, 80]
    assert (images.looks, images.particles, images.potential) == (4, 4, Max(scale=1.0))


def test_refusals() -> None:
    makes: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: FK(every=0), po.InputError, "every"),
        (lambda: FK(window=(0.5, 0.2)), po.InputError, "window"),
        (lambda: FK(particles=1), po.InputError, "particles"),
        (lambda: FK(threshold=1.5), po.InputError, "threshold"),
        (lambda: Max(0.0), po.InputError, "scale"),
        (lambda: Sum(math.inf), po.InputError, "scale"),
        (lambda: rewarded(mixture(), 3.0), po.CapabilityError, "function"),  # type: ignore[arg-type]
        (lambda: rewarded(mixture(), len, math.nan), po.InputError, "scale"),
        (
            lambda: replace(SMALL["max"], proposal=mixture(5)).sample(
                linear_posterior(mixture()), seeds=[0]
            ),
            po.ShapeError,
            "proposal",
        ),
        (
            lambda: replace(SMALL["max"], proposal=torch.nn.Identity()).sample(
                linear_posterior(mixture()), seeds=[0]
            ),
            po.CapabilityError,
            "FK needs a Denoiser; this is an Identity",
        ),
        (
            lambda: SMALL["max"].sample(rewarded(mixture(), lambda x: x[:, 0] * math.nan), [0]),
            po.InputError,
            "nan",
        ),
        (
            lambda: SMALL["max"].sample(mixture(), seeds=[0]),
            po.CapabilityError,
            "FK needs a Posterior",
        ),
    ]
    for make, kind, words in makes:
        with pytest.raises(kind, match=words):
            make()
