"""One sentence for every wrong input, and for samples that are not what was asked for."""

import json
import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import posteria as po
from common.command import DIGIT, QUICK, SIMULATED, files, posteria
from posteria.priors import SHIPPED
from posteria.runs import store as store_module


def write_inputs(folder: Path) -> None:
    Image.new("L", (30, 20)).save(folder / "large.png")
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    pixel = (folder / "pixel.png").read_bytes()
    head = b"IHDR" + struct.pack(">II", 30000, 30000) + pixel[24:29]
    (folder / "huge.png").write_bytes(
        pixel[:12] + head + struct.pack(">I", zlib.crc32(head)) + pixel[33:]
    )
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
    "large.png --task denoise": "is 20 x 30 pixels; the task 'denoise' on the prior 'digits' measures 28 x 28",
    "nan.npy --task denoise": "1 entries that are NaN",
    "nan.npy --task denoise --simulate": "NaN or infinite",
    "short.npy --task denoise": "'denoise' on the prior 'digits' measures (1, 28, 28)",
    "short.npy --simulate": "has shape (10,); the prior 'digits' takes (1, 28, 28)",
    "words.npy": "numbers are needed",
    "two.npz --task denoise": "holds the arrays a, b; name the one to use 'measurement'",
    "broken.npy": "cannot be read as an array",
    "absent.npy": "There is no file",
    "--mask small-mask.png": "The mask small-mask.png is 20 x 20; the picture is 28 x 28",
    "--mask empty-mask.png": "empty-mask.png is all hole: everything in it is black",
    "--mask nothing.png": "There is no file",
    "--mask bx": "no mask 'bx'; there are box, half, expand, random, FILE. Did you mean 'box'?",
    "--mask box --share 0.5": "The option 'share' is for mask random; mask box makes nothing of it",
    "--hole white": "The option 'hole' is for mask FILE; mask box makes nothing of it",
    "--task blur --blur 2 --length 5": "The option 'blur' is for kernel gaussian or shake; kernel motion",
    "--task blur --length 0": "A motion needs a length above 0",
    "--task blur --length 40": "at most that of the picture, 28; 40.0 is not",
    "--task sr --by nearest": "There is no way to make a picture smaller 'nearest'; there are average, bicubic",
    "large.png": "large.png has no hole: nothing in it is transparent. Say by --mask FILE where the hole is",
    "large.png --hole #ff00ff": "large.png has no hole: nothing in it is #ff00ff",
    "large.png --hole mauvve": "--hole is a colour, such as black, white, magenta or '#ff00ff'; 'mauvve' is not",
    "--mask random --data-seed 99999999999999999999": "--data-seed is an integer from 0 to below 2^32",
    "--mask random --option seed=99999999999999999999": "A seed is an integer from 0 to 4294967295",
    "--simulate --task blur --kernel shake --option seed=-1": "A seed is an integer from 0 to 4294967295",
    "--simulate --task blur --blur 1e9": "at most that of the picture, 28; 1000000000.0 is not",
    "--simulate --task blur --kernel motion --length 1e6": "at most that of the picture, 28",
    "--set schedule=Karras(steps=0)": "object of posteria: steps of Karras is an integer, at least 1",
    "--mask random --share 0": "share of seen pixels is above 0",
    "--sigma 0": "--sigma is a noise level above 0 in data units",
    "--sigma auto": "--sigma auto estimates the noise of a measurement; to simulate one say how much",
    "--sigma loud": "--sigma is a number in data units, grey levels such as 5/255, or auto; 'loud' is none",
    "--sigma 5/0": "'5/0' is none of them",
    "large.png --task jpeg": "large.png is no JPEG file, which would tell its quality; say that by --quality",
    "--sigma -1": "noise level above 0",
    "--sigma nan": "noise level above 0",
    "--sigma 1e30": "in data units (pictures span [-1, 1]), at most 1e+09; 1e+30 is not",
    "--task inpant": "no task 'inpant'; there are",
    "--prior digit": "adm:FILE.pt. Did you mean 'digits'?",
    "--sampler mgmd": "Did you mean 'mgdm'?",
    "--preset fhq": "no published setting of MGDM 'fhq'",
    "--set gibs=2": "Did you mean 'gibbs'?",
    "--set gibbs": "--set takes NAME=VALUE",
    "--set gibbs=2 --set gibbs=3": "--set gibbs is given twice",
    "--fast bfloat16,float16": "--fast takes bfloat16 or float16, not both",
    "--set gibbs=two": "gibbs takes int, such as 1; 'two' is not one",
    "--set gibbs=0": "gibbs of MGDM is an integer, at least 1; 0 is not",
    "--set gibbs=True": "gibbs takes int",
    "--set index=5": "index takes IndexLaw, such as Mix(",
    "--set index=__import__('os')": "index takes IndexLaw",
    "--steps 0": "is an integer, at least 1; 0 is not",
    "--samples 0": "at least 1",
    "--samples 1000000000000": "A seed is an integer from 0 to below 2^32",
    "--seed -1": "A seed is an integer from 0",
    "--label 10": "from 0 to 9; 10 is not",
    "--size 30": "digits draws pictures: size=(height, width), or --size HEIGHTxWIDTH; 30 is not",
    "--size 30x29": "multiples of 4; 30 x 29 is not",
    "--task sr --factor 2 --option factor=4": "--factor and --option factor=4 are the same; give one",
    "--task sr --factor 5": "Blocks of 5 x 5 do not tile",
    "--task jpeg --quality 0": "quality of a JPEG is 1 to 100",
    "--task blur --blur 0": "width above 0 pixels",
    "--task quantize --bits 0": "1 to 16 bits; 0 were given",
    "--task grey": "needs a colour picture",
    "large.png --prior digits": "Say by --task what large.png went through: inpaint (part of the picture is missing)",
    "--device gpu": "is not a device",
    "--device mps": "drawn on cpu or cuda; 'mps' is neither",
    "--device meta": "drawn on cpu or cuda; 'meta' is neither",
    "--device cuda:99": "CUDA devices on this machine, not 'cuda:99'; run with --device cpu",
    "--task inpaint --factor 2": "There is no option of the task 'inpaint' 'factor'; there are mask, hole, share, seed",
    "--option factor=2": "There is no option of the task 'inpaint' 'factor'",
    "--option factor": "--option takes NAME=VALUE",
    "--task denoise --mask half": "There is no option of the task 'denoise' 'mask'",
    "--size 0x0": "--size takes HEIGHTxWIDTH",
    "--size 400000x400000": "at once need about",
    "huge.png --task denoise --prior photo-bf --chunk 900 --samples 900": "0, 30000) at once need about 27157 GiB",
    "pixel.png --task denoise --prior photo-bf --sigma auto": "Too little of the picture is seen",
    "--sampler DPS( ": "does not describe an object of posteria",
    "--sampler CFGiG()": "CFGiG() does not sample posteriors",
    "--sampler DPS() --preset gmm": "has settings of its own; leave --preset out",
    "--sampler auto --steps 5": "--sampler auto chooses the settings as well",
    "--budget 100 --steps 5": "Give --steps or --budget, not both",
    "large.png --task denoise --prior diffusers:full": "is not a diffusers pixel model",
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
    given = words.split()
    if "--prior" not in words and "--record" not in words:
        given += ["--prior", "digits"]
        given += [] if "--task" in words or words.startswith("-") else ["--task", "inpaint"]
    assert posteria("restore", *given, monkeypatch=monkeypatch) == 1
    error = capsys.readouterr().err
    assert WRONG[words] in error
    assert error.startswith("posteria: ") and error.count("\n") == 1 and "Traceback" not in error
    assert not drawn
    assert files(tmp_path) == before


@pytest.mark.parametrize("words", ["--nonsense", "--samples many", "--steps"])
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
    words = ["restore", *SIMULATED, "--task", "denoise", "--sigma", "1e-3", "--samples", 2]
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

    words = ["restore", *SIMULATED, "--out", tmp_path / "run", *QUICK]
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


def test_a_full_disk_ends_in_one_sentence_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["restore", *SIMULATED, "--out", tmp_path / "run", *QUICK]
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


def test_a_disk_too_small_is_noticed_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: hours of work whose samples find no room in the end. Three digits in single precision, twice; their mean,
    # standard deviation, measurement and truth, and each of them as bytes.
    usage = shutil.disk_usage(tmp_path)
    for free, code in ((784 * (3 * 8 + 16 + 3 + 4) - 1, 1), (10**9, 0)):
        monkeypatch.setattr(
            store_module.shutil, "disk_usage", lambda _, f=free: usage._replace(free=f)
        )
        words = ["restore", *SIMULATED, "--out", tmp_path / "run", *QUICK]
        assert posteria(*words, monkeypatch=monkeypatch) == code
        if code:
            said = "Samples and results take 0.0 GB, and the disk of"
            assert said in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_other_weights_are_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    tampered = dataclasses.replace(SHIPPED["digits"], sha256="0" * 64)
    monkeypatch.setitem(SHIPPED, "digits", tampered)
    words = ["restore", "--prior", "digits", "--out", tmp_path / "run"]
    assert posteria(*words, monkeypatch=monkeypatch) == 1
    assert "is not the file it should be: its SHA-256 is" in capsys.readouterr().err
