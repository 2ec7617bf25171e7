"""A sampler from its `repr`, without running code."""

import dataclasses
from typing import Any

import pytest

import posteria as po
from posteria.core.settings import rebuild


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
