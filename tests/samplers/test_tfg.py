"""TFG."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.gradient import (
    SHARES,
    TEN,
    bayes,
    everything,
    tilted,
)
from common.sampler import others
from helpers import F64, gaussian, linear_posterior, mixture, normal
from posteria.core.meter import Meter
from posteria.core.rng import Rng
from posteria.guidance.base import StepInfo
from posteria.guidance.classifiers.classifier_guidance import classified
from posteria.guidance.likelihood.smoothed import smoothed_score
from posteria.guidance.likelihood.strength import (
    Bayes,
    Decreasing,
    Even,
    Faded,
    Fixed,
    Increasing,
    Move,
)
from posteria.likelihood import FunctionLikelihood
from posteria.metrics.distribution import sliced_wasserstein
from posteria.samplers.tfg import TFG
from posteria.target import Tilted
from posteria.testing import check_sampler, example_posterior

# TFG. Its special cases by hand, in the variance preserving units of their papers.


def log_f(y: Tensor, x: Tensor) -> Tensor:
    """A log f that is no quadratic."""
    return -((x - y) ** 2).sum(-1).sqrt() + torch.sin(x).sum(-1)


def target_of(f: Callable[[Tensor, Tensor], Tensor] = log_f) -> po.Posterior:
    return po.Posterior(mixture(3), FunctionLikelihood(f), normal(3, seed=5))


class Paper:
    """A step in the units of the papers: `x_vp = a x`, `a = sqrt(A)`, `A = 1 / (1 + sigma^2)`."""

    def __init__(self, target: po.Posterior, x: Tensor, sigma: float, following: float) -> None:
        self.target, self.sigma = target, sigma
        self.now, self.then = 1 / (1 + sigma**2), 1 / (1 + following**2)
        self.x = math.sqrt(self.now) * x

    def denoise(self, x_vp: Tensor) -> Tensor:
        return self.target.prior(x_vp / math.sqrt(self.now), self.sigma)

    def slope(self, f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            (g,) = torch.autograd.grad(f(x).sum(), x)
        return g

    def log_mean(self, x0: Tensor, cloud: Tensor | None = None) -> Tensor:
        """The log of the mean of f around x0."""
        y = self.target.y
        if cloud is None:
            return self.target.likelihood.log_prob(y, x0)
        k = cloud.shape[1]
        every = [self.target.likelihood.log_prob(y, x0 + cloud[:, i]) for i in range(k)]
        return torch.stack(every).logsumexp(0) - math.log(k)

    def through(self, cloud: Tensor | None = None) -> Tensor:
        """The gradient in the noisy iterate."""
        return self.slope(lambda z: self.log_mean(self.denoise(z), cloud), self.x)

    def ddim(self, x0: Tensor, eps: Tensor, eta: float, noise: Tensor) -> Tensor:
        std = eta * math.sqrt((1 - self.then) / (1 - self.now) * (1 - self.now / self.then))
        kept = math.sqrt(max(1 - self.then - std**2, 0.0))
        return math.sqrt(self.then) * x0 + kept * eps + std * noise

    def eps(self, x0: Tensor) -> Tensor:
        return (self.x - math.sqrt(self.now) * x0) / math.sqrt(1 - self.now)

    def back(self, x_vp: Tensor) -> Tensor:
        """In our units, at the next level."""
        return x_vp / math.sqrt(self.then)


def tfg_shapes(levels: list[float], sigma: float, shape: str) -> float:
    """`T h(t) / sum h` of the paper."""
    alpha = {now: (1 + then**2) / (1 + now**2) for now, then in pairwise(levels)}
    h = {now: {"up": a, "down": 1 - a, "even": 1.0}[shape] for now, a in alpha.items()}
    return len(h) * h[sigma] / sum(h.values())


def by_hand(name: str, p: Paper, levels: list[float], rng: Rng) -> Tensor:
    """The next iterate by the formulas of a paper."""

    def draw() -> Tensor:
        # The last step has none.
        return rng.normal_like(p.x) if p.then < 1 else torch.zeros_like(p.x)

    x0, a, s = p.denoise(p.x), math.sqrt(p.now), math.sqrt(1 - p.now)
    if name == "freedom":
        return p.ddim(x0, p.eps(x0), 0.5, draw()) + a * 0.3 * p.through()
    if name == "mpgd":
        moved = x0 + 0.3 * p.slope(p.log_mean, x0)
        return p.ddim(moved, p.eps(x0), 1.0, draw())
    if name == "universal":
        eps = p.eps(x0) - 1.5 * s * p.through()
        delta = torch.zeros_like(x0)
        for _ in range(3):
            delta = delta + 0.1 * p.slope(p.log_mean, x0 + delta)
        eps = eps - a / s * delta
        return p.ddim((p.x - s * eps) / a, eps, 0.0, x0)
    cloud = 0.2 * s * rng.normal(p.target.space, 5)
    noise = draw()
    shift = 0.4 * tfg_shapes(levels, p.sigma, "up") * p.through(cloud)
    moved = x0
    for _ in range(2):
        mu = 0.1 * tfg_shapes(levels, p.sigma, "down")
        moved = moved + mu * p.slope(lambda z: p.log_mean(z, cloud), moved)
    x = p.ddim(x0, p.eps(x0), 1.0, noise)
    return x + shift / math.sqrt(p.now / p.then) + math.sqrt(p.then) * (moved - x0)


CASES = {
    "freedom": TFG.freedom(0.3),
    "mpgd": TFG.mpgd(0.3),
    "universal": TFG.universal(1.5, 0.1, iterations=3, repeats=1),
    "tfg": replace(
        TFG.plain(Increasing(0.4), Decreasing(0.1)), spread=0.2, points=5, iterations=2
    ),
}


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_special_cases_are_the_formulas_of_their_papers(name: str, repeats: int) -> None:
    # Catches: a factor between units (sqrt(1 + sigma^2) here and there), MPGD's estimate with noise of its own, a
    # repeat that adds the noise of another level, the mean of logs for the log of the mean.
    schedule = po.schedules.Table(steps=6)
    levels, target = schedule.levels(), target_of()
    sampler = replace(CASES[name], schedule=schedule, repeats=repeats)
    states = list(sampler.iterate(target, seeds=range(4)))
    rng = Rng(range(4))
    x = levels[0] * rng.normal(target.space)
    for state, (sigma, following) in zip(states, pairwise(levels), strict=True):
        for k in range(repeats):
            p = Paper(target, x, sigma, following)
            x_vp = by_hand(name, p, levels, rng)
            if k + 1 < repeats:
                alpha = p.now / p.then
                x_vp = math.sqrt(alpha) * x_vp + math.sqrt(1 - alpha) * rng.normal_like(x_vp)
                x = x_vp / math.sqrt(p.now)
            else:
                x = p.back(x_vp)
        assert torch.allclose(state.x, x, rtol=1e-9, atol=1e-9)
        x = state.x


def test_dps_and_lgd_are_the_samplers_of_their_names() -> None:
    # Catches: the same as above, against code that was written for the two alone.
    gaussian_noise = linear_posterior(mixture(3))
    likelihood = gaussian_noise.likelihood
    assert isinstance(likelihood, po.GaussianLikelihood)
    operator, schedule = likelihood.operator, po.schedules.Table(steps=12)

    def unsquared(y: Tensor, x: Tensor) -> Tensor:
        return -(y - operator(x)).norm(dim=-1)

    other = po.Posterior(gaussian_noise.prior, FunctionLikelihood(unsquared), gaussian_noise.y)
    one = replace(TFG.dps(0.4), schedule=schedule).iterate(other, range(4))
    two = po.DPS(schedule=schedule, zeta=0.4).iterate(gaussian_noise, range(4))
    # The last step of DPS is a plain denoising.
    pairs = list(zip(one, two, strict=True))[:-1]
    assert all(torch.allclose(a.x, b.x, rtol=0, atol=1e-10) for a, b in pairs)
    wide = po.Posterior(
        gaussian_noise.prior, po.GaussianLikelihood(operator, std=2.0), gaussian_noise.y
    )
    x = replace(TFG.lgd(7), schedule=schedule).sample(wide, range(4))
    lgd = po.samplers.LGD(schedule=schedule, points=7, prior_std=1.0, reach=None, order=1)
    assert torch.allclose(x, lgd.sample(wide, range(4)), rtol=0, atol=1e-10)


def test_strengths_of_zero_draw_the_prior_to_the_bit() -> None:
    # Catches: noise drawn for a gradient that is not taken, a vjp that is not needed.
    prior = po.diffusion.Counted(mixture(3))
    target = po.Posterior(prior, FunctionLikelihood(log_f), normal(3, seed=5))
    for eta in (0.0, 1.0):
        none = TFG(schedule=TEN, rho=Even(0.0), mu=Bayes(0.0), repeats=1, eta=eta)
        x = none.sample(target, seeds=range(5))
        free = po.Unconditional(schedule=TEN, solver=po.DDIM(eta=eta))
        assert torch.equal(x, free.sample(mixture(3), seeds=range(5)))
    assert prior.meter == Meter(forward=5 * 20)


@pytest.mark.usefixtures("one_stream")
def test_the_gradient_on_a_gaussian() -> None:
    # The exact gradient of log p(y | x) in the variance preserving iterate at A = 1/2, x = 1, y = 2 and
    # noise 1/2 is 1.219; that of DPS is 3.657. Catches: a spread that is not the standard deviation of x_0
    # given x, a log-mean over points divided by their number again (the official code of TFG).
    prior = po.Gaussian(torch.zeros(1, dtype=F64), torch.eye(1, dtype=F64))
    operator = po.operators.Matrix(torch.eye(1, dtype=F64), (1,))
    target = po.Posterior(
        prior, po.GaussianLikelihood(operator, 0.5), torch.full((1,), 2.0, dtype=F64)
    )
    a, sigma = math.sqrt(0.5), 1.0

    def slope(points: int, seeds: range) -> float:
        x = torch.full((len(seeds), 1), math.sqrt(2), dtype=F64)
        x0, pullback = prior.vjp(x, sigma)
        sampler = TFG.lgd(points) if points else TFG.dps()
        info = StepInfo(sigma, 0.0, 0, 1, rng=Rng(seeds))
        cloud = sampler.rule.cloud(target, info)
        return float(pullback(smoothed_score(target, x0, cloud)).mean()) / a

    exact = a * (2 - a) / (0.25 + 0.5)
    assert exact == pytest.approx(1.219, abs=5e-4)
    assert slope(0, range(1)) == pytest.approx(3.657, abs=5e-4)
    assert slope(200_000, range(1)) == pytest.approx(exact, abs=0.006)
    # In the mean over draws, computed apart from this code: few points guide too much.
    assert slope(10, range(3000)) == pytest.approx(1.445, abs=4 * 0.37 / math.sqrt(3000))
    assert slope(1, range(3000)) == pytest.approx(3.657, abs=4 * 2.0 / math.sqrt(3000))


def test_strengths_keep_their_mean() -> None:
    # Catches: a sum over levels in place of the mean, a schedule of the wrong direction.
    levels = tuple(po.schedules.Table(steps=30).levels())
    for kind, shape in ((Increasing, "up"), (Decreasing, "down"), (Even, "even")):
        moves = [Move(levels, s, t, 1 - (t / s) ** 2) for s, t in pairwise(levels)]
        sizes = [kind(0.7).of_estimate(move) for move in moves]
        assert sum(sizes) / 30 == pytest.approx(0.7)
        assert sizes == pytest.approx([
            0.7 * tfg_shapes(list(levels), s, shape) for s in levels[:-1]
        ])
    # Catches: a division by the levels that nobody has said.
    with pytest.raises(po.InputError, match="Even shares its size out among all levels"):
        po.guidance.TFG(rho=Even(1.0), spread=0.0)(
            example_posterior(), torch.zeros(1, 2, 3, dtype=F64), StepInfo(2.0, 1.0, 0, 2), {}
        )
    # Where steps are ancestral, `Decreasing` is Bayes' rule but for its size.
    ratio = [Decreasing(1.0).of_iterate(m) / Bayes(1.0).of_iterate(m) for m in moves]
    assert max(ratio) == pytest.approx(min(ratio))
    assert Faded(2.0).of_iterate(moves[3]) == pytest.approx(
        Fixed(2.0).of_iterate(moves[3]) / math.hypot(1, moves[3].sigma)
    )
    faded = Faded(2.0).of_estimate(moves[3])
    assert faded == pytest.approx(2.0 / math.hypot(1, moves[3].sigma))


SMALL: dict[str, TFG] = {
    "tfg": TFG(schedule=TEN),
    "both": replace(
        TFG.plain(Increasing(0.02), Even(0.01)),
        schedule=TEN,
        spread=0.1,
        even=True,
        points=3,
        iterations=2,
    ),
    "repeated": replace(TFG.lgd(4), schedule=TEN, repeats=3, between=(0.1, 5.0), reach=2.0),
    "universal": replace(TFG.universal(0.5, 0.01, 2, 2), schedule=TEN),
}


# The universal setting is for pictures, and leaves the scale of this law.
@pytest.mark.filterwarnings("ignore:TFG diverged")
@pytest.mark.parametrize("kind", ["linear", "nonlinear"])
@pytest.mark.parametrize("name", others(SMALL))
def test_battery(name: str, kind: str) -> None:
    check_sampler(SMALL[name], example_posterior(kind))


def test_one_measurement_a_sample() -> None:
    # Catches: points of one sample that are compared to the measurement of another.
    prior = mixture()
    likelihood, ys = linear_posterior(prior).likelihood, normal(3, 2, seed=5)
    for sampler in (SMALL["tfg"], SMALL["universal"]):
        together = sampler.sample(po.Posterior(prior, likelihood, ys), seeds=[4, 5, 6])
        for i in range(3):
            alone = sampler.sample(po.Posterior(prior, likelihood, ys[i]), seeds=[4 + i])
            assert torch.allclose(alone[0], together[i], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("sampler", "forward", "backward"),
    [
        (SMALL["tfg"], 40, 40),
        (SMALL["both"], 10, 10),
        (SMALL["universal"], 20, 20),
        (replace(TFG.mpgd(0.1), schedule=TEN), 10, 0),
    ],
)
def test_cost(sampler: TFG, forward: int, backward: int) -> None:
    # Catches: a vjp that is paid for where no gradient goes through the denoiser.
    prior, calls = po.diffusion.Counted(mixture(3)), 0

    def f(y: Tensor, x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return log_f(y, x)

    sampler.sample(po.Posterior(prior, FunctionLikelihood(f), normal(3)), seeds=range(2))
    assert prior.meter == Meter(2 * forward, 2 * backward)
    scores = (
        sampler.repeats
        * 10
        * (bool(sampler.rho.size) + bool(sampler.mu.size) * sampler.iterations)
    )
    # More than one point needs their values besides their gradients.
    assert calls == scores * (2 if sampler.points > 1 and sampler.spread else 1)


def test_steps_are_repeated_between_levels_only() -> None:
    prior = po.diffusion.Counted(mixture(3))
    target = po.Posterior(prior, FunctionLikelihood(log_f), normal(3))
    SMALL["repeated"].sample(target, seeds=[0])
    inside = sum(0.1 <= level <= 5 for level in TEN.levels()[:-1])
    assert 0 < inside < 10 and prior.meter.forward == 10 + 2 * inside


def test_a_class_as_a_posterior() -> None:
    # Catches: the weight left out of the law, the conditional member taken for the prior, another label.
    target, classifier = tilted(1, 2.5), bayes()
    posterior, x = classified(target, classifier), normal(6, 2)
    expected = 2.5 * classifier(x).log_softmax(-1)[:, 1]
    assert torch.allclose(posterior.likelihood.log_prob(posterior.y, x), expected)
    assert torch.equal(posterior.prior(x, 0.7), everything()(x, 0.7))
    with pytest.raises(po.CapabilityError, match="no unconditional member"):
        classified(Tilted(po.Family(None, {0: everything()}), po.Label(0), 1.0), classifier)
    with pytest.raises(po.InputError, match="labels 0 to 2"):
        classified(
            Tilted(po.Family(everything(), {5: everything()}), po.Label(5), 1.0), classifier
        )


@pytest.mark.usefixtures("one_stream")
def test_the_class_is_met_more_surely_the_stronger_the_gradient() -> None:
    # Catches: a gradient of the wrong sign or one that does not reach the iterate.
    posterior, classifier = classified(tilted(2, 1.0), bayes()), bayes()
    accuracy = []
    for size in (0.0, 0.5, 1.0, 2.0, 4.0):
        sampler = TFG.plain(Bayes(size), Even(0.0))
        x = replace(sampler, schedule=po.schedules.Table(steps=40)).sample(
            posterior, seeds=range(800)
        )
        accuracy.append(float((classifier(x).argmax(-1) == 2).double().mean()))
    assert all(low <= high + 0.02 for low, high in pairwise(accuracy))
    assert accuracy[0] < 0.35 and accuracy[-1] > 0.8


def fixture(std: float = 0.5) -> po.Posterior:
    """A mixture in the plane, seen through its first entry."""
    means = torch.tensor([[-2.0, -1.0], [2.0, 1.0], [0.0, 3.0]], dtype=F64)
    prior = po.GaussianMixture(SHARES, means, 0.3 * torch.eye(2, dtype=F64).expand(3, 2, 2))
    row = po.operators.Matrix(torch.tensor([[1.0, 0.0]], dtype=F64), (2,))
    return po.Posterior(prior, po.GaussianLikelihood(row, std), torch.ones(1, dtype=F64))


def distance(sampler: TFG, target: po.Posterior, n: int = 500) -> float:
    """Sliced Wasserstein distance to exact draws, where two sets of those differ by 0.05."""
    prior = target.prior
    assert isinstance(prior, po.Gaussian | po.GaussianMixture)
    exact = prior.posterior(target.likelihood, target.y)
    draws = exact.sample(n, torch.Generator().manual_seed(0))
    return float(sliced_wasserstein(sampler.sample(target, range(n)), draws))


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize(
    ("name", "sampler", "low", "high"),
    [
        ("default", TFG(), 0.02, 0.1),
        ("lgd", TFG.lgd(16), 0.05, 0.15),
        ("dps", replace(TFG.dps(0.05), schedule=po.schedules.Table(steps=100)), 0.15, 0.31),
        ("freedom", TFG.freedom(0.05), 0.18, 0.36),
        ("mpgd", TFG.mpgd(0.1), 0.23, 0.42),
    ],
)
def test_distance_to_the_exact_posterior(name: str, sampler: TFG, low: float, high: float) -> None:
    # Recorded, so that a change shows either way.
    assert low < distance(sampler, fixture()) < high


@pytest.mark.usefixtures("one_stream")
def test_a_bound_on_moves_makes_it_safe_where_the_likelihood_is_narrow() -> None:
    # Catches: the bound lost, without which these runs end at 1e60.
    sampler = TFG(schedule=po.schedules.Table(steps=50), repeats=2)
    for target in (fixture(std=0.05), linear_posterior(gaussian(), std=0.1)):
        assert distance(sampler, target, 300) < 0.35
