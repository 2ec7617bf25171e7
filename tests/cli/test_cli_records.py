"""A run that was begun or finished before: what goes on, what is written again, what its record repeats."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import posteria as po
from common.command import QUICK, SIMULATED, files, posteria
from posteria.priors import SHIPPED


def test_weights_that_changed_are_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a run that goes on with other weights than it began with.
    prior, out = tmp_path / "prior", tmp_path / "run"
    shutil.copytree(SHIPPED["digits"].folder, prior, ignore=shutil.ignore_patterns("card.toml"))
    words = ["restore", *SIMULATED, "--prior", prior, "--out", out, *QUICK]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    weights = prior / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({k: v * 1.01 for k, v in load_file(weights).items()}, weights)
    before = files(out)
    assert posteria(*words, monkeypatch=monkeypatch) == 1
    assert "holds another run (what differs: weights of the prior)" in capsys.readouterr().err
    again = ["restore", "--record", out / "run.json", "--out", tmp_path / "again"]
    assert posteria(*again, monkeypatch=monkeypatch) == 1
    assert "was made with weights of the prior of SHA-256" in capsys.readouterr().err
    assert files(out) == before and not (tmp_path / "again").exists()


def test_what_is_missing_of_a_finished_run_is_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a run that was "finished before" without its results; work that is done twice.
    out = tmp_path / "run"
    words = ["restore", *SIMULATED, "--out", out, *QUICK]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    before, record = files(out), json.loads((out / "run.json").read_text())
    samples = np.load(out / "samples.npz")["samples"]
    steps: list[int] = []
    step = po.DPS.step
    monkeypatch.setattr(po.DPS, "step", lambda *words: (steps.append(1), step(*words))[1])
    everything = ["report.html", "samples/1.png", "input.npz", "mean.png"]
    for name in everything:
        (out / name).unlink()
    (out / "std.png").write_bytes(b"half")
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    assert "Missing or damaged in this finished run: " in said and "; written again" in said
    assert "finished before" not in said
    same = {name for name, content in files(out).items() if content == before[name]}
    # The page has the peak memory, which another process has its own of.
    assert not steps and {*everything, "std.png", "samples.npz"} - same <= {"report.html"}
    assert (out / "report.html").exists()
    assert json.loads((out / "run.json").read_text())["drawn"] == record["drawn"]
    # Samples that are gone or damaged are drawn again, to the last bit.
    for spoil in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:500])):
        spoil(out / "samples.npz")
        assert posteria(*words, monkeypatch=monkeypatch) == 0
        assert "run: samples.npz; the same samples were drawn again" in capsys.readouterr().out
        assert np.array_equal(np.load(out / "samples.npz")["samples"], samples)
    assert len(steps) == 2 * 2 * 4
    assert not (out / "chunks").exists()


def test_a_run_goes_on_with_more_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a chunk size that follows the number of samples, samples drawn twice, another law in the same folder.
    out = tmp_path / "run"
    words = ["restore", *SIMULATED, "--sampler", "dps", "--steps", 4, "--out"]
    first = ["--chunk", 2, "--samples", 3]
    assert posteria(*words, out, *first, monkeypatch=monkeypatch) == 0
    assert (
        posteria(*words, tmp_path / "whole", "--chunk", 2, "--samples", 6, monkeypatch=monkeypatch)
        == 0
    )
    drawn: list[int] = []
    step = po.DPS.step

    def watched(self: po.DPS, target: Any, state: Any, *rest: Any) -> Any:
        drawn.append(len(state.x))
        return step(self, target, state, *rest)

    monkeypatch.setattr(po.DPS, "step", watched)
    # The recorded chunk size is kept where none is given.
    assert posteria(*words, out, "--samples", 6, monkeypatch=monkeypatch) == 0
    assert drawn == [2] * 8
    one, other = (np.load(folder / "samples.npz") for folder in (out, tmp_path / "whole"))
    assert all(np.array_equal(one[name], other[name]) for name in one.files)
    results = [
        json.loads((folder / "run.json").read_text())["results"]
        for folder in (out, tmp_path / "whole")
    ]
    assert results[0]["residual"] == results[1]["residual"]
    for name in ("forward", "backward", "operator"):
        assert results[0]["cost"][name] == results[1]["cost"][name]
    before = files(out)
    capsys.readouterr()
    for more, sentence in (
        (["--samples", 2], "which can grow and not shrink to 2"),
        (["--samples", 8, "--seed", 1], "holds another run (what differs: seed, data_seed)"),
        (
            ["--samples", 8, "--chunk", 4],
            "draws 2 samples at once, and --chunk 4 cannot go on with it; leave",
        ),
    ):
        assert posteria(*words, out, *more, monkeypatch=monkeypatch) == 1
        assert sentence in capsys.readouterr().err
    assert files(out) == before


def test_a_record_knows_what_it_was_made_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a record that is repeated with another input, or whose values are taken as they are.
    first = tmp_path / "first"
    assert posteria("restore", *SIMULATED, "--out", first, *QUICK, monkeypatch=monkeypatch) == 0
    arrays = dict(np.load(first / "input.npz"))

    def plan(**changes: Any) -> Callable[[Path], Any]:
        def change(folder: Path) -> None:
            record = json.loads((folder / "run.json").read_text())
            record["plan"].update(changes)
            (folder / "run.json").write_text(json.dumps(record))

        return change

    def other(folder: Path) -> None:
        np.savez(folder / "input.npz", **{**arrays, "truth": arrays["truth"] * 0.5})

    cases: list[tuple[Callable[[Path], Any], str]] = [
        (other, "was made with input of SHA-256"),
        (lambda f: (f / "input.npz").write_bytes(b"PK\3\4half"), "cannot be read as an array"),
        (lambda f: (f / "input.npz").unlink(), "There is no file"),
        (plan(options={"foo": 1}), "There is no option of the task 'inpaint' 'foo'"),
        (plan(samples="many"), "samples takes int; 'many' is not one"),
        (plan(samples=True), "samples takes int; True is not one"),
        (plan(sigma=None), "--sigma auto estimates the noise of a measurement"),
        (plan(sigma="loud"), "sigma takes float or 'usual' or None; 'loud' is not one"),
        (
            plan(input_kind="clean"),
            "another version of posteria wrote it: input_kind is not known",
        ),
        (plan(size=[28]), "digits draws pictures: size=(height, width)"),
        (plan(size=[0, 28]), "--size is of sides of at least 1; (0, 28) is not"),
        (plan(settings=[1]), "settings takes dict"),
        (plan(sampler="__import__('os').mkdir('ran')"), "does not describe an object"),
        (plan(extra=1), "extra is not known"),
        (plan(hashes={"prior": "0" * 64}), "was made with weights of the prior of SHA-256"),
        (lambda f: (f / "run.json").write_text('{"job": "restore"'), "is damaged"),
        (lambda f: (f / "run.json").write_bytes(b"\xff\xfe"), "is damaged"),
        (lambda f: (f / "run.json").write_text("[" * 100_000), "is damaged"),
    ]
    capsys.readouterr()
    for spoil, sentence in cases:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(first, tmp_path / "copy")
        spoil(tmp_path / "copy")
        words = ["restore", "--record", tmp_path / "copy" / "run.json", "--out", tmp_path / "out"]
        assert posteria(*words, monkeypatch=monkeypatch) == 1, sentence
        error = capsys.readouterr().err
        assert sentence in error and error.count("\n") == 1
        assert not (tmp_path / "out").exists()
