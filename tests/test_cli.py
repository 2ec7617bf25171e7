"""The command line: what it writes, and one sentence for every wrong input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import posteria as po
from posteria import cli
from posteria.priors import SHIPPED
from posteria.runs import store as store_module

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
    assert (record["results"]["forward"], record["results"]["backward"]) == (4, 3)
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
    shutil.copytree(SHIPPED["digits"].folder, prior)
    words = ["restore", DIGIT, "--prior", prior, "--out", out, *QUICK]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    weights = prior / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({k: v * 1.01 for k, v in load_file(weights).items()}, weights)
    before = files(out)
    assert posteria(*words, monkeypatch=monkeypatch) == 1
    assert "holds another run (its prior_sha256 differ" in capsys.readouterr().err
    again = ["restore", "--record", out / "run.json", "--out", tmp_path / "again"]
    assert posteria(*again, monkeypatch=monkeypatch) == 1
    assert "was made with other weights" in capsys.readouterr().err
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
    monkeypatch.setattr(cli, "console", cli.Console(width=160))
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
    assert "Sampler: MGPS: 49 linear measurements" in " ".join(capsys.readouterr().out.split())
    results = json.loads((tmp_path / "run" / "run.json").read_text())["results"]
    assert 80 < results["forward"] + results["backward"] <= 100
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
    results = json.loads((tmp_path / "run" / "run.json").read_text())["results"]
    looks = 23 + 6 * 32
    assert results["forward"] == looks + 6 * 4
    assert results["backward"] == 6 * 4
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


WRONG = {
    "missing.png": "There is no file",
    "corrupt.png": "cannot be read as a picture",
    "text.png": "cannot be read as a picture; give a PNG or JPEG file",
    "colour.png": "is 28 x 28 pixels in colour; the prior 'digits' takes 28 x 28 in grey. Add --fit",
    "large.png": "is 20 x 30 pixels in grey",
    "nan.npy --task denoise": "1 entries that are NaN",
    "nan.npy --task denoise --input-kind clean": "NaN or infinite",
    "short.npy --task denoise": "'denoise' on the prior 'digits' measures shape (1, 28, 28)",
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
    "--prior digit": "no prior 'digit'; there are digits, emoji, diffusers:FOLDER-OR-NAME. Did you mean 'digits'?",
    "--sampler mgmd": "Did you mean 'mgdm'?",
    "--preset fhq": "no published setting of MGDM 'fhq'",
    "--set gibs=2": "Did you mean 'gibbs'?",
    "--set gibbs": "--set takes NAME=VALUE",
    "--set gibbs=two": "gibbs takes int, such as 1; 'two' is not one",
    "--set gibbs=0": "at least 1 Gibbs sweep",
    "--set gibbs=True": "gibbs takes int",
    "--set index=5": "index takes IndexLaw, such as Mix(",
    "--set index=__import__('os')": "index takes IndexLaw",
    "--steps 0": "at least 1 step",
    "--samples 0": "at least 1",
    "--seed -1": "A seed is an integer from 0",
    "--label 10": "from 0 to 9; 10 is not",
    "--size 30": "--size takes HEIGHTxWIDTH",
    "--size 30x29": "multiples of 4; 30 x 29 is not",
    "--task sr --factor 5": "Blocks of 5 x 5 do not tile",
    "--task jpeg --quality 0": "quality of a JPEG is 1 to 100",
    "--task blur --blur 0": "width above 0 pixels",
    "--task quantize --bits 0": "at least 1 bit",
    "--task grey": "needs a colour picture",
    "--input-kind measurement": "A measurement has to be given",
    "--input-kind noisy colour.png": "'clean' or 'measurement'",
    "--device gpu": "is not a device",
    "--prior diffusers:full": "is not a diffusers pixel model",
    "--out full": "holds other files (thesis.tex)",
    "--out file/run": "cannot be written to",
    "--record absent.json": "There is no file",
    "--record file": "is damaged",
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
