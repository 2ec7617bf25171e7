"""Measured scales of priors are kept from run to run, by what they were measured on."""

import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from common.models.unets import save, tiny
from posteria.runs.job import run
from posteria.runs.jobs.restore import prepare
from posteria.runs.request import Restore
from posteria.runs.store import Store

LOOK = 23 * 32


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("POSTERIA_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.save(tmp_path / "y.npy", torch.zeros(3, 8, 8).numpy())
    return save(tmp_path / "prior", tiny(), diffusers.DDPMScheduler(num_train_timesteps=50))


def restored(folder: Path, out: str, **changes: Any) -> tuple[int, str | None, np.ndarray]:
    """Evaluations of the prior, where its scale was from, and the samples."""
    given: dict[str, Any] = {
        "prior": str(folder),
        "input": str(folder.parent / "y.npy"),
        "task": "denoise",
        "sampler": "pigdm",
        "steps": 5,
        "samples": 2,
        "sigma": 0.5,
    }
    store = Store(folder.parent / out)
    run(prepare(Restore(**given | changes)), store)
    record = store.read_json("run.json")
    spent = sum(span["meter"]["forward"] for span in record["drawn"]["samples"])
    return spent, record["scale"], np.load(store.path("samples.npz"))["samples"]


@pytest.mark.filterwarnings("ignore::posteria.core.errors.ReadingWarning", "ignore:.*diverged")
def test_a_scale_is_measured_once_for_the_same_files(folder: Path, tmp_path: Path) -> None:
    # Catches: a cache that is not read, that changes samples, or that is taken for other weights, another table or
    # another size.
    spent, source, x = restored(folder, "first")
    again, later, same = restored(folder, "second")
    assert (source, later) == ("measured", "cache")
    assert spent - again == LOOK
    assert np.array_equal(x, same)
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert restored(moved, "elsewhere")[:2] == (again, "cache")

    save(folder, tiny(seed=1), diffusers.DDPMScheduler(num_train_timesteps=50))
    assert restored(folder, "weights")[:2] == (spent, "measured")
    save(folder, tiny(), diffusers.DDPMScheduler(num_train_timesteps=40))
    assert restored(folder, "table")[:2] == (spent, "measured")
    assert (
        restored(folder, "unasked", sampler="dps", prior="digits", task="inpaint", input=None)[1]
        == "card"
    )


@pytest.mark.filterwarnings("ignore::posteria.core.errors.ReadingWarning", "ignore:.*diverged")
def test_a_damaged_or_closed_cache_is_measured_past(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a run that stops for its cache, or takes half a file for a scale.
    spent, _, x = restored(folder, "first")
    (kept,) = (tmp_path / "cache" / "posteria" / "scales").iterdir()
    kept.write_bytes(kept.read_bytes()[:-7])
    again, source, same = restored(folder, "second")
    assert (again, source) == (spent, "measured")
    assert np.array_equal(x, same)
    assert restored(folder, "third")[1] == "cache"

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POSTERIA_CACHE", str(tmp_path / "file"))
    assert restored(folder, "fourth")[:2] == (spent, "measured")
