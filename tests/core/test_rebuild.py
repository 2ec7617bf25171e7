"""A sampler from its `repr`, without running code."""

import pytest

import posteria as po


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
