"""EluCD."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.gradient import (
    STEPS,
    TEN,
    Linear,
    clean,
    counted,
    everything,
    tilted,
)
from helpers import F64, normal
from posteria.core.meter import Meter
from posteria.core.rng import Rng
from posteria.guidance.base import StepInfo
from posteria.guidance.classifiers.classifier import BayesClassifier, CleanClassifier
from posteria.guidance.classifiers.elucd import EluCD, softened
from posteria.samplers.guided import Guided
from posteria.target import Tilted

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


@pytest.mark.usefixtures("one_stream")
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
    with pytest.raises(po.InputError, match="beta is a sharpness above 0; -1"):
        softened(torch.nn.ReLU(), beta=-1.0)
