"""GFCG."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.adaptive import Leaky, counted, last, leaky
from helpers import F64, normal
from posteria.core.meter import Meter
from posteria.guidance.classifiers.classifier import BayesClassifier, Classifier
from posteria.guidance.classifiers.gfcg import GFCG

# GFCG -------------------------------------------------------------------------------------------


class Fixed(Classifier):
    """The same logits for every signal."""

    noisy = False

    def __init__(self, logits: list[float], space: po.Space) -> None:
        self.logits, self.space, self.labels = torch.tensor(logits, dtype=F64), space, len(logits)

    def __call__(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        return self.logits.expand(*self.space.batch(x), self.labels)


def test_gfcg_beats_static_weights() -> None:
    # Catches: a reference that is the wanted class, a push that grows with confidence. guidance.md
    # 4.2: (.981, .034) at weight 3 against (.968, .176), (.998, .093) at 5 against (.997, .998).
    toy = leaky()
    for weight, accuracy, ratio in ((3.0, 0.97, 0.8), (5.0, 0.995, 0.5)):
        static, ours = (
            toy.judge(po.CFG(weight)),
            toy.judge(GFCG(weight, classifier=toy.classifier)),
        )
        assert ours[0] >= max(accuracy, static[0])
        assert ours[1] < ratio * static[1]


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_gfcg_pushes_away_from_the_likeliest_other_class(power: float) -> None:
    # Catches: the likeliest class of all as the reference, 1 - p of the reference in place of the
    # wanted class, the classifier's confidence in place of its doubt.
    toy = leaky()
    classifier = Fixed([2.0, 0.0, 1.0], toy.target.space)
    x = normal(5, 8, seed=4)
    share = torch.tensor([2.0, 0.0, 1.0], dtype=F64).exp()
    doubt = float(1 - share[0] / share.sum())
    wanted, other = (toy.family.given(po.Label(k))(x, 0.7) for k in (0, 2))
    expected = wanted + 3 * doubt**power * (wanted - other)
    rule = GFCG(4.0, classifier=classifier, power=power)
    torch.testing.assert_close(rule.at(toy.target, x, 0.7), expected, rtol=0, atol=1e-12)
    free = toy.target.unconditional(x, 0.7)
    both = replace(rule, cfg=2.5).at(toy.target, x, 0.7)
    torch.testing.assert_close(both, expected + 1.5 * (wanted - free), rtol=0, atol=1e-12)
    weak = Leaky(leak=0.5, variance=0.4).family
    autoguided = replace(rule, weak=weak).at(toy.target, x, 0.7)
    reference = weak.given(po.Label(2))(x, 0.7)
    expected = wanted + 3 * doubt**power * (wanted - reference)
    torch.testing.assert_close(autoguided, expected, rtol=0, atol=1e-12)


def test_gfcg_asks_each_member_for_its_own_rows() -> None:
    # Catches: the reference of the first sample for all, and rows that come back out of order; a
    # level for each sample that is not taken along.
    toy = leaky()
    rule = GFCG(classifier=toy.classifier)
    x, sigma = 2 * normal(30, 8, seed=6), 0.2 + normal(30, seed=7).abs()
    estimate = toy.target.conditional(x, sigma)
    references = toy.classifier(estimate)[:, 1:].argmax(-1)
    assert set(references.tolist()) == {0, 1}
    whole = rule.denoiser(toy.target)(x, sigma)
    rows = [rule.at(toy.target, x[i], float(sigma[i])) for i in range(30)]
    torch.testing.assert_close(whole, torch.stack(rows), rtol=0, atol=1e-10)


def test_gfcg_with_two_classes_and_no_fading_is_cfg_from_the_other_class() -> None:
    # Catches: an extrapolation by weight in place of weight - 1.
    toy = leaky()
    one, two = (toy.family.given(po.Label(k)) for k in (0, 1))
    target = po.Tilted(po.Family(None, {0: one, 1: two}), po.Label(0), 1.0)
    opposite = po.Tilted(po.Family(two, {0: one}), po.Label(0), 2.5)
    rule = GFCG(2.5, classifier=BayesClassifier(toy.classes[:2]), power=0.0)
    x = normal(6, 8, seed=8)
    torch.testing.assert_close(rule.at(target, x, 1.3), opposite(x, 1.3), rtol=0, atol=1e-12)


def test_gfcg_costs_and_leaves_no_graph() -> None:
    # Catches: a classifier that is differentiated, a graph that grows with the steps, a third
    # denoiser call.
    toy = leaky()
    enabled: list[bool] = []

    class Linear(Classifier):
        noisy, space, labels = False, toy.target.space, 3

        def __init__(self) -> None:
            self.matrix = normal(8, 3, seed=9).requires_grad_()

        def __call__(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
            enabled.append(torch.is_grad_enabled())
            return x @ self.matrix

    classifier = Linear()
    weak = po.diffusion.Counted(Leaky(leak=0.5).family)
    for rule, calls, of_weak in (
        (GFCG(classifier=classifier), 20, 0),
        (GFCG(classifier=classifier, cfg=2.0), 30, 0),
        (GFCG(classifier=classifier, weak=weak), 10, 10),
        (GFCG(1.0, classifier=classifier), 10, 0),
    ):
        enabled.clear()
        weak.meter.forward = 0
        target, prior = counted(toy.target)
        x = last(rule, target, range(1), steps=10).x
        assert (prior.meter, weak.meter) == (Meter(forward=calls), Meter(forward=of_weak))
        assert not x.requires_grad
        assert enabled == [False] * (10 if rule.weight != 1 else 0)


def test_a_classifier_without_a_derivative_is_said_where_one_is_taken() -> None:
    # Catches: a Jacobian of the guided denoiser without what the classifier changes in it.
    toy = leaky()
    classifier = BayesClassifier([toy.target.prior.given(po.Label(k)) for k in range(3)])
    x = normal(4, 8)
    rule = GFCG(2.0, classifier=classifier)
    rule.denoiser(toy.target).vjp(x, 1.0)
    hidden = po.guidance.CleanClassifier(torch.no_grad()(classifier), toy.target.space, 3)
    prior = replace(rule, classifier=hidden).denoiser(toy.target)
    assert torch.equal(prior(x, 1.0), rule.denoiser(toy.target)(x, 1.0))
    with pytest.raises(
        po.CapabilityError, match=r"CleanClassifier\(3 classes.* has no derivative"
    ):
        prior.vjp(x, 1.0)
