"""Experts."""

import math

import torch

from common.guidance.gradient import (
    STEPS,
    Linear,
    bayes,
    everything,
    tilted,
)
from helpers import F64, normal
from posteria.guidance.classifiers.classifier import CleanClassifier
from posteria.guidance.classifiers.classifier_guidance import ClassifierGuidance
from posteria.guidance.classifiers.experts import Experts
from posteria.samplers.guided import Guided

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
