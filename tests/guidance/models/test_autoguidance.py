"""Autoguidance."""

import pytest
import torch

import posteria as po
from common.guidance.linear import FINE, draw, iso, pair, slope, start
from helpers import mixture
from posteria.guidance.models.autoguidance import AutoGuidance

# Autoguidance.


def test_autoguidance_narrows_a_gaussian_as_it_should() -> None:
    # Catches: the unconditional member in place of the weak one, models exchanged.
    family = pair(iso(25.0, -3.0), iso(1.0, 2.0))
    x = draw(AutoGuidance(2.5, weak=iso(1.44, 2.0)), family, FINE, po.Heun())
    x_start = start(family, FINE)
    measured = float((x[0] - x[1]) / (x_start[0] - x_start[1]))
    assert measured == pytest.approx(slope(1, 1.44, 2.5, 0, 80), rel=1e-3)
    assert (measured * 80) ** 2 == pytest.approx(1.44**-1.5, rel=3e-3)
    # Both models have the mean 2, and so has every guided one.
    torch.testing.assert_close(x, 2 + measured * (x_start - 2), rtol=0, atol=1e-4)


def test_a_weak_family_is_given_the_same_condition() -> None:
    # Catches: a weak model without the condition, as in diffusers.
    weak = po.Family(mixture(seed=9), {0: mixture(seed=13), 1: mixture(seed=17)})
    family = po.Family(mixture(), {0: mixture(seed=5), 1: mixture(seed=6)})
    target = po.Tilted(family, po.Label(1), 2.0)
    x = po.Rng(range(3)).normal(target.space)
    expected = mixture(seed=17)(x, 0.5).lerp(mixture(seed=6)(x, 0.5), 2.0)
    torch.testing.assert_close(AutoGuidance(weak=weak).at(target, x, 0.5), expected)
    alone = AutoGuidance(weak=mixture(seed=17)).at(target, x, 0.5)
    torch.testing.assert_close(alone, expected)
    of_weak = AutoGuidance(0.0, weak=weak).at(target, x, 0.5)
    torch.testing.assert_close(of_weak, mixture(seed=17)(x, 0.5))


def test_what_is_no_model_of_the_same_signals_is_refused() -> None:
    # Catches: an error from inside PyTorch in the first step; a weak model in another dtype, which is rounded.
    target = po.Tilted(pair(iso(25.0), iso(1.0)), po.Label(0), 2.0)
    single = po.Gaussian(torch.zeros(target.space.shape), torch.eye(target.space.size))
    classifier = po.guidance.BayesClassifier([iso(1.0), iso(2.0)])
    net = torch.nn.Identity()
    rules: list[tuple[po.guidance.TiltedRule, type[Exception], str]] = [
        (AutoGuidance(weak=net), po.CapabilityError, "AutoGuidance needs a Denoiser"),  # type: ignore[arg-type]
        (po.guidance.RLG(tuned=net), po.CapabilityError, "RLG needs a Denoiser"),  # type: ignore[arg-type]
        (
            po.guidance.GFCG(
                classifier=classifier, weak=po.Family(single, {0: single, 1: single})
            ),
            po.InputError,
            "The weak family draws signals of torch.float32",
        ),
    ]
    for rule, kind, words in rules:
        with pytest.raises(kind, match=words):
            rule.check(target)
