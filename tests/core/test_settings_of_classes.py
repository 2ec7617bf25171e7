"""A sampler from its `repr`, without running code."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

import posteria as po
from posteria.core.settings import rebuild
from posteria.testing import example_tilted


def test_every_preset_comes_back() -> None:
    for kind in po.samplers.SAMPLERS.values():
        for sampler in (kind(), *kind.presets().values()):
            assert po.samplers.rebuild_sampler(repr(sampler)) == sampler


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "DPS(zeta=().__class__)",
        "Nothing()",
        "DPS(zeta=1.0",
        "DPS(nothing=1.0)",
        "DPS(**{'zeta': 1.0})",
        "[x for x in ()]",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    # Catches: eval on a record that somebody else wrote.
    with pytest.raises(po.InputError, match="does not describe an object of posteria"):
        po.samplers.rebuild_sampler(text)


def test_records_of_earlier_names_are_read() -> None:
    # Catches: a run or a table of results whose sampler has been renamed since, and which cannot be continued.
    old = "TwistedSMC(particles=64, dense=2)"
    assert po.samplers.rebuild_sampler(old) == po.Exact(particles=64, dense=2)
    assert po.samplers.rebuild_sampler("FKSteering(every=3)") == po.samplers.FK(every=3)


FORMER: dict[str, tuple[type[Any], dict[str, Any], tuple[str, ...]]] = {
    "relative": (po.MGDM, {"relative": False}, ("units",)),
    "both": (po.MGDM, {"relative": False, "sampled_kl": True}, ("units", "sampled_kl")),
    "default": (po.MGPS, {"relative": True}, ()),
    "terminal": (po.samplers.MCGDiff, {"terminal": True, "kappa": 0.1}, ("terminal",)),
    "repeated": (po.samplers.FPS, {"repeated": True}, ("repeated",)),
    "matched": (po.DAPS, {"matched": False}, ("spread",)),
    "literal": (po.guidance.DynamicCFG, {"literal": True}, ("literal",)),
}


@pytest.mark.parametrize("name", FORMER)
def test_a_switch_under_its_former_keyword(name: str) -> None:
    # Catches: a keyword that breaks without notice, or is taken for its opposite; an old record that warns.
    kind, former, switches = FORMER[name]
    with pytest.warns(DeprecationWarning, match=r"is now as_published=\('.*',\)"):
        made = kind(**former)
    assert made.as_published == switches
    text = ", ".join(f"{key}={value!r}" for key, value in former.items())
    assert rebuild(f"{kind.__name__}({text})", {kind.__name__: kind}) == made


def test_a_switch_is_turned_off_again_and_an_unknown_one_is_refused() -> None:
    sampler = po.MGDM.published("images")
    with pytest.warns(DeprecationWarning):
        assert dataclasses.replace(sampler, relative=True).as_published == ("sampled_kl",)
    with pytest.raises(po.InputError, match=r"no switch of MGDM 'unit'.*Did you mean 'units'"):
        po.MGDM(as_published=("unit",))


@pytest.mark.parametrize(
    "sampler",
    [
        po.DPS(zeta=np.float64(1 / 3)),
        po.DPS(zeta=torch.tensor(1 / 3)),  # type: ignore[arg-type]
        po.MMPS(iterations=np.int64(3)),  # type: ignore[arg-type]
        po.samplers.Tempered(reach=math.inf),
        po.Guided(rule=po.guidance.APG(np.float32(1 / 3), radius=math.inf)),  # type: ignore[arg-type]
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_a_number_of_any_library_is_one_of_python(sampler: Any) -> None:
    # Catches: a record with np.float64(0.3), inf, or a tensor's first four digits, which no run can be repeated from.
    assert po.samplers.rebuild_sampler(repr(sampler)) == sampler


@pytest.mark.parametrize(
    "value",
    [True, np.True_, "0.2", 0.2 + 0j, np.complex128(0.2), torch.ones(2), torch.tensor(True)],
)
def test_what_is_no_number_is_refused(value: Any) -> None:
    # Catches: a switch taken for the number 1; an error from inside PyTorch.
    for make in (lambda: po.DPS(zeta=value), lambda: po.MMPS(iterations=value)):
        with pytest.raises(po.InputError, match=r"(zeta|iterations) of .* is"):
            make()


def test_the_model_of_a_rule_is_no_part_of_its_repr() -> None:
    # Catches: an address in a record, which is another in each process and which nothing is rebuilt from.
    laws = [po.Gaussian(torch.full((2,), m), torch.eye(2)) for m in (0.0, 1.0)]
    classifier = po.guidance.BayesClassifier(laws)
    assert repr(classifier) == "BayesClassifier(2 classes, event (2,))"
    for rule in (
        po.guidance.ClassifierGuidance(2.0, classifier=classifier),
        po.guidance.EluCD(2.0, classifier=classifier),
        po.guidance.GFCG(2.0, classifier=classifier),
        po.guidance.DynamicCFG(evaluators=(lambda x, sigma: classifier(x)[..., 0],)),
    ):
        again = po.samplers.rebuild_sampler(repr(po.Guided(rule=rule)))
        assert isinstance(again, po.Guided) and type(again.rule) is type(rule)
        with pytest.raises(po.CapabilityError, match=r"needs (a classifier|evaluators)"):
            again.rule.check(example_tilted(2.0))


SETTINGS: list[tuple[Any, dict[str, Any], str]] = [
    (po.DAPS, {"exact": "no"}, "exact of DAPS is True or False; 'no' is not"),
    (po.samplers.DCPS, {"adam": 0}, "adam of DCPS is True or False"),
    (po.samplers.FK, {"window": 0.5}, "window of FK is a tuple of 2; 0.5 is not"),
    (po.samplers.FK, {"window": (0.1,)}, "window of FK is a tuple of 2"),
    (po.samplers.FK, {"window": (True, 1)}, "window of FK is a tuple of 2 numbers"),
    (po.samplers.InnerSteps, {"last": (1.5, 2)}, "None, or a tuple of 2 integers"),
    (po.MGDM, {"as_published": "units"}, "as_published of MGDM is a tuple; 'units' is not"),
    (po.guidance.DynamicCFG, {"weights": 3.0}, "weights of DynamicCFG is a tuple; 3.0 is not"),
]


@pytest.mark.parametrize(("kind", "wrong", "sentence"), SETTINGS)
def test_switches_and_tuples_are_what_they_are_called(
    kind: Any, wrong: dict[str, Any], sentence: str
) -> None:
    # Catches: "no" taken for True; a word taken for its letters.
    with pytest.raises(po.InputError, match=sentence):
        kind(**wrong)


def test_a_list_is_kept_as_a_tuple() -> None:
    # Catches: a sampler that has no hash, and that is not equal to the one that its record describes.
    given = po.samplers.FK(window=[0.2, 0.8])  # type: ignore[arg-type]
    assert given == po.samplers.FK(window=(0.2, 0.8)) and hash(given)
    for weights in (np.linspace(1, 3, 3), [*np.linspace(1, 3, 3)], torch.linspace(1, 3, 3)):
        rule = po.guidance.DynamicCFG(weights=weights)  # type: ignore[arg-type]
        assert "weights=(1.0, 2.0, 3.0)" in repr(rule)
    assert po.DAPS(exact=np.False_) == po.DAPS(exact=False)  # type: ignore[arg-type]
    assert po.MGDM(as_published=["units"]) == po.MGDM(as_published=("units",))  # type: ignore[arg-type]
