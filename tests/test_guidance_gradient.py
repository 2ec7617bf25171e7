"""Guidance by gradients: classifiers of noisy and of clean signals, experts, and the family of TFG."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers import F64, gaussian, linear_posterior, mixture, normal
from torch import Tensor

import posteria as po
from posteria.core.meter import Meter
from posteria.core.rng import Rng
from posteria.core.space import Space
from posteria.diffusion.denoiser import Condition
from posteria.guidance.base import StepInfo, TiltedRule
from posteria.guidance.classifiers.classifier import BayesClassifier, Classifier, CleanClassifier
from posteria.guidance.classifiers.classifier_guidance import ClassifierGuidance, classified
from posteria.guidance.classifiers.elucd import EluCD, softened
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
from posteria.guidance.models.experts import Experts
from posteria.guidance.tilted.cfg import cfg
from posteria.likelihood import FunctionLikelihood
from posteria.metrics.distribution import sliced_wasserstein
from posteria.samplers.guided import Guided
from posteria.samplers.tfg import TFG
from posteria.target import Tilted
from posteria.testing import check_sampler, example_posterior

SHARES = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
STEPS = po.schedules.LogLinear(steps=40, sigma_min=0.02, sigma_max=60.0)
TEN = po.schedules.Table(steps=10)


def classes(d: int = 2) -> list[po.GaussianMixture]:
    """Three laws that overlap, of two components each."""
    return [mixture(d, k=2, seed=10 * i) for i in range(3)]


def bayes(d: int = 2) -> BayesClassifier:
    classifier = BayesClassifier(classes(d), SHARES.tolist())
    # To the last bit, whatever precision the shares are taken in.
    classifier.log_shares = SHARES.log()
    return classifier


def everything(d: int = 2) -> po.GaussianMixture:
    """All classes together, in their shares."""
    laws = classes(d)
    weights = torch.cat([s * law.weights for s, law in zip(SHARES, laws, strict=True)])
    means = torch.cat([law.means for law in laws])
    return po.GaussianMixture(weights, means, torch.cat([law.covariances for law in laws]))


def tilted(label: int = 0, weight: float = 1.0, d: int = 2) -> Tilted:
    family = po.Family(everything(d), dict(enumerate(classes(d))))
    return Tilted(po.diffusion.Counted(family), po.Label(label), weight)


def counted(target: Tilted) -> Meter:
    assert isinstance(target.prior, po.diffusion.Counted)
    return target.prior.meter


class Linear(Classifier):
    """Logits `B x / (1 + sigma^2)`, for a level or one a sample, whose gradients are known."""

    noisy = True

    def __init__(self, shape: tuple[int, ...], labels: int = 3, seed: int = 0) -> None:
        self.space, self.labels = Space(shape, F64), labels
        self.matrix = normal(labels, self.space.size, seed=seed)
        self.calls = 0

    def __call__(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        self.calls += 1
        level = torch.as_tensor(sigma, dtype=F64)[..., None]
        return self.space.flatten(x) @ self.matrix.mT / (1 + level**2)

    def slope(self, x: Tensor, sigma: float, label: int, t1: float, t2: float) -> Tensor:
        share = (t2 * self(x, sigma)).softmax(-1)
        rows = t1 * self.matrix[label] - t2 * share @ self.matrix
        return self.space.unflatten(rows / (1 + sigma**2))


# Classifier guidance.


@pytest.mark.parametrize("base", ["unconditional", "conditional"])
@pytest.mark.parametrize("weight", [0.0, 0.7, 1.0, 3.0])
def test_an_exact_classifier_is_classifier_free_guidance(weight: float, base: Any) -> None:
    # Catches: the gradient in other units than sigma^2, its sign, a weight that is off by one where the base has
    # the condition already, the label of another class.
    rule = ClassifierGuidance(weight, bayes(), base)
    for label in range(3):
        target, x = tilted(label, 5.0), 3 * normal(7, 2, seed=label)
        for sigma in (0.05, 0.6, 4.0, 50.0):
            expected = cfg(target, x, sigma, weight)
            assert torch.allclose(rule.at(target, x, sigma), expected, rtol=0, atol=1e-10)
            assert torch.allclose(rule.denoiser(target)(x, sigma), expected, rtol=0, atol=1e-10)


def test_it_draws_what_classifier_free_guidance_draws_at_one_evaluation_a_step() -> None:
    # Catches: an evaluation of a member that is not guided, a weight of the target that is not used.
    target = tilted(1, 2.0)
    x = Guided(schedule=STEPS, rule=ClassifierGuidance(classifier=bayes())).sample(
        target, range(5)
    )
    assert counted(target) == Meter(forward=5 * 79)
    y = Guided(schedule=STEPS).sample(target, range(5))
    assert counted(target).forward == 5 * 3 * 79
    assert torch.allclose(x, y, rtol=0, atol=1e-8)


def test_a_level_for_each_sample_and_any_event_shape() -> None:
    # Catches: a level that scales another sample's gradient, or an event axis taken for samples.
    free = po.Gaussian(normal(2, 3), torch.eye(6, dtype=F64))
    target = Tilted(po.Family(free, {2: free}), po.Label(2), 3.0)
    classifier = Linear((2, 3))
    rule, x = ClassifierGuidance(classifier=classifier), normal(2, 4, 2, 3)
    sigma = torch.tensor([0.1, 0.5, 2.0, 9.0], dtype=F64).expand(2, 4)
    together = rule.at(target, x, sigma)
    for i in range(4):
        level = float(sigma[0, i])
        slope = classifier.slope(x[:, i], level, 2, 1.0, 1.0)
        expected = free(x[:, i], level) + 3 * level**2 * slope
        assert torch.allclose(together[:, i], expected, rtol=0, atol=1e-10)
        assert torch.allclose(rule.at(target, x[:, i], level), expected, rtol=0, atol=1e-10)


def test_a_weight_of_zero_costs_no_gradient() -> None:
    classifier, target = Linear((2,)), tilted(0, 1.0)
    x = normal(3, 2)
    for rule in (ClassifierGuidance(0.0, classifier), EluCD(0.0, classifier)):
        rule(target, x, StepInfo(1.0, 0.5, 0, 4), rule.init(target, x))
    ClassifierGuidance(1.0, classifier, "conditional").at(target, x, 1.0)
    assert classifier.calls == 0


def test_the_derivative_of_a_guided_denoiser_is_refused() -> None:
    # Catches: a vjp that leaves the classifier out without a word, as a generic one would.
    prior = ClassifierGuidance(2.0, bayes()).denoiser(tilted())
    with pytest.raises(po.CapabilityError, match="second derivatives"):
        prior.vjp(normal(3, 2), 1.0)
    target = linear_posterior(everything())
    likelihood, free = target.likelihood, tilted(0, 2.0)
    sampler = po.samplers.SAMPLERS["diffpir"](schedule=po.Karras(steps=8))
    x = sampler.sample(po.Posterior(prior, likelihood, target.y), seeds=range(3))
    y = sampler.sample(po.Posterior(free, likelihood, target.y), seeds=range(3))
    assert torch.allclose(x, y, rtol=0, atol=1e-8)


def test_published_scales_are_weights() -> None:
    # Catches: the paper's scale s on a conditional network taken for our weight 1 + s.
    presets = ClassifierGuidance.presets()
    assert presets["imagenet128"] == ClassifierGuidance(1.5, base="conditional")
    assert presets["imagenet256_unconditional"] == ClassifierGuidance(10.0)


class Word(Condition):
    """A condition that is no label."""


def clean(d: int = 2) -> CleanClassifier:
    return CleanClassifier(lambda x: bayes(d)(x), Space((d,), F64), 3)


REFUSED: list[tuple[TiltedRule, Tilted, type[Exception], str]] = [
    (ClassifierGuidance(), tilted(), po.CapabilityError, "ClassifierGuidance.classifier="),
    (EluCD(), tilted(), po.CapabilityError, "EluCD needs a classifier: EluCD.classifier="),
    (ClassifierGuidance(classifier=clean()), tilted(), po.CapabilityError, "EluCD and TFG"),
    (EluCD(classifier=clean(3)), tilted(), po.ShapeError, "shape"),
    (
        ClassifierGuidance(classifier=bayes()),
        Tilted(po.Family(everything(), {7: everything()}), po.Label(7), 2.0),
        po.InputError,
        "labels 0 to 2; 7",
    ),
    (
        EluCD(classifier=bayes()),
        Tilted(po.Family(everything(), {Word(): everything()}), Word(), 2.0),
        po.CapabilityError,
        "EluCD needs a Label",
    ),
    (
        ClassifierGuidance(classifier=bayes()),
        Tilted(po.Family(None, {0: everything()}), po.Label(0), 1.0),
        po.CapabilityError,
        "no unconditional member",
    ),
]


@pytest.mark.parametrize(("rule", "target", "kind", "words"), REFUSED)
def test_rules_refuse(rule: TiltedRule, target: Tilted, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        Guided(schedule=STEPS, rule=rule).sample(target, seeds=[0])
    assert isinstance(target.prior, po.Family) or counted(target).forward == 0


def test_fields_are_checked() -> None:
    makes: list[tuple[Callable[[], object], str]] = [
        (lambda: ClassifierGuidance(base="both"), "base is"),  # type: ignore[arg-type]
        (lambda: EluCD(t2=-0.1), "t2"),
        (lambda: EluCD(gamma=math.inf), "gamma"),
        (lambda: EluCD(-1.0), "weight"),
        (lambda: Experts([bayes()], [1.0]), "boundaries"),
        (lambda: Experts([bayes(), bayes()], [-1.0]), "increasing"),
        (lambda: Experts([bayes()] * 3, [2.0, 2.0]), "increasing"),
        (lambda: Bayes(-1.0), "size"),
        (lambda: TFG(points=0), "points"),
        (lambda: TFG(repeats=0), "repeats"),
        (lambda: TFG(spread=-1.0), "spread"),
        (lambda: TFG(reach=0.0), "reach"),
        (lambda: TFG(between=(2.0, 1.0)), "between"),
        (lambda: TFG(eta=1.5), "eta"),
    ]
    for make, words in makes:
        with pytest.raises(po.InputError, match=words):
            make()
    with pytest.raises(po.ShapeError, match="Experts"):
        Experts([bayes(), bayes(3)], [1.0])


# EluCD.


@pytest.mark.parametrize("t1", [1.0, 0.4])
@pytest.mark.parametrize("t2", [0.0, 0.5, 1.0])
def test_the_direction_of_elucd_in_closed_form(t1: float, t2: float) -> None:
    # Catches: temperatures inside or outside of the wrong function, a softmax at t1.
    classifier, x = Linear((2,)), normal(6, 2)
    rule = EluCD(3.0, classifier, t1, t2, gamma=0.0)
    target, sigma = tilted(1), 0.8
    at_x, _, _ = rule(target, x, StepInfo(sigma, 0.5, 3, 9), rule.init(target, x))
    slope = classifier.slope(x, sigma, 1, t1, t2)
    free = target.unconditional(x, sigma)
    assert torch.allclose(at_x, free + 3 * sigma**2 * slope, rtol=0, atol=1e-10)


def test_elucd_asks_a_clean_classifier_about_the_estimate_only() -> None:
    # Catches: the noisy signal given to a clean classifier, the gradient sent through the denoiser, the
    # units of the gradient (the paper's iterate is x / sqrt(1 + sigma^2)).
    noisy = Linear((2,))
    seen = CleanClassifier(lambda x: noisy(x), noisy.space, 3)
    target, x, sigma = tilted(2), normal(6, 2), 1.7
    rule = EluCD(2.0, seen, gamma=0.0)
    guided, _, _ = rule(target, x, StepInfo(sigma, 0.5, 3, 9), rule.init(target, x))
    free = everything()(x, sigma)
    slope = noisy.slope(free, 0.0, 2, 1.0, 0.5)
    size = sigma**2 / math.sqrt(1 + sigma**2)
    assert torch.allclose(guided, free + 2 * size * slope, rtol=0, atol=1e-10)
    assert counted(target) == Meter(forward=6)


def test_an_ancestral_step_of_elucd_in_the_units_of_the_paper() -> None:
    # Catches: the sine divided by the wrong share of the estimate, run backwards, or scaled by the
    # variance of the present step and not the largest so far. By hand in the variance preserving
    # process: mean += scale (Var + g max Var sin(pi t / T)) grad, where only the sine is checked, since
    # its Var is a limit here.
    schedule, linear = po.schedules.Table(steps=20), Linear((2,))
    classifier = CleanClassifier(lambda x: linear(x), linear.space, 3)
    target = tilted(1, 1.5)

    def run(gamma: float) -> list[Tensor]:
        rule = EluCD(classifier=classifier, gamma=gamma)
        sampler = Guided(schedule=schedule, rule=rule, solver=po.solvers.DDPM())
        states = list(sampler.iterate(target, seeds=range(3)))
        memory = states[-1].memory["peak"]
        assert torch.allclose(memory, torch.full_like(memory, max(variances)), rtol=1e-12)
        return [state.x for state in states]

    levels = schedule.levels()
    share = [1 / (1 + level**2) for level in levels]
    variances = [(1 - now / then) * (1 - then) / (1 - now) for now, then in pairwise(share)]
    x = levels[0] * Rng(range(3)).normal(target.space)
    plain, sine = run(0.0), run(0.3)
    peak = 0.0
    for i, (sigma, following) in enumerate(pairwise(levels)):
        peak = max(peak, variances[i])
        # Step i alone, from the iterate of the run with the sine.
        rule = EluCD(classifier=classifier, gamma=0.3)
        memory = {"peak": torch.full((3,), peak, dtype=F64)}
        info = StepInfo(sigma, following, i, 20)
        with_sine, _, _ = rule(target, x, info, memory)
        without, _, _ = replace(rule, gamma=0.0)(target, x, info, memory)
        slope = linear.slope(everything()(x, sigma), 0.0, 1, 1.0, 0.5)
        moved = 1.5 * 0.3 * peak * math.sin(math.pi * (20 - i) / 20) * slope
        weight = 1 - (following / sigma) ** 2
        vp = weight * (with_sine - without) / math.sqrt(1 + following**2)
        assert torch.allclose(vp, moved, rtol=1e-9, atol=1e-12)
        x = sine[i]
    assert not torch.allclose(plain[-1], sine[-1], atol=1e-3)


def test_exact_noisy_logits_draw_the_class_and_lower_t2_meets_it_more_surely() -> None:
    # Catches: a rule that is biased even where its classifier is exact; a direction that does not
    # sharpen. At t1 = t2 = 1 the field is that of the class, so that every draw is.
    angles = torch.arange(3, dtype=F64) * 2 * math.pi / 3
    means, eye = torch.stack([angles.cos(), angles.sin()], -1), torch.eye(2, dtype=F64)
    laws = [po.Gaussian(mean, eye) for mean in means]
    free = po.GaussianMixture(torch.ones(3, dtype=F64), means, eye.expand(3, 2, 2))
    target = Tilted(po.Family(free, dict(enumerate(laws))), po.Label(0), 1.0)
    classifier, accuracy, draws = BayesClassifier(laws), {}, {}
    for t2 in (1.0, 0.9, 0.8, 0.5):
        rule = EluCD(classifier=classifier, t2=t2, gamma=0.0)
        x = Guided(schedule=STEPS, rule=rule).sample(target, seeds=range(1500))
        if t2 == 1:
            exact = Guided(schedule=STEPS).sample(target, seeds=range(1500))
            assert torch.allclose(x, exact, rtol=0, atol=1e-8)
        accuracy[t2] = float((classifier(x).argmax(-1) == 0).double().mean())
        draws[t2] = x
    many = laws[0].sample(50000, torch.Generator().manual_seed(0))
    expected = float((classifier(many).argmax(-1) == 0).double().mean())
    assert abs(accuracy[1.0] - expected) < 3 * math.sqrt(expected * (1 - expected) / 1500)
    assert (draws[1.0].mean(0) - means[0]).abs().max() < 3 / math.sqrt(1500)
    assert accuracy[1.0] + 0.05 < accuracy[0.9] < accuracy[0.8] - 0.05 < accuracy[0.5] - 0.1
    # The price is the law: the variance of the class goes, and is 0.03 of itself at 0.5.
    spread = [float(draws[t2].var(0).mean()) for t2 in (1.0, 0.9, 0.8, 0.5)]
    assert spread == pytest.approx([0.99, 0.48, 0.23, 0.027], rel=0.1)


@pytest.mark.parametrize("solver", [po.solvers.DDPM(), po.Heun()])
def test_elucd_knows_its_seed_alone_and_resumes(solver: Any) -> None:
    # Catches: a maximum over the batch, a memory that is changed in place.
    rule = EluCD(2.0, clean(), base="conditional")
    sampler, target = Guided(schedule=TEN, rule=rule, solver=solver), tilted(1, 2.0)
    three = sampler.sample(target, seeds=[3, 7, 11])
    assert torch.allclose(sampler.sample(target, seeds=[7])[0], three[1], rtol=0, atol=1e-10)
    stops = []
    for state, rng in sampler.checkpoints(target, [3, 7, 11]):
        stops.append((state, rng.state().clone()))
    for stop in (stops[0], stops[4]):
        *_, last = sampler.iterate(target, [3, 7, 11], resume=stop)
        assert torch.equal(last.x, three)


def test_softened_networks_are_softplus_everywhere() -> None:
    # Catches: a module that stands in two places softened in one of them, and a network changed in place.
    relu = torch.nn.ReLU()
    inner = torch.nn.Sequential(torch.nn.Linear(3, 4), relu)
    network = torch.nn.Sequential(
        inner, torch.nn.Linear(4, 4), relu, torch.nn.Linear(4, 2)
    ).double()
    x = normal(5, 3)
    hard = network(x)
    smooth = softened(network, beta=3.0)(x)

    def softplus(z: Tensor) -> Tensor:
        return (3 * z).exp().log1p() / 3

    expected = network[3](softplus(network[1](softplus(inner[0](x)))))
    assert torch.allclose(smooth, expected, atol=1e-12)
    assert torch.equal(network(x), hard)
    with pytest.raises(po.InputError, match="nothing to soften"):
        softened(torch.nn.Linear(2, 2))


# Experts.


def test_an_expert_serves_its_own_levels() -> None:
    # Catches: a level on a boundary served by the lower expert, experts in the wrong order, one expert
    # for the whole batch (the official code takes that of its first sample).
    experts = [Linear((2,), seed=i) for i in range(3)]
    joint, x = Experts(experts, [0.5, 2.0]), normal(6, 2)
    for sigma, n in ((0.0, 0), (0.49, 0), (0.5, 1), (1.99, 1), (2.0, 2), (80.0, 2)):
        assert torch.equal(joint(x, sigma), experts[n](x, sigma))
        assert torch.equal(joint(x, torch.tensor(sigma, dtype=F64)), experts[n](x, sigma))
    sigma = torch.tensor([3.0, 0.1, 0.5, 7.0, 0.2, 1.0], dtype=F64)
    together = joint(x, sigma)
    for i, level in enumerate(sigma.tolist()):
        assert torch.allclose(together[i], joint(x[i], level), rtol=0, atol=1e-14)
    pairs = joint(x.reshape(2, 3, 2), sigma.reshape(2, 3))
    assert torch.equal(pairs.reshape(6, 3), together)
    # Derivatives go to the sample that asked.
    target, rule = tilted(1, 2.0), ClassifierGuidance(classifier=joint)
    rows = rule.at(target, x, sigma)
    for i, level in enumerate(sigma.tolist()):
        alone = rule.at(target, x[i : i + 1], level)
        assert torch.allclose(rows[i], alone[0], rtol=0, atol=1e-12)


def test_every_sample_pays_one_expert() -> None:
    experts = [Linear((2,), seed=i) for i in range(3)]
    joint = Experts(experts, [0.5, 2.0])
    joint(normal(4, 2), torch.tensor([0.1, 0.2, 3.0, 4.0], dtype=F64))
    assert [expert.calls for expert in experts] == [1, 0, 1]


def test_exact_experts_guide_as_one_exact_classifier() -> None:
    # Catches: a level that does not reach the expert; a gradient cut at the switch.
    exact, target = bayes(), tilted(2, 2.0)
    joint = Experts([exact, exact, exact], [0.3, 3.0])
    x, y = (
        Guided(schedule=STEPS, rule=ClassifierGuidance(classifier=c)).sample(target, range(4))
        for c in (joint, exact)
    )
    assert torch.equal(x, y)


def test_experts_may_see_the_variance_preserving_signal() -> None:
    # Catches: the signal scaled, and the gradient not. Experts that know no level see x / sqrt(1 + sigma^2).
    linear = Linear((2,))
    expert = CleanClassifier(lambda x: linear(x), linear.space, 3)
    joint, x, target = Experts([expert, expert], [1.0], preserving=True), normal(4, 2), tilted(1)
    for sigma in (0.4, 3.0):
        root = math.sqrt(1 + sigma**2)
        assert torch.allclose(joint(x, sigma), linear(x / root, 0.0), atol=1e-12)
        levels = torch.full((4,), sigma, dtype=F64)
        assert torch.allclose(joint(x, levels), joint(x, sigma), atol=1e-12)
        rule = ClassifierGuidance(1.0, joint)
        slope = linear.slope(x / root, 0.0, 1, 1.0, 1.0) / root
        expected = everything()(x, sigma) + sigma**2 * slope
        assert torch.allclose(rule.at(target, x, sigma), expected, atol=1e-10)


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


@pytest.mark.parametrize("kind", ["linear", "nonlinear"])
@pytest.mark.parametrize("name", SMALL)
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


def test_a_bound_on_moves_makes_it_safe_where_the_likelihood_is_narrow() -> None:
    # Catches: the bound lost, without which these runs end at 1e60.
    sampler = TFG(schedule=po.schedules.Table(steps=50), repeats=2)
    for target in (fixture(std=0.05), linear_posterior(gaussian(), std=0.1)):
        assert distance(sampler, target, 300) < 0.35
