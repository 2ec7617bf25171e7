"""Runs whose network is evaluated faster: the record says so, and the samples are those of `faster`."""

import json
from pathlib import Path

import numpy as np
import pytest

import posteria as po
from common.command import posteria
from posteria.priors import faster
from posteria.runs.jobs.restore import prepare
from posteria.runs.request import Restore


def test_a_faster_network_is_part_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: an option that reaches no network, or that the record does not name.
    words = ["restore", "--prior", "digits", "--task", "sr", "--sampler", "ddrm", "--steps", "3"]
    words += ["--samples", "2", "--quiet", "--out", str(tmp_path / "run")]
    ways = ("--fast", "autocast,channels_last")
    assert posteria(*words, *ways, monkeypatch=monkeypatch) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["plan"]["fast"] == ["autocast", "channels_last"]
    request = Restore(prior="digits", task="sr", sampler="ddrm", steps=3, simulate=True)
    target = prepare(request).target
    quick = faster(po.load_prior("digits"), autocast=True, channels_last=True)
    sampler = po.samplers.DDRM().with_steps(3)
    found = np.load(tmp_path / "run" / "samples.npz")["samples"]
    for prior, same in ((quick, True), (po.load_prior("digits"), False)):
        want = sampler.sample(po.Posterior(prior, target.likelihood, target.y), 2).numpy()
        assert np.allclose(found, want, atol=1e-5) is same
    assert posteria(*words, monkeypatch=monkeypatch) == 1


def test_ways_that_are_refused() -> None:
    with pytest.raises(po.InputError, match="no way to be faster 'bf16'; there are autocast"):
        prepare(Restore(prior="digits", task="sr", simulate=True, fast=("bf16",)))
    with pytest.raises(po.InputError, match="CUDA graphs are of a GPU, and this prior is on cpu"):
        prepare(Restore(prior="digits", task="sr", simulate=True, fast=("graphs",)))
