"""Classifiers: the one that ships, and the exact one against closed forms and quadrature."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor

import posteria as po
from helpers import F64, gaussian, mixture, normal
from posteria.core import linalg
from posteria.guidance.classifiers.classifier import BayesClassifier, CleanClassifier
from posteria.metrics.diversity import (
    classifier_agreement,
    density_coverage,
    frechet_distance,
    precision_recall,
)
from posteria.metrics.features import Penultimate
from posteria.modalities import MODALITIES
from posteria.priors import SHIPPED
from posteria.priors.card import file_sha256
from posteria.priors.classifier import CLASSIFIERS, DigitsNet, load_classifier

# The classifier that ships


def examples() -> tuple[Tensor, Tensor]:
    """Held-out pictures of the digits prior, and what they show."""
    shipped = SHIPPED["digits"]
    pictures = [
        MODALITIES["image"].read(p, shipped.shape, taker="digits", fit=False).x
        for p in shipped.examples
    ]
    return torch.stack(pictures), torch.tensor([int(p.stem[-1]) for p in shipped.examples])


def test_the_file_and_its_card() -> None:
    # Catches: weights without a score, a card of other weights, a file that grew.
    shipped = CLASSIFIERS["digits"]
    card = json.loads((shipped.folder / "card.json").read_text())
    weights = shipped.folder / "classifier.safetensors"
    assert card["sha256"] == shipped.sha256 == file_sha256(weights)
    assert card["bytes"] == weights.stat().st_size < 1_000_000
    assert card["held_out"]["accuracy"] >= 0.99
    assert card["held_out"]["calibration_error"] < 0.01
    assert shipped.shape == SHIPPED["digits"].shape


def test_what_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(po.InputError, match="Did you mean 'digits'"):
        load_classifier("digit")
    moved = dataclasses.replace(CLASSIFIERS["digits"], path=str(tmp_path / "digits_classifier"))
    monkeypatch.setitem(CLASSIFIERS, "digits", moved)
    with pytest.raises(po.InputError, match="missing; reinstall posteria"):
        load_classifier()
    copy = tmp_path / "digits_classifier" / "classifier.safetensors"
    shutil.copytree(SHIPPED["digits"].folder.parent / "digits_classifier", copy.parent)
    load_classifier()
    # One bit of one weight.
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    with pytest.raises(po.InputError, match="is not the file it should be"):
        load_classifier()


def test_held_out_pictures() -> None:
    # Catches: weights in another order than the layers, a range [0, 1], black and white swapped.
    x, labels = examples()
    judge = load_classifier()
    probability = judge(x).softmax(-1)
    assert probability.argmax(-1).tolist() == labels.tolist()
    assert probability.amax(-1).min() > 0.9
    assert classifier_agreement(judge, x, labels) == 1
    assert judge.log_prob(3, x).exp() == pytest.approx(probability[:, 3])
    # It was trained on shifted and noisy pictures.
    noise = 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for change in (x.roll((2, -2), (-2, -1)), x + noise):
        assert judge(change).argmax(-1).tolist() == labels.tolist()


def test_it_agrees_with_the_labels_of_the_prior() -> None:
    # Catches: classes in another order than the prior's.
    prior, judge = po.load_prior("digits"), load_classifier()
    sampler = po.Unconditional(schedule=po.Karras(steps=5), solver=po.Heun())
    draws = torch.cat([sampler.sample(prior.given(po.Label(k)), seeds=[k]) for k in range(10)])
    assert classifier_agreement(judge, draws, torch.arange(10)) >= 0.7
    assert classifier_agreement(judge, draws, torch.arange(10).roll(1)) <= 0.2


def test_a_picture_is_judged_by_itself() -> None:
    # Catches: normalisation over the batch, a network in training mode.
    x, _ = examples()
    for dtype, tolerance in ((torch.float32, 1e-4), (F64, 1e-11)):
        judge = load_classifier(dtype=dtype)
        z = x.to(dtype)
        assert (judge(z[2]) - judge(z)[2]).abs().max() < tolerance
        assert (judge(z.flip(0)).flip(0) - judge(z)).abs().max() < tolerance
        assert judge(z).dtype == dtype
        assert judge(z.reshape(2, 3, 1, 28, 28)).shape == (2, 3, 10)
    half = load_classifier(dtype=torch.bfloat16)
    assert half.space.dtype == torch.float32
    assert half(x).dtype == torch.float32
    assert torch.allclose(half(x).softmax(-1), load_classifier()(x).softmax(-1), atol=0.1)


def test_its_gradient() -> None:
    # Catches: activations with kinks, a network that is cut off from its input.
    x, labels = examples()
    judge, x = load_classifier(dtype=F64), x.double() + 0.2 * normal(6, 1, 28, 28)
    assert not any(p.requires_grad for p in judge.logits.parameters())

    def log_prob(z: Tensor) -> Tensor:
        return judge(z).log_softmax(-1).gather(-1, (labels[:, None] + 1) % 10)[:, 0]

    slope = linalg.score(log_prob, x)
    assert slope.flatten(1).norm(dim=1).min() > 0.1
    direction = normal(6, 1, 28, 28, seed=1)
    step = 1e-4
    difference = (log_prob(x + step * direction) - log_prob(x - step * direction)) / (2 * step)
    expected = (slope * direction).flatten(1).sum(1)
    assert torch.allclose(difference, expected, rtol=1e-5, atol=1e-6)


def test_bytes_are_no_pictures() -> None:
    # Catches: logits that are cut to bytes, of pictures in 0 to 255.
    for dtype in (torch.uint8, torch.int64):
        with pytest.raises(po.InputError, match=r"of floating point, in \[-1, 1\]; these are of"):
            po.priors.load_classifier().logits(torch.zeros(1, 1, 28, 28, dtype=dtype))
    with pytest.raises(po.InputError, match="dtype is one of floating point"):
        po.priors.load_classifier(dtype=torch.int32)


def test_its_features() -> None:
    x, _ = examples()
    judge = load_classifier()
    net = judge.logits
    assert isinstance(net, DigitsNet)
    features = Penultimate(judge, batch=4)(x)
    assert features.shape == (6, 64)
    assert torch.allclose(net.head(features), judge(x), atol=1e-5)
    # A shifted picture keeps its features; its pixels do not (they may be nearer another digit's).
    moved = Penultimate(judge)(x.roll(2, -1))
    nearest = torch.cdist(moved, features).argmin(1)
    assert nearest.tolist() == list(range(6))


def test_metrics_on_its_features() -> None:
    # Jittered copies of three digits, and of two of them.
    x, _ = examples()
    generator = torch.Generator().manual_seed(0)

    def copies(which: list[int], n: int) -> Tensor:
        many = x[which].repeat_interleave(n, 0)
        many = many + 0.3 * torch.randn(many.shape, generator=generator)
        return Penultimate(load_classifier())(many)

    reference, whole, part = copies([0, 1, 2], 60), copies([0, 1, 2], 60), copies([0, 1], 90)
    assert min(precision_recall(whole, reference)) > 0.8
    dropped = precision_recall(part, reference)
    assert dropped.precision > 0.8
    assert dropped.recall < 0.7
    assert density_coverage(part, reference).coverage < 0.7
    assert density_coverage(whole, reference).coverage > 0.9
    assert frechet_distance(part, reference) > 5 * frechet_distance(whole, reference)


# The exact classifier


def test_two_gaussians_in_closed_form() -> None:
    # log p(1 | x) / p(0 | x) = d^T C^-1 (x - m) + log of the shares, with C = covariance + sigma^2.
    # Catches: the noise level left out, shares that are not normalised or that are exponents.
    first, second = gaussian(3), gaussian(3, seed=4)
    second = po.Gaussian(second.mean, first.covariance)
    bayes = BayesClassifier([first, second], shares=[3.0, 1.0])
    x = 2 * normal(5, 2, 3)
    for sigma in (0.0, 0.7, 5.0):
        total = first.covariance + sigma**2 * torch.eye(3, dtype=F64)
        slope = torch.linalg.solve(total, second.mean - first.mean)
        odds = (x - (first.mean + second.mean) / 2) @ slope + math.log(1 / 3)
        logits = bayes(x, sigma)
        assert logits.shape == (5, 2, 2)
        # Shares pass through single precision.
        assert torch.allclose(logits[..., 1] - logits[..., 0], odds, rtol=1e-9, atol=1e-6)
        expected = torch.nn.functional.logsigmoid(odds)
        assert torch.allclose(bayes.log_prob(1, x, sigma), expected, rtol=1e-9, atol=1e-6)
    assert bayes.noisy
    assert (bayes.labels, bayes.space) == (2, first.space)


def test_mixtures_by_quadrature() -> None:
    # p(c | x) is the share of c in the integral of p(c) p(x_0 | c) N(x; x_0, sigma^2) over x_0.
    def law(weights: list[float], means: list[float], stds: list[float]) -> po.GaussianMixture:
        variances = torch.tensor(stds, dtype=F64)[:, None, None] ** 2
        centers = torch.tensor(means, dtype=F64)[:, None]
        return po.GaussianMixture(torch.tensor(weights, dtype=F64), centers, variances)

    parts = [
        ([0.25, 0.75], [-2.0, 1.0], [0.3, 0.6]),
        ([0.5, 0.5], [0.0, 2.0], [0.2, 1.0]),
        ([1.0], [4.0], [0.5]),
    ]
    shares = [0.5, 0.25, 0.25]
    bayes = BayesClassifier([law(*part) for part in parts], shares)

    def joint(c: int, x: float, sigma: float) -> float:
        weights, means, stds = parts[c]

        def density(x0: float) -> float:
            terms = zip(weights, means, stds, strict=True)
            return float(sum(w * norm.pdf(x0, m, s) for w, m, s in terms) * norm.pdf(x, x0, sigma))

        return shares[c] * quad(density, -6, 8, points=[-2, 0, 1, 2, 4, x], limit=400)[0]

    for x, sigma in ((-1.0, 0.4), (0.5, 0.9), (2.7, 2.0)):
        joints = [joint(c, x, sigma) for c in range(3)]
        found = bayes(torch.tensor([[x]], dtype=F64), sigma).softmax(-1)[0]
        expected = [value / sum(joints) for value in joints]
        assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_the_score_of_the_exact_classifier_is_the_difference_of_scores() -> None:
    # grad log p(c | x) = score of the class - score of all, at every noise level.
    classes = [mixture(3, seed=1), gaussian(3, seed=5)]
    bayes = BayesClassifier(classes)
    x, sigma = normal(4, 3), 0.8
    slope = linalg.score(lambda z: bayes.log_prob(0, z, sigma), x)
    share = bayes(x, sigma).softmax(-1)
    scores = [law.score(x, sigma) for law in classes]
    everything = share[:, :1] * scores[0] + share[:, 1:] * scores[1]
    assert torch.allclose(slope, scores[0] - everything, atol=1e-9)


def test_a_network_of_the_caller_is_not_changed() -> None:
    # Catches: a classifier that freezes the caller's network, flips its mode, or draws with dropout.
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout(0.5))
    judge = CleanClassifier(network, po.Space((3,)), 2)
    with pytest.raises(po.InputError, match="training mode, where its Dropout"):
        judge(torch.zeros(1, 3))
    assert network.training
    network.eval()
    assert all(p.requires_grad for p in network.parameters())
    torch.testing.assert_close(judge(torch.ones(1, 3)), network(torch.ones(1, 3)))


def test_shares_and_classes_that_are_refused() -> None:
    with pytest.raises(po.InputError, match="at least 2 classes; 1"):
        BayesClassifier([gaussian()])
    with pytest.raises(
        po.InputError, match="classes of a classifier is an integer of at least 2; 1"
    ):
        CleanClassifier(lambda x: x, po.Space((2,)), 1)
    with pytest.raises(po.InputError, match="one noise level"):
        BayesClassifier([gaussian(), gaussian(seed=1)])(normal(2, 4), torch.ones(2))
