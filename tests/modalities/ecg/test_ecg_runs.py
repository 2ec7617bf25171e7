"""ECGs from the command line: what is said, drawn, shown and written, with a tiny network of random weights."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import posteria as po
from common.command import files, posteria
from common.ecgs import all_twelve, eight, times, write_arrays, write_prior, write_record
from posteria.modalities import MODALITIES, Outcome
from posteria.modalities.ecg.figures import MV, STEP, Cell, paper
from posteria.modalities.ecg.formats import extra, quiet
from posteria.modalities.ecg.leads import EIGHT, TWELVE
from posteria.modalities.ecg.tasks import seen_by
from posteria.runs import forecast
from posteria.runs.jobs.restore import prepare
from posteria.runs.request import Restore

ECG = MODALITIES["ecg"]
QUICK = ["--sampler", "daps", "--steps", "3", "--samples", "3"]
Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command line in a folder with the tiny prior."""
    prior = write_prior(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("posteria.priors.load._Doubt", lambda name: None)

    def restore(*words: object) -> int:
        own = () if "--record" in words else ("--prior", prior, *QUICK)
        return posteria("restore", *words, *own, monkeypatch=monkeypatch)

    return restore


def test_a_record_with_two_leads_comes_back_with_twelve(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Catches: another rate, length or unit than that of the file; leads that were measured and are not there; a
    # page without what it is to say; a record that gives other samples.
    write_record(tmp_path, leads=("II", "V5"), spelled=["MLII", "v5"], rate=360)
    assert run("rec.hea", "--task", "leads", "--out", "out") == 0
    said = capsys.readouterr().out
    assert (
        "rec.hea is taken as the measurement: leads (keep II,V5), with noise of standard deviation 0.05 mV"
        in said
    )
    assert (
        "MLII (a modified lead) is taken as II" in said and "360 Hz and is taken at 100 Hz" in said
    )
    assert "not a medical device" in said and "mV where nothing was measured" in said
    x = np.load("out/samples.npz")["samples"]
    assert x.shape == (3, 8, 400)
    with quiet():
        again = extra("wfdb").rdrecord("out/restored/2")
    assert again.sig_name == list(TWELVE) and again.fs == 360 and again.sig_len == 1440
    # The sample is near what was measured, at the rate of the file.
    off = again.p_signal.T[[1, 10]] - all_twelve(times(360))[[1, 10]]
    assert np.sqrt((off**2).mean()) < 0.1
    page = Path("out/report.html").read_text()
    assert "not a medical device" in page
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(pictures) == 1 + 2 + 3
    svg = base64.b64decode(pictures[0]).decode()
    assert all(f">{lead}</text>" in svg for lead in TWELVE)
    assert (
        "prefers-color-scheme:dark" in svg
        and "25 mm/s, 10 mm/mV" in svg
        and 'class="t"' not in svg
    )
    assert run("--record", "out/run.json", "--out", "again") == 0
    assert np.array_equal(np.load("again/samples.npz")["samples"], x)
    # It goes on where it was, and the same command gives the same files.
    before = files(tmp_path / "out")
    assert run("rec.hea", "--task", "leads", "--out", "out") == 0
    assert files(tmp_path / "out") == before


def test_gaps_of_a_file_are_filled_and_repeated(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Catches: a gap that is asked for by name and taken elsewhere; a mask that is lost from the record.
    x = eight(times(100))
    x[:, 120:180] = np.nan
    x[3, 50:60] = np.nan
    write_arrays(tmp_path / "rec.npz", x=x)
    assert run("rec.npz", "--task", "gap", "--out", "out") == 0
    said = capsys.readouterr().out
    assert "Missing is what rec.npz lacks: 15.3 % of I, II, V1, V2, V3, V4, V5, V6." in said
    kept = np.load("out/input.npz")
    assert np.array_equal(kept["mask"], ~np.isnan(x)) and kept["measurement"].shape == (
        8 * 400 - 490,
    )
    assert not Path("out/restored").exists()
    assert Path("out/leads-0s.svg").exists()
    assert run("--record", "out/run.json", "--out", "again") == 0
    samples, again = (np.load(f"{name}/samples.npz")["samples"] for name in ("out", "again"))
    assert np.array_equal(samples, again)


def test_a_clean_record_is_degraded_first(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Catches: a truth that the sampler sees; noise that is not of the stated law.
    write_record(tmp_path, seconds=20)
    options = ["--option", "wander=4", "--option", "muscle=1", "--mask", "each"]
    assert run("rec.hea", "--simulate", "--task", "bedside", *options, "--out", "out") == 0
    said = capsys.readouterr().out
    assert (
        "simulated from rec.hea: bedside (keep I,II,V5, mask each, seconds 2.5, seed 0, wander 4.0"
        in said
    )
    assert "lasts 20.0 s" in said and "one posterior over all of it" in said
    arrays = np.load("out/samples.npz")
    assert arrays["truth"].shape == (8, 2000)
    given = json.loads(Path("out/run.json").read_text())
    assert given["plan"]["size"] == [2000] and given["results"]["metrics"].keys() == {
        "mae",
        "rmse",
    }
    a = ECG.degradation("bedside", (8, 2000), given["plan"]["options"]).operator
    noise = arrays["measurement"] - a(torch.from_numpy(arrays["truth"])).numpy()
    # White after whitening: 5250 entries, one standard error is 1 %.
    assert noise.std() == pytest.approx(0.05, rel=0.04)
    assert 'class="t"' in Path("out/ecg-0s.svg").read_text()
    assert run("--record", "out/run.json", "--out", "again") == 0
    assert np.array_equal(np.load("again/samples.npz")["samples"], arrays["samples"])


def test_several_records_have_a_page_with_their_pictures(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Catches: samples beside their header that are reported as left out; a page of pictures that do not exist.
    (tmp_path / "ward").mkdir()
    for name in ("a", "b"):
        write_record(tmp_path / "ward", name)
    (tmp_path / "ward" / "notes.txt").write_text("left out")
    assert run("ward", "--task", "leads", "--keep", "I", "--out", "out") == 0
    assert "left out, as of no kind that is restored: notes.txt\n" in capsys.readouterr().err
    links = re.findall(r'src="([^"]*)"', Path("out/index.html").read_text())
    assert len(links) == 4 and all((Path("out") / link).is_file() for link in links)


def test_a_recording_of_an_hour_is_told_before(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: an hour of work that begins without a word; a recording that is cut at the length of training.
    values = np.random.default_rng(0).normal(size=(2, 360000)).astype(np.float32)
    write_arrays(tmp_path / "hour.npz", x=values, leads=["I", "II"])
    monkeypatch.setattr(forecast, "_once", lambda *given: None)
    job = prepare(Restore(input="hour.npz", prior="tiny", task="leads", sampler="daps", samples=2))
    assert job.target.space.shape == (8, 360000) and job.request.chunk == 1
    assert (job.forecast() or "").startswith("2 samples of 360000 steps, ")


WRONG: dict[str, tuple[list[str], str]] = {
    "no task": (
        ["rec.hea"],
        "Say by --task what rec.hea went through: leads (only some leads were measured), gap (",
    ),
    "lead": (["rec.hea", "--task", "leads", "--keep", "I,V9"], "There is no lead 'V9'"),
    "absent": (
        ["few.hea", "--task", "leads", "--keep", "V1"],
        "few.hea has no lead V1; it has I, II",
    ),
    "no truth": (
        ["few.hea", "--simulate", "--task", "leads"],
        "Without --simulate it is taken as the measurement",
    ),
    "whole": (
        ["rec.hea", "--task", "gap"],
        "rec.hea lacks nothing: no NaN, and no lead that is flat for a second",
    ),
    "holes": (
        ["holes.npz", "--task", "noise"],
        "--task gap (with noise, bedside) takes that as missing and fills it",
    ),
    "other": (
        ["rec.hea", "--task", "leads", "--factor", "2"],
        "no option of the task 'leads' 'factor'",
    ),
    "size": (
        ["rec.hea", "--task", "leads", "--size", "300"],
        "measures 300. Add --fit to take its beginning",
    ),
    "picture": (["a.png", "--task", "leads"], "a.png is of no kind that ECGs are read from"),
    "auto": (
        ["rec.hea", "--task", "clip", "--option", "limit=0.8", "--sigma", "auto"],
        "--sigma auto estimates white noise of leads",
    ),
    "absent file": (["rec2.hea", "--task", "leads"], "There is no file rec2.hea"),
}


def test_what_is_wrong_is_one_sentence(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Catches: a traceback, or a sentence that does not say what to do.
    write_record(tmp_path)
    write_record(tmp_path, "few", leads=("I", "II"))
    holes = eight(times(100))
    holes[2, 30:40] = np.nan
    write_arrays(tmp_path / "holes.npz", x=holes)
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    for words, sentence in WRONG.values():
        assert run(*words, "--out", "out") == 1, words
        said = capsys.readouterr().err
        assert said.startswith("posteria: ") and said.count("\n") == 1 and sentence in said, said
        assert not Path("out").exists()


def points(path: str) -> list[tuple[int, int]]:
    """The points of a path of one relative line."""
    numbers = [int(n) for n in re.findall(r"-?\d+", path)]
    at = [(numbers[0], numbers[1])]
    for dx, dy in zip(numbers[2::2], numbers[3::2], strict=True):
        at.append((at[-1][0] + dx, at[-1][1] + dy))
    return at


def test_paper_has_25_mm_a_second_and_10_mm_a_millivolt() -> None:
    # Catches: a scale that is not that of the grid; a line that drifts by rounding or goes through a gap.
    x = torch.from_numpy(eight(times(100))[0])
    x[100:110] = torch.nan
    svg, (height, width) = paper([[Cell("I & II", {"y": x})]], "")
    root = ElementTree.fromstring(svg)
    assert (float(root.get("width", "")), float(root.get("height", ""))) == (width, height)
    (line,) = (p.get("d", "") for p in root.iter() if p.get("class") == "y")
    first, second = (points(part) for part in line.removeprefix("M").split("M"))
    assert len(first) == 100 and len(second) == 290 and second[0][0] - first[0][0] == 110 * STEP
    # A second is 25 mm of 40 units, a millivolt 10 of them.
    assert STEP * 100 == 25 * 40 and MV == 10 * 40
    heights = np.array([y for _, y in first])
    assert np.abs(heights - heights[0] + 400 * (x[:100] - x[0]).numpy()).max() <= 1


def test_the_line_below_a_short_record_fits() -> None:
    # Catches: an explanation of bands and of the truth that is cut off at the edge of two seconds.
    line = '<tspan class="km">' + 90 * "n" + "</tspan>"
    _, (_, width) = paper([[Cell("I", {"y": torch.zeros(200)})]], line)
    # Of the letters of a system's font, 12 pixels high, few are wider than half of that.
    assert width > (90 + len("25 mm/s, 10 mm/mV. ")) * 6
    assert paper([[Cell("I", {"y": torch.zeros(1000)})]], line)[1][1] > 1000 * STEP / 10


def test_figures_show_pages_where_most_is_missing() -> None:
    # Catches: bands of another lead; pages that are chosen elsewhere than where the gap is.
    a = ECG.degradation("gap", (8, 12000), {"mask": "block", "seconds": 5.0, "seed": 3}).operator
    gap = int((~seen_by(a).mask[0]).nonzero()[0]) // 1000 * 10
    x = 0.1 * torch.randn(5, 8, 12000, generator=torch.Generator().manual_seed(0))
    outcome = Outcome(x, range(5), a, a(x[0]), 0.05)
    figures = list(ECG.figures(outcome))
    names = [figure.name for figure in figures]
    assert f"ecg-{gap}s.svg" in names and f"leads-{gap}s.svg" in names
    assert sum(name.startswith("ecg-") for name in names) == 6
    assert all("6 pages of 12" in f.caption for f in figures if f.name.startswith("ecg-"))
    assert ECG.uncertainty(x, a).startswith("±0.")
    sheet = ECG.sheet("samples.png", x, "Samples.")
    assert sheet.name == "samples.svg" and sheet.content.startswith(b"<svg")


@pytest.mark.parametrize("name", ["mae", "rmse"])
def test_metrics_are_in_millivolts(name: str) -> None:
    truth, samples = torch.zeros(8, 10), torch.full((2, 8, 10), 0.3)
    samples[1, :, :5] = 0.1
    found: dict[str, Any] = ECG.metrics(truth, samples)
    expected = {"mae": [0.3, 0.2], "rmse": [0.3, np.sqrt(0.05)]}[name]
    assert found[name].tolist() == pytest.approx(expected, rel=1e-5)
    assert len(EIGHT) == 8 and po.metrics.METRICS[name].unit == "mV"
