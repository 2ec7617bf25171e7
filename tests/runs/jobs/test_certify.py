"""`posteria certify`: what it writes, that it goes on bit for bit, and one sentence for every wrong input."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import posteria as po
from common.command import posteria as run_posteria
from posteria.certification.certificate import Certificate
from posteria.core.record import from_json
from posteria.modalities import MODALITIES
from posteria.modalities.image.pixels import grid, to_bytes
from posteria.modalities.image.tasks import TASKS
from posteria.runs import engine
from posteria.runs.job import run as run_job
from posteria.runs.jobs import certify
from posteria.runs.request import Certify, Restore
from posteria.runs.store import Store

Command = Callable[..., int]
QUICK = ["--sampler", "dps", "--steps", "3", "--truth-steps", "2", "--sigma", "0.1"]
SMALL = ["--simulations", "10", "--samples", "4", "--chunk", "16"]


@pytest.fixture
def posteria(monkeypatch: pytest.MonkeyPatch) -> Command:
    return partial(run_posteria, monkeypatch=monkeypatch)


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "samples.npz") as found:
        return dict(found)


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())["results"]
    return found


def test_it_writes_what_it_says(
    tmp_path: Path,
    posteria: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    assert posteria("certify", *QUICK, *SMALL, "--out", out) == 0
    printed = capsys.readouterr().out
    assert re.search(r"10 simulations of 4 samples: about .* \(3 batches of 3 steps", printed)
    assert "verdict" in printed and "The prior is taken for true" in printed
    found = arrays(out)
    truths = np.concatenate([found[f"truths-{i}"] for i in (0, 4, 8)])
    assert np.array_equal(truths, found["truths"]) and found["measurements"].shape == (10, 495)
    assert found["simulations-4"].shape == (16, 1, 28, 28)
    # Catches: measurements of another truth, and noise that truths share with their samples.
    seen = po.operators.Inpainting(po.operators.box_mask(28, 28), (1, 28, 28))
    # Catches: a page without what was measured, or with that of other truths.
    sheet = np.asarray(Image.open(out / "simulations-measured.png"))
    backs = seen.adjoint(torch.tensor(found["measurements"][:10]))
    assert np.array_equal(sheet, grid([to_bytes(x) for x in backs], 10))
    noise = (found["measurements"] - seen(torch.tensor(truths)).numpy()) / 0.1
    assert abs(noise.std() - 1) < 0.05
    # Catches: ranks of one simulation among the samples of another.
    certificate = from_json(Certificate, results(out)["certificate"])
    mean = next(each for each in certificate.statistics if each.name == "mean")
    x = np.concatenate([found[f"simulations-{i}"] for i in (0, 4, 8)]).reshape(10, 4, -1)
    grey = np.round(
        (np.clip(np.concatenate([truths.reshape(10, 1, -1), x], 1), -1, 1) + 1) * 127.5
    )
    brightness = grey.mean(-1)
    assert mean.ranks == (brightness[:, 1:] < brightness[:, :1]).sum(1).tolist()
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 37 and not re.search(r"(src|href)=.(?!data:)", page)
    assert results(out)["verdict"] in page.replace("Too", "too").replace("Shifted", "shifted")
    assert not (out / "chunks").exists() and not list(out.glob(".*"))

    again = tmp_path / "again"
    assert posteria("certify", "--record", out / "run.json", "--out", again) == 0
    assert all(np.array_equal(value, found[name]) for name, value in arrays(again).items())
    # Catches: other statistics that draw anew, or that are not shown because the run was finished.
    monkeypatch.setattr(po.DPS, "step", None)
    words = [*QUICK, *SMALL, "--statistics", "mean,depth", "--quiet"]
    assert posteria("certify", *words, "--out", out) == 0
    assert {each["name"] for each in results(out)["certificate"]["statistics"]} == {
        "mean",
        "depth",
    }
    assert np.array_equal(arrays(out)["truths"], found["truths"])


def test_a_killed_run_goes_on_bit_for_bit_and_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: truths that are drawn anew with other seeds, batches that change with the number of simulations.
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY", -1.0)

    class Killed(Exception):
        pass

    def run(folder: Path, simulations: int, stop_after: int | None = None) -> None:
        request = Certify(
            sampler="dps", steps=2, truth_steps=2, simulations=simulations, samples=4, chunk=16
        )
        steps = 0

        def advance(done: int, total: int) -> None:
            nonlocal steps
            steps += 1
            if steps == stop_after:
                raise Killed

        run_job(certify.prepare(request), Store(folder), advance)

    run(tmp_path / "whole", 14)
    expected = arrays(tmp_path / "whole")
    for stop in (1, 3, 8):
        with pytest.raises(Killed):
            run(tmp_path / "killed", 14, stop)
    run(tmp_path / "killed", 14)
    run(tmp_path / "grown", 10)
    drawn: list[int] = []
    draw_chunk = engine.draw_chunk

    def counted(method: Any, part: engine.Chunk, *rest: Any) -> Any:
        drawn.append(len(part.seeds))
        return draw_chunk(method, part, *rest)

    monkeypatch.setattr(engine, "draw_chunk", counted)
    run(tmp_path / "grown", 14)
    # Of 10 simulations in batches of 4 the first two are kept, with their truths.
    assert drawn == [4, 2, 16, 8]
    for name in ("killed", "grown"):
        found = arrays(tmp_path / name)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[key], value) for key, value in expected.items())
        assert results(tmp_path / name)["verdict"] == results(tmp_path / "whole")["verdict"]


def test_a_prior_that_draws_from_itself_gives_exact_truths(
    tmp_path: Path, posteria: Command
) -> None:
    # Catches: truths by the diffusion where there are exact ones, or of another seed in another batch.
    words = ["certify", "--prior", "digits-mixture", *QUICK, *SMALL, "--quiet"]
    assert posteria(*words, "--out", tmp_path / "run") == 0
    assert results(tmp_path / "run")["certificate"]["truths"] == "exact draws of the prior"
    prior = po.load_prior("digits-mixture")
    fifth = prior.sample(1, torch.Generator().manual_seed(2**31 + 5))  # type: ignore[attr-defined]
    assert torch.equal(torch.tensor(arrays(tmp_path / "run")["truths"][5]), fifth[0])


def test_an_interrupt_ends_in_its_code_and_the_run_goes_on(
    tmp_path: Path, posteria: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["certify", *QUICK, *SMALL, "--out", tmp_path / "run", "--quiet"]
    step, left = po.DPS.step, [4]

    def interrupted(*args: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(po.DPS, "step", interrupted)
    assert posteria(*words) == 130
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "stopped"
    assert posteria(*words) == 0
    assert results(tmp_path / "run")["certificate"]["simulations"] == 10


def test_a_run_states_the_certificate_of_its_sampler(
    tmp_path: Path, posteria: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    # Catches: the certificate of another sampler, task or noise; one that is made later and never seen.
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    words = [
        "restore",
        "--prior",
        "digits",
        "--sampler",
        "dps",
        "--steps",
        "3",
        "--samples",
        "1",
        "--sigma",
        "0.1",
    ]
    words += ["--certificate", str(shelf), "--out", str(tmp_path / "run")]
    assert posteria(*words) == 0
    assert (
        "none in" in capsys.readouterr().out
        and results(tmp_path / "run")["certificate"]["verdict"] is None
    )
    assert posteria("certify", *QUICK, *SMALL, "--out", shelf / "dps") == 0
    verdict = results(shelf / "dps")["verdict"]
    assert posteria(*words) == 0
    found = results(tmp_path / "run")["certificate"]
    assert found == {
        "folder": str(shelf / "dps"),
        "verdict": verdict,
        "passes": verdict.startswith("passes"),
        "simulations": 10,
    }
    assert f"{verdict} (10 simulations" in (tmp_path / "run" / "report.html").read_text()
    for other in (["--sigma", "0.2"], ["--mask", "half"], ["--steps", "4"], ["--label", "3"]):
        assert posteria(*words[:-1], tmp_path / "other", *other) == 0
        assert results(tmp_path / "other")["certificate"]["verdict"] is None
        engine.Store(tmp_path / "other").remove("")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--simulations 0", "at least 10 simulations"),
        ("--samples 1", "among at least 4 samples"),
        ("--statistics pixel", "no statistic 'pixel'; there are entries, projections"),
        ("--sampler ddrm --task jpeg", "needs a"),
        ("--sampler nothing", "no sampler 'nothing'"),
        ("--truth-steps 0", "--truth-steps is a number of at least 1"),
        ("--levels -1", "levels is an integer of at least 0; -1 is not"),
        ("--seed 4000000000", "below 2^31"),
        ("--sigma 0", "--sigma is a noise level above 0"),
        ("--mask none.png", "There is no file none.png"),
    ],
)
def test_wrong_input_ends_in_one_sentence(
    words: str,
    sentence: str,
    tmp_path: Path,
    posteria: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert posteria("certify", *words.split()) == 1
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("posteria: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_certificate_is_of_the_same_power_and_the_same_usual_noise() -> None:
    # Catches: what is certified of p(x | c) said of a run with p(x | c)^3; a certificate of JPEG files at the noise of
    # other tasks, which none of the runs has.
    shared: dict[str, Any] = {"prior": "digits", "task": "jpeg", "label": 3, "sampler": "dps"}
    told = Certify(**shared).posterior()
    assert told == Restore(**shared).posterior() != Restore(**shared, weight=3.0).posterior()
    quick: dict[str, Any] = {"options": {"quality": 10}, "simulations": 10, "samples": 4}
    of_job = certify.prepare(Certify(**shared, **quick)).request.sigma
    assert of_job == TASKS["jpeg"].sigma != MODALITIES["image"].sigma
