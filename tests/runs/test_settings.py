"""From words to a sampler."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import posteria as po
from common.sampler import TARGETS
from posteria.runs.jobs.restore import prepare
from posteria.runs.request import Restore
from posteria.runs.settings import choose_sampler, sampler_of


def test_settings_are_values_of_the_sampler() -> None:
    # Catches: a setting that is read and then dropped, a schedule that --steps forgets.
    sampler = choose_sampler(
        "mgdm", None, 30, {"gibbs": "2", "lr": "1", "index": "Midpoint(alpha=0.3)"}
    )
    expected = po.MGDM(
        schedule=po.schedules.Table(steps=30), gibbs=2, lr=1.0, index=po.samplers.Midpoint(0.3)
    )
    assert sampler == expected
    assert isinstance(sampler.lr, float)  # type: ignore[attr-defined]
    karras = choose_sampler(
        "mgps", None, 20, {"schedule": "Karras(steps=5)", "warm": "0.7", "carry": "False"}
    )
    assert karras == po.MGPS(schedule=po.Karras(steps=20), warm=0.7, carry=False)
    assert choose_sampler("mgps", "ffhq", None, {"warm": "None"}).warm is None  # type: ignore[attr-defined]
    assert choose_sampler("mgdm", None, None, {"early": "(3, 0.1)"}).early == (3, 0.1)  # type: ignore[attr-defined]
    assert choose_sampler("dps", "gmm", None, {}) == po.DPS.published("gmm")


@pytest.mark.parametrize("text", ["x", "(1", "DPS()", "None", "0.5", "[1]"])
def test_values_of_another_kind_are_refused(text: str) -> None:
    with pytest.raises(po.InputError, match="gibbs takes int, such as 1"):
        choose_sampler("mgdm", None, None, {"gibbs": text})


def test_what_is_not_named_is_that_of_photographs() -> None:
    # Catches: steps, a budget or settings of one's own that a default replaces; a default that reaches other priors.
    few = Restore(input="a.png", task="sr").named()
    assert (few.prior, few.sampler, few.steps) == ("photo", "mmps", 16)
    assert few.settings == {"solver": "'gmres'"}
    for own in ({"steps": 0}, {"budget": 50}, {"settings": {"eta": "0.0"}}):
        named = Restore(input="a.png", task="sr", **own).named()
        assert named.sampler == "mmps" and {**vars(named), **own} == vars(named)
        # Other steps of the same sampler: its other settings are as much a part of it.
        assert named.settings == own.get("settings", few.settings)
        assert named.steps == own.get("steps")
    assert Restore(input="a.png", prior="digits").named().sampler == "mgdm"
    assert Restore(input="a.png", task="phase").named().sampler == "mgdm"
    assert Restore(input="a.png", task="jpeg").named().sampler == "mmps"
    assert Restore(input="a.png", sampler="daps").named().steps is None
    kinds = {"a.HEA": "ecg", "a.edf": "ecg", "b/a.wav": "stems", "a.npy": "photo", "a": "photo"}
    assert {name: Restore(input=name).named().prior for name in kinds} == kinds
    assert Restore(input="a.hea", prior="mine").named().prior == "mine"
    strip = Restore(input="a.hea", task="clip").named()
    assert (strip.sampler, strip.steps) == ("mmps", 25)
    assert Restore(input="a.hea", task="gap").named().sampler == "daps"
    # The levels are those of ECGs, which others leave, however many they are.
    shorter = Restore(input="a.hea", task="clip", steps=20).named()
    words = (shorter.sampler, shorter.preset, shorter.steps, shorter.settings)
    levels = po.Karras(steps=20, sigma_min=0.02, sigma_max=3.0)
    assert choose_sampler(*words) == po.MMPS(solver="gmres", schedule=levels)
    shown = Restore().named()
    assert (shown.prior, shown.task, shown.simulate) == ("photo", "sr", True)
    # It is the first one of the kind of data.
    assert Restore(prior="digits").named().task == ""


def test_what_is_only_noisy_is_drawn_exactly_where_nothing_else_is_asked_for() -> None:
    # Catches: a sampler or settings of one's own that are replaced, steps or a budget that are forgotten, the usual
    # settings of photographs handed on, a hole that is taken for noise.
    exact = po.samplers.ReverseDiffusion()

    def taken(target: str = "noise", **asked: Any) -> object:
        request = Restore(input="a.png", task="denoise", **asked)
        return sampler_of(request.named(), request)(TARGETS[target])[0]

    assert taken() == exact
    assert taken(steps=7) == exact.with_steps(7)
    assert taken(budget=40) == exact.with_steps(40)
    assert taken(sampler="ddrm") == po.samplers.DDRM()
    assert taken(settings={"iterations": "3"}) == po.MMPS(iterations=3)
    assert taken("linear") == po.MMPS(solver="gmres").with_steps(16)


def test_a_noise_that_is_the_task_is_estimated(tmp_path: Path) -> None:
    # Catches: the usual level of other tasks, which is a guess where noise is all there is to remove.
    x = 0.2 * torch.randn(3, 40, 40, generator=torch.Generator().manual_seed(5))
    np.save(tmp_path / "y.npy", x.numpy())
    asked: dict[str, Any] = {
        "input": str(tmp_path / "y.npy"),
        "prior": "photo-bf",
        "size": (40, 40),
    }
    found = {
        task: prepare(Restore(task=task, **asked)).request.sigma for task in ("denoise", "blur")
    }
    assert found == {"denoise": pytest.approx(0.2, rel=0.1), "blur": 0.05}
    assert prepare(Restore(task="denoise", simulate=True, **asked)).request.sigma == pytest.approx(
        0.05
    )
