"""The command line: what it writes, and one sentence for every wrong input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import posteria as po
from posteria import cli
from posteria.cli import output
from posteria.diffusion.denoiser import Counted
from posteria.modalities import MODALITIES
from posteria.priors import SHIPPED
from posteria.runs import store as store_module
from posteria.samplers import rebuild_sampler

QUICK = ["--sampler", "dps", "--steps", "4", "--samples", "3", "--chunk", "2"]
DIGIT = SHIPPED["digits"].examples[1]


def posteria(*words: object, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command line; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["posteria", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_restore_writes_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    words = ["restore", DIGIT, "--task", "inpaint", "--mask", "half", "--out", out, *QUICK]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    arrays = np.load(out / "samples.npz")
    assert arrays["samples"].shape == (3, 1, 28, 28)
    assert arrays["seeds"].tolist() == [0, 1, 2]
    assert arrays["measurement"].shape == (28 * 14,)
    assert np.allclose(arrays["mean"], arrays["samples"].mean(0), atol=1e-6)
    assert np.allclose(arrays["std"], arrays["samples"].std(0, ddof=1), atol=1e-5)
    # Catches: noise of another level, or drawn from the stream of the first sample.
    noise = (arrays["measurement"] - arrays["truth"][0, :, :14].flatten()) / 0.05
    assert abs(noise.std() - 1) < 0.15
    first = po.Rng([0]).normal(po.Space((28 * 14,)))[0].numpy()
    assert abs(np.corrcoef(noise, first)[0, 1]) < 0.2
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done"
    seen = arrays["samples"][:, 0, :, :14].reshape(3, -1)
    residual = np.sqrt((((arrays["measurement"] - seen) / 0.05) ** 2).mean(1))
    assert record["results"]["residual"] == pytest.approx(residual.tolist(), rel=1e-4)
    assert (record["results"]["cost"]["forward"], record["results"]["cost"]["backward"]) == (4, 3)
    for name in ("truth", "measurement", "mean", "std", "residual", "samples", "samples/2"):
        with Image.open(out / f"{name}.png") as image:
            image.verify()
    page = (out / "report.html").read_text()
    assert not re.search(r"(src|href)=.(?!data:)", page)
    printed = capsys.readouterr().out
    for words_of_table in ("residual / sigma", "PSNR", "SSIM", "4 + 3 vjps", "seconds", "MiB"):
        assert words_of_table in printed
    assert not (out / "chunks").exists() and not list(out.glob(".*"))

    before = files(out)
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    assert "finished before" in capsys.readouterr().out
    assert files(out) == before

    other = [*words[:-2], "--chunk", "3"]
    assert posteria(*other, monkeypatch=monkeypatch) == 1
    assert "holds another run (its chunk differ" in capsys.readouterr().err
    assert files(out) == before

    again = tmp_path / "again"
    assert (
        posteria("restore", "--record", out / "run.json", "--out", again, monkeypatch=monkeypatch)
        == 0
    )
    assert np.array_equal(np.load(again / "samples.npz")["samples"], arrays["samples"])


def test_weights_that_changed_are_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a run that goes on with other weights than it began with.
    prior, out = tmp_path / "prior", tmp_path / "run"
    shutil.copytree(SHIPPED["digits"].folder, prior, ignore=shutil.ignore_patterns("card.toml"))
    words = ["restore", DIGIT, "--prior", prior, "--out", out, *QUICK]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    weights = prior / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({k: v * 1.01 for k, v in load_file(weights).items()}, weights)
    before = files(out)
    assert posteria(*words, monkeypatch=monkeypatch) == 1
    assert "holds another run (its weights of the prior differ" in capsys.readouterr().err
    again = ["restore", "--record", out / "run.json", "--out", tmp_path / "again"]
    assert posteria(*again, monkeypatch=monkeypatch) == 1
    assert "was made with weights of the prior of SHA-256" in capsys.readouterr().err
    assert files(out) == before and not (tmp_path / "again").exists()


def test_a_measurement_of_one_s_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.array(Image.open(DIGIT))
    picture[:, 14:] = 77
    mask = np.zeros((28, 28), dtype=np.uint8)
    mask[:, :14] = 255
    Image.fromarray(picture).save(tmp_path / "seen.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    holes = picture[None] / 127.5 - 1
    holes[..., 14:] = np.nan
    np.save(tmp_path / "seen.npy", holes)
    samples = []
    for i, source in enumerate(("seen.png", "seen.npy")):
        words = [
            tmp_path / source,
            "--mask",
            tmp_path / "mask.png",
            "--input-kind",
            "measurement",
            "--out",
            tmp_path / str(i),
        ]
        assert posteria("restore", *words, *QUICK, monkeypatch=monkeypatch) == 0
        assert "PSNR" not in capsys.readouterr().out
        samples.append(np.load(tmp_path / str(i) / "samples.npz")["samples"])
    # What lies under the missing pixels, a colour or nan, changes nothing.
    assert np.allclose(samples[0], samples[1], atol=1e-4)
    again = ["restore", "--record", tmp_path / "0" / "run.json", "--out", tmp_path / "again"]
    assert posteria(*again, monkeypatch=monkeypatch) == 0
    assert np.array_equal(np.load(tmp_path / "again" / "samples.npz")["samples"], samples[0])


@pytest.mark.parametrize(
    "task",
    [
        "inpaint",
        "sr",
        "blur",
        "motion",
        "nonlinear-blur",
        "jpeg",
        "hdr",
        "quantize",
        "phase",
        "denoise",
    ],
)
def test_every_task_runs(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "restore",
        "--task",
        task,
        "--out",
        tmp_path / "run",
        "--sampler",
        "mgps",
        "--steps",
        "3",
        "--samples",
        "1",
    ]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    assert (tmp_path / "run" / "report.html").exists()


def test_list_explains_what_exists(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert posteria("list", monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    for word in (
        "digits",
        "mgdm",
        "mgps",
        "dps",
        "exact",
        "linear operator, Gaussian noise",
        "--sampler auto",
        "inpaint",
        "phase",
        "ffhq",
        "--quality",
    ):
        assert word in printed
    assert posteria("list", "sampler", monkeypatch=monkeypatch) == 1
    assert "Did you mean 'samplers'?" in capsys.readouterr().err


def test_auto_says_which_sampler_and_why_and_keeps_to_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["restore", DIGIT, "--sampler", "auto", "--budget", 100, "--samples", 1]
    words += ["--task", "sr", "--out", tmp_path / "run"]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(r"Sampler: \w+: at \d+ evaluations its distance to the exact law", printed)
    cost = json.loads((tmp_path / "run" / "run.json").read_text())["results"]["cost"]
    assert 80 < cost["forward"] + cost["backward"] <= 100
    # The record repeats the run.
    again = ["restore", "--record", tmp_path / "run" / "run.json", "--out", tmp_path / "again"]
    assert posteria(*again, monkeypatch=monkeypatch) == 0
    first, second = (np.load(tmp_path / name / "samples.npz") for name in ("run", "again"))
    assert np.array_equal(first["samples"], second["samples"])


def test_a_population_is_drawn_once_and_its_cost_is_shared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a population simulated again for every chunk of its seeds.
    words = ["restore", DIGIT, "--task", "sr", "--sampler", "exact", "--set", "particles=4"]
    words += ["--set", "schedule=Karras(steps=6, sigma_max=80.0)", "--samples", 4, "--chunk", 2]
    assert posteria(*words, "--out", tmp_path / "run", monkeypatch=monkeypatch) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    results, plan = record["results"], record["plan"]
    # What one population costs, the scale of a prior that nobody measured before included.
    prior, operator = (
        Counted(po.load_prior("digits")),
        po.operators.SuperResolution(4, (1, 28, 28)),
    )
    truth = MODALITIES["image"].read(DIGIT, (1, 28, 28), taker="it takes").x
    target = po.Posterior(prior, po.GaussianLikelihood(operator, std=0.05), operator(truth))
    rebuild_sampler(plan["sampler"]).sample(target, range(4))
    assert results["cost"]["forward"] * 4 == prior.meter.forward > 23 * 32
    assert results["cost"]["backward"] * 4 == prior.meter.backward
    assert results["shared"] == 4
    assert "a population of 4, which costs" in " ".join(capsys.readouterr().out.split())


def write_inputs(folder: Path) -> None:
    Image.new("RGB", (28, 28)).save(folder / "colour.png")
    Image.new("L", (30, 20)).save(folder / "large.png")
    (folder / "corrupt.png").write_bytes(DIGIT.read_bytes()[:60])
    (folder / "text.png").write_text("not a picture")
    Image.new("L", (20, 20), 255).save(folder / "small-mask.png")
    Image.new("L", (28, 28), 0).save(folder / "empty-mask.png")
    nan = np.zeros(28 * 28, dtype=np.float32)
    nan[5] = np.nan
    np.save(folder / "nan.npy", nan.reshape(1, 28, 28))
    np.save(folder / "short.npy", nan[:10])
    np.save(folder / "words.npy", np.array(["a", "b"]))
    np.savez(folder / "two.npz", a=nan, b=nan)
    (folder / "broken.npy").write_bytes(b"nothing")
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").write_text("mine")
    (folder / "file").write_text("")
    (folder / "ended").mkdir()
    (folder / "ended" / "run.json").write_text("{}")
    old = {
        "job": "restore",
        "status": "done",
        "posteria": "0.0.9",
        "plan": {"input_sha256": "0" * 64},
    }
    (folder / "old.json").write_text(json.dumps(old))
    (folder / "list.json").write_text("[1]")
    (folder / "drawn.json").write_text(json.dumps({"job": "generate", "plan": {}}))
    (folder / "drawn").mkdir()
    (folder / "drawn" / "run.json").write_text(json.dumps({"job": "generate", "plan": {}}))


WRONG = {
    "missing.png": "There is no file",
    "corrupt.png": "cannot be read as a picture",
    "text.png": "cannot be read as a picture; give a PNG or JPEG file",
    "colour.png": "is 28 x 28 pixels in colour; the prior 'digits' takes 28 x 28 in grey. Add --fit",
    "large.png": "is 20 x 30 pixels in grey",
    "nan.npy --task denoise": "1 entries that are NaN",
    "nan.npy --task denoise --input-kind clean": "NaN or infinite",
    "short.npy --task denoise": "'denoise' on the prior 'digits' measures (1, 28, 28)",
    "short.npy --input-kind clean": "has shape (10,); the prior 'digits' takes (1, 28, 28)",
    "words.npy": "numbers are needed",
    "two.npz": "holds the arrays a, b; name the one to use 'measurement'",
    "broken.npy": "cannot be read as an array",
    "absent.npy": "There is no file",
    "--mask small-mask.png": "The mask small-mask.png is 20 x 20; the picture is 28 x 28",
    "--mask empty-mask.png": "The mask is empty",
    "--mask nothing.png": "There is no file",
    "--mask bx": "no mask 'bx'; there are box, half, expand, random, FILE. Did you mean 'box'?",
    "--mask random --share 0": "share of seen pixels is above 0",
    "--sigma 0": "--sigma is a noise level above 0 in data units",
    "--sigma -1": "noise level above 0",
    "--sigma nan": "noise level above 0",
    "--task inpant": "no task 'inpant'; there are",
    "--prior digit": "adm:FILE.pt. Did you mean 'digits'?",
    "--sampler mgmd": "Did you mean 'mgdm'?",
    "--preset fhq": "no published setting of MGDM 'fhq'",
    "--set gibs=2": "Did you mean 'gibbs'?",
    "--set gibbs": "--set takes NAME=VALUE",
    "--set gibbs=two": "gibbs takes int, such as 1; 'two' is not one",
    "--set gibbs=0": "gibbs of MGDM is an integer, at least 1; 0 is not",
    "--set gibbs=True": "gibbs takes int",
    "--set index=5": "index takes IndexLaw, such as Mix(",
    "--set index=__import__('os')": "index takes IndexLaw",
    "--steps 0": "at least 1 step",
    "--samples 0": "at least 1",
    "--samples 1000000000000": "A seed is an integer from 0 to below 2^32",
    "--seed -1": "A seed is an integer from 0",
    "--label 10": "from 0 to 9; 10 is not",
    "--size 30": "--size takes HEIGHTxWIDTH",
    "--size 30x29": "multiples of 4; 30 x 29 is not",
    "--task sr --factor 5": "Blocks of 5 x 5 do not tile",
    "--task jpeg --quality 0": "quality of a JPEG is 1 to 100",
    "--task blur --blur 0": "width above 0 pixels",
    "--task quantize --bits 0": "1 to 16 bits; 0 were given",
    "--task grey": "needs a colour picture",
    "--input-kind measurement": "A measurement has to be given",
    "--input-kind noisy colour.png": "'clean' or 'measurement'",
    "--device gpu": "is not a device",
    "--device mps": "drawn on cpu or cuda; 'mps' is neither",
    "--device meta": "drawn on cpu or cuda; 'meta' is neither",
    "--device cuda:99": "CUDA devices on this machine, not 'cuda:99'; run with --device cpu",
    "--task inpaint --factor 2": "There is no option of the task 'inpaint' 'factor'; there are mask, share, seed",
    "--option factor=2": "There is no option of the task 'inpaint' 'factor'",
    "--option factor": "--option takes NAME=VALUE",
    "--task denoise --mask half": "There is no option of the task 'denoise' 'mask'",
    "--size 0x0": "--size takes HEIGHTxWIDTH",
    "--size 400000x400000": "at once need about",
    "--sampler DPS( ": "does not describe an object of posteria",
    "--sampler CFGiG()": "CFGiG() does not sample posteriors",
    "--sampler DPS() --preset gmm": "has settings of its own; leave --preset out",
    "--sampler auto --steps 5": "--sampler auto chooses the settings as well",
    "--budget 100 --steps 5": "Give --steps or --budget, not both",
    "--prior diffusers:full": "is not a diffusers pixel model",
    "--out full": "holds other files (thesis.tex)",
    "--out file": "file is a file; --out takes a folder",
    "--out file/run": "cannot be written to",
    "--record absent.json": "There is no file",
    "--record file": "is damaged",
    "--record ended/run.json --samples 5": "--record repeats a run as it was; leave --samples out",
    "--record ended/run.json --set gibbs=2": "leave --set out",
    "--record ended/run.json digit.png": "leave INPUT out",
    "--record full": "cannot be read",
    "--record old.json": "another version of posteria wrote it: input_sha256 is not known",
    "--record list.json": "is not the record of a run",
    "--record drawn.json": "is the record of a run of `posteria generate`",
    "--out drawn": "is the record of a run of `posteria generate`",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_input_ends_in_one_sentence(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a traceback from inside torch; work before the input is known to be good; a result overwritten.
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    drawn: list[int] = []
    monkeypatch.setattr(po.MGDM, "step", lambda *_: drawn.append(1))
    assert posteria("restore", *words.split(), monkeypatch=monkeypatch) == 1
    error = capsys.readouterr().err
    assert WRONG[words] in error
    assert error.startswith("posteria: ") and error.count("\n") == 1 and "Traceback" not in error
    assert not drawn
    assert files(tmp_path) == before


@pytest.mark.parametrize("words", ["--nonsense", "--samples many", "a.png b.png", "--steps"])
def test_wrong_usage_ends_with_2(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert posteria("restore", *words.split(), monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert "Error" in error and "Traceback" not in error


DIVERGE = {
    "lgd": ["--sampler", "lgd", "--preset", "mc10"],
    "tfg": ["--sampler", "tfg", "--preset", "gaussian_deblur"],
    "dps": ["--sampler", "dps", "--set", "zeta=1e30"],
}


@pytest.mark.parametrize("name", DIVERGE)
def test_samples_that_are_not_finite_are_said_to_be_so(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Catches: nan that passes every comparison, so that the samples "fit the noise"; tokens that are no JSON.
    out = tmp_path / "run"
    words = ["restore", DIGIT, "--task", "denoise", "--sigma", "1e-3", "--samples", 2]
    words += ["--steps", 12, *DIVERGE[name], "--out", out]
    for _ in range(2):
        assert posteria(*words, monkeypatch=monkeypatch) == 3
        printed = capsys.readouterr()
        assert "posteria: the samples are not finite: the sampler diverged (2 of 2" in printed.err
        assert "nearer" not in printed.out and "nan" not in printed.out

    def refuse(token: str) -> None:
        raise AssertionError(f"run.json holds {token}")

    record = json.loads((out / "run.json").read_text(), parse_constant=refuse)
    assert record["status"] == "done" and record["results"]["residual"] == [None, None]
    assert record["results"]["metrics"]["psnr"] == [None, None]
    assert "The samples are not finite" in record["results"]["diverged"]
    page = (out / "report.html").read_text()
    assert "The samples are not finite: the sampler diverged" in page
    assert not np.isfinite(np.load(out / "samples.npz")["samples"]).all()


def test_a_sample_that_diverged_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = po.DPS.draws

    def spoilt(self: po.DPS, *words: Any) -> torch.Tensor:
        x = draws(self, *words).clone()
        x[0] = 1e20
        return x

    words = ["restore", DIGIT, "--out", tmp_path / "run", *QUICK]
    assert (
        posteria(*words, "--chunk", 3, "--out", tmp_path / "whole", monkeypatch=monkeypatch) == 0
    )
    monkeypatch.setattr(po.DPS, "draws", spoilt)
    assert posteria(*words, "--chunk", 3, monkeypatch=monkeypatch) == 3
    results, whole = (
        json.loads((tmp_path / name / "run.json").read_text())["results"]
        for name in ("run", "whole")
    )
    assert "beyond 10000 in data units: the sampler diverged (1 of 3" in results["diverged"]
    assert results["residual"] == [None, *whole["residual"][1:]]
    assert results["metrics"]["psnr"] == [None, *whole["metrics"]["psnr"][1:]]
    assert results["std"] is None and results["metrics_mean"]["psnr"] is None


def test_what_is_missing_of_a_finished_run_is_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a run that was "finished before" without its results; work that is done twice.
    out = tmp_path / "run"
    words = ["restore", DIGIT, "--out", out, *QUICK]
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
    words = ["restore", DIGIT, "--sampler", "dps", "--steps", 4, "--out"]
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
        (["--samples", 8, "--seed", 1], "holds another run (its seed, options, data_seed differ"),
        (["--samples", 8, "--chunk", 4], "holds another run (its chunk differ"),
    ):
        assert posteria(*words, out, *more, monkeypatch=monkeypatch) == 1
        assert sentence in capsys.readouterr().err
    assert files(out) == before


def test_a_record_knows_what_it_was_made_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a record that is repeated with another input, or whose values are taken as they are.
    first = tmp_path / "first"
    assert posteria("restore", DIGIT, "--out", first, *QUICK, monkeypatch=monkeypatch) == 0
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
        (plan(sigma=None), "sigma takes float; None is not one"),
        (plan(size=[28]), "size takes 2 values"),
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


def test_the_measurement_is_said_to_be_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = f"The measurement was simulated from {DIGIT.name}: denoise, with added noise of standard deviation 0.3."
    words = ["restore", DIGIT, "--task", "denoise", "--sigma", 0.3, *QUICK]
    assert posteria(*words, "--out", tmp_path / "a", monkeypatch=monkeypatch) == 0
    assert sentence in capsys.readouterr().out
    assert sentence in (tmp_path / "a" / "report.html").read_text()
    words += ["--input-kind", "measurement", "--out", tmp_path / "b"]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    assert "simulated" not in capsys.readouterr().out
    assert "simulated" not in (tmp_path / "b" / "report.html").read_text()


def test_what_is_printed_can_be_read_by_a_program_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["restore", DIGIT, "--out", tmp_path / "run", *QUICK]
    assert posteria(*words, "--json", monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert not printed.err and content["finished_before"] is False
    assert dict(content["rows"])["evaluations of the prior, per sample"] == "4 + 3 vjps"
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert content["results"] == record["results"]
    assert posteria(*words, "--quiet", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr() == ("", "")
    for what in ("samplers", "rules", "priors", "operators"):
        assert posteria("list", what, "--json", monkeypatch=monkeypatch) == 0
        assert len(json.loads(capsys.readouterr().out)[what]) > 2


def test_progress_is_lines_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a log that is empty until the end, or full of bars.
    monkeypatch.setattr(output, "EVERY", 0.0)
    words = ["restore", DIGIT, "--out", tmp_path / "run", *QUICK]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"inpaint of {DIGIT.name}: 12% after ")
    assert re.search(r": 25% after \d+ s, about \d+ s left$", lines[1])
    assert lines[-1].startswith(f"inpaint of {DIGIT.name}: 100% after ")


def test_one_entry_of_a_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert posteria("list", "samplers", "mgps", monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    assert repr(po.MGPS()) in printed and "ffhq" in printed and "Args:" in printed
    assert "mgdm" not in printed.split("\n")[0]
    assert posteria("list", "samplers", "mgsp", monkeypatch=monkeypatch) == 1
    assert "There is no sampler 'mgsp'" in capsys.readouterr().err


def test_cite_prints_what_po_cite_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a rule's or a solver's name that is not known, a list that is cited in part.
    assert posteria("cite", "mgdm", "apg", "heun", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == po.cite(po.MGDM(), po.APG(), po.Heun())
    assert posteria("cite", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == po.cite()
    assert posteria("cite", "mgdmm", monkeypatch=monkeypatch) == 1
    assert "Did you mean 'mgdm'?" in capsys.readouterr().err


def test_help_names_everything_without_loading_pytorch() -> None:
    # Catches: an import of PyTorch on the way to a help text, a version or a completion.
    code = """
import sys
from posteria.cli import main
sys.argv = ["posteria", *sys.argv[1:]]
try:
    main()
finally:
    assert not {"torch", "numpy", "diffusers", "PIL"} & set(sys.modules)
"""
    environment = {**os.environ, "COLUMNS": "200"}

    def call(*words: str, **more: str) -> str:
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment | more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    text = call("--help")
    commands = ("restore", "generate", "certify", "list", "cite", "version")
    for word in (*commands, "Exit codes", "130 stopped"):
        assert word in text
    assert call("-h") == text
    assert call("--version").strip() == call("version").strip() == po.__version__
    for command in ("restore", "generate"):
        text = " ".join(call(command, "-h").split())
        assert "Example: posteria" in text and "3 the samples are not finite" in text
        assert "Samples, such as --samples 16 --seed 100" in text
    completed = call(
        _POSTERIA_COMPLETE="complete_bash", COMP_WORDS="posteria restore --sam", COMP_CWORD="2"
    )
    assert completed.split() == ["--sampler", "--samples"]


def test_a_missing_input_is_noticed_before_anything_is_loaded(tmp_path: Path) -> None:
    code = """
import sys
from posteria.cli import main
sys.argv = ["posteria", *sys.argv[1:]]
try:
    main()
finally:
    assert "torch" not in sys.modules
"""
    for words in (
        ["nothing.png"],
        ["--mask", "nothing.png"],
        ["--kernel", "nothing.npy"],
        ["--record", "nothing.json"],
    ):
        command = [sys.executable, "-c", code, "restore", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.startswith(
            "posteria: There is no file nothing."
        )


def test_fit_takes_any_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.effect_noise((90, 50), 80).convert("RGBA").save(tmp_path / "any.png")
    words = [tmp_path / "any.png", "--fit", "--out", tmp_path / "run", *QUICK]
    assert posteria("restore", *words, monkeypatch=monkeypatch) == 0


def test_another_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.effect_noise((36, 20), 80).save(tmp_path / "wide.png")
    words = [tmp_path / "wide.png", "--size", "20x36", "--out", tmp_path / "run", *QUICK]
    assert posteria("restore", *words, monkeypatch=monkeypatch) == 0
    samples = np.load(tmp_path / "run" / "samples.npz")["samples"]
    assert samples.shape == (3, 1, 20, 36)
    again = ["--record", tmp_path / "run" / "run.json", "--out", tmp_path / "again"]
    assert posteria("restore", *again, monkeypatch=monkeypatch) == 0
    assert np.array_equal(np.load(tmp_path / "again" / "samples.npz")["samples"], samples)


def test_a_full_disk_ends_in_one_sentence_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["restore", "--out", tmp_path / "run", *QUICK]
    fsync, calls = os.fsync, [0]

    def sometimes(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] == 4:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(store_module.os, "fsync", sometimes)
    assert posteria(*words, monkeypatch=monkeypatch) == 1
    assert (
        "the disk is full; free some space and run the same command again"
        in capsys.readouterr().err
    )
    assert posteria(*words, monkeypatch=monkeypatch) == 0


def test_other_weights_are_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    tampered = dataclasses.replace(SHIPPED["digits"], sha256="0" * 64)
    monkeypatch.setitem(SHIPPED, "digits", tampered)
    assert posteria("restore", "--out", tmp_path / "run", monkeypatch=monkeypatch) == 1
    assert "is not the file it should be: its SHA-256 is" in capsys.readouterr().err


@pytest.mark.parametrize(
    "when", ["at the start", "while it loads", "while it draws", "by a scheduler"]
)
def test_an_interrupt_is_one_line_at_any_time(when: str, tmp_path: Path) -> None:
    # Catches: a traceback at the start, a silent end, a record that says "running" for ever.
    out = tmp_path / "run"
    code = "from posteria.cli import main; print('here', flush=True); main()"
    words = ["restore", str(DIGIT), "--sampler", "mgps", "--steps", "500", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'posteria'; {code}", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A shell's background job ignores interrupts, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.time() + 120
    drawing = when in {"while it draws", "by a scheduler"}
    while drawing and not (out / "input.npz").exists() and time.time() < deadline:
        time.sleep(0.01)
    time.sleep({"at the start": 0.1, "while it loads": 0.7}.get(when, 0.3))
    process.send_signal(signal.SIGTERM if when == "by a scheduler" else signal.SIGINT)
    _, error = process.communicate(timeout=120)
    # Where SIGINT comes while a module makes code of a text, Python ends by the signal itself, for
    # which a shell says 130 as well.
    assert process.returncode in {130, -signal.SIGINT}, error
    lines = [line for line in error.splitlines() if "%" not in line]
    assert lines == ["posteria: stopped; the same command goes on from here."]
    if drawing:
        assert json.loads((out / "run.json").read_text())["status"] == "stopped"
        assert not list(out.glob(".*"))


START = """
import sys
from posteria.runs import engine
engine.CHECKPOINT_EVERY = 0.0
from posteria.cli import main
main()
"""


def test_sigkill_at_any_time_leaves_the_same_samples(tmp_path: Path) -> None:
    # Catches: anything that lives in memory only, a file written in place.
    words = [
        "restore",
        DIGIT,
        "--sampler",
        "mgps",
        "--steps",
        "12",
        "--samples",
        "4",
        "--chunk",
        "2",
        "--out",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    log = (tmp_path / "log").open("wb")

    def start(out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", START, *map(str, words), str(out)]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    assert start(tmp_path / "whole").wait() == 0
    whole = np.load(tmp_path / "whole" / "samples.npz")["samples"]
    out = tmp_path / "killed"
    for checkpoint in ("chunks/00000.state", "chunks/00000.pt", "chunks/00001.state"):
        process = start(out)
        deadline = time.time() + 120
        while (
            not (out / checkpoint).exists() and process.poll() is None and time.time() < deadline
        ):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "samples.npz").exists()
    assert start(out).wait() == 0, (tmp_path / "log").read_text()
    log.close()
    assert np.array_equal(np.load(out / "samples.npz")["samples"], whole)
