"""Guidance by gradients: classifiers of noisy and of clean signals, experts, and the family of TFG."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import posteria as po
from common.guidance.gradient import (
    STEPS,
    Linear,
    bayes,
    clean,
    counted,
    everything,
    tilted,
)
from helpers import F64, linear_posterior, normal
from posteria.core.meter import Meter
from posteria.diffusion.denoiser import Condition
from posteria.guidance.base import StepInfo, TiltedRule
from posteria.guidance.classifiers.classifier import BayesClassifier, CleanClassifier
from posteria.guidance.classifiers.classifier_guidance import ClassifierGuidance
from posteria.guidance.classifiers.elucd import EluCD
from posteria.guidance.classifiers.experts import Experts
from posteria.guidance.likelihood.strength import (
    Bayes,
)
from posteria.guidance.tilted.cfg import cfg
from posteria.samplers.guided import Guided
from posteria.samplers.tfg import TFG
from posteria.target import Tilted

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


REFUSED: list[tuple[TiltedRule, Tilted, type[Exception], str]] = [
    (ClassifierGuidance(), tilted(), po.CapabilityError, "ClassifierGuidance.classifier="),
    (EluCD(), tilted(), po.CapabilityError, "EluCD needs a classifier: EluCD.classifier="),
    (ClassifierGuidance(classifier=clean()), tilted(), po.CapabilityError, "EluCD and TFG"),
    (EluCD(classifier=clean(3)), tilted(), po.ShapeError, "shape"),
    (
        EluCD(classifier=lambda x, sigma: x),  # type: ignore[arg-type]
        tilted(),
        po.CapabilityError,
        "EluCD needs a Classifier; this is a function",
    ),
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


def test_a_classifier_gives_a_logit_a_class() -> None:
    # Catches: logits of another number of classes, which fail in a reshape.
    wrong = CleanClassifier(lambda x: x.new_zeros(len(x), 2), tilted().space, 3)
    with pytest.raises(po.ShapeError, match=r"3 classes takes .* to \(5, 3\); .* gave \(5, 2\)"):
        wrong(tilted().space.zeros(5))
    with pytest.raises(
        po.CapabilityError, match="a function of signals or a network; this is int"
    ):
        CleanClassifier(3, tilted().space, 3)  # type: ignore[arg-type]
    with pytest.raises(po.InputError, match=r"classes of a classifier is an integer .* 2; 2\.5"):
        CleanClassifier(lambda x: x, tilted().space, 2.5)  # type: ignore[arg-type]
    with pytest.raises(po.CapabilityError, match="classified needs a Tilted"):
        po.guidance.classified(everything(), bayes())  # type: ignore[arg-type]


def test_fields_are_checked() -> None:
    makes: list[tuple[Callable[[], object], str]] = [
        (
            lambda: ClassifierGuidance(base="both"),
            "base of ClassifierGuidance is 'unconditional' or",
        ),  # type: ignore[arg-type]
        (lambda: EluCD(t2=-0.1), "t2"),
        (lambda: EluCD(gamma=math.inf), "gamma"),
        (lambda: EluCD(-1.0), "weight"),
        (lambda: Experts([bayes()], [1.0]), "boundaries"),
        (lambda: Experts([bayes(), bayes()], [-1.0]), "increasing"),
        (lambda: Experts([bayes()] * 3, [2.0, 2.0]), "increasing"),
        (lambda: BayesClassifier(bayes().laws, [1.0, math.inf, 1.0]), "Shares are numbers"),
        (lambda: bayes().log_prob(-1, torch.zeros(2, dtype=F64)), "labels 0 to 2; -1"),
        (lambda: Bayes(-1.0), "size"),
        (lambda: TFG(points=0), "points"),
        (lambda: TFG(repeats=0), "repeats"),
        (lambda: TFG(spread=-1.0), "spread"),
        (lambda: TFG(reach=0.0), "reach"),
        (lambda: TFG(between=(2.0, 1.0)), "between"),
        (lambda: TFG(between=(2.0,)), "between"),  # type: ignore[arg-type]
        (lambda: TFG(eta=1.5), "eta"),
    ]
    for make, words in makes:
        with pytest.raises(po.InputError, match=words):
            make()
    with pytest.raises(po.ShapeError, match="Experts"):
        Experts([bayes(), bayes(3)], [1.0])
