"""Several inputs are several runs in one folder: the same samples as alone, and one that fails harms no other."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.command import DIGIT, QUICK, SIMULATED, files, posteria

WORDS = ["--prior", "digits", "--task", "denoise", "--sigma", 0.1, *QUICK]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with two digits, a mask that belongs to them, and what is no picture."""
    folder = tmp_path / "scans"
    folder.mkdir()
    digit = np.asarray(Image.open(DIGIT))
    Image.fromarray(digit).save(folder / "a & b.png")
    np.save(folder / "c.npy", np.ascontiguousarray(digit.T)[None] / 127.5 - 1)
    (folder / "notes.txt").write_text("left out")
    (folder / ".hidden.png").write_text("not looked at")
    (folder / "within").mkdir()
    return folder


def samples(folder: Path) -> np.ndarray:
    return np.asarray(np.load(folder / "samples.npz")["samples"])


def test_each_input_has_the_samples_that_it_has_alone(
    scans: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Catches: seeds that go on from one input to the next; a state that one run leaves to another.
    out = tmp_path / "out"
    assert posteria("restore", scans, *WORDS, "--out", out, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    assert "left out, as of no kind that is restored: notes.txt, within" in said.err
    assert {p.name for p in out.iterdir()} == {"a & b.png", "c.npy", "index.html"}
    for name in ("a & b.png", "c.npy"):
        alone = tmp_path / "alone" / name
        assert (
            posteria("restore", scans / name, *WORDS, "--out", alone, monkeypatch=monkeypatch) == 0
        )
        assert np.array_equal(samples(out / name), samples(alone))
        assert files(out / name).keys() == files(alone).keys()
    page = (out / "index.html").read_text()
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert links and all(
        (out / link.replace("%20", " ").replace("%26", "&")).is_file() for link in links
    )
    assert "a &amp; b.png" in page and "Still to come" not in page
    # The same command goes on, also with more samples and with another input.
    before = files(out / "c.npy")
    assert posteria("restore", scans, *WORDS, "--out", out, monkeypatch=monkeypatch) == 0
    assert files(out / "c.npy") == before
    Image.open(DIGIT).rotate(90).save(scans / "d.png")
    more = [*WORDS[:-3], 4, "--chunk", 2]
    assert posteria("restore", scans, *more, "--out", out, monkeypatch=monkeypatch) == 0
    assert np.array_equal(samples(out / "c.npy")[:2], samples(tmp_path / "alone" / "c.npy")[:2])
    assert len(samples(out / "d.png")) == 4


def test_one_that_fails_leaves_the_others_alone(
    scans: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Catches: an exit code of 0; the runs after it that are never begun.
    (scans / "b.png").write_text("<script>alert(1)</script>")
    out, given = (
        tmp_path / "out",
        [scans / "a & b.png", scans / "b.png", scans / "no.png", scans / "c.npy"],
    )
    words = ["restore", *given, *WORDS, "--out", out]
    assert posteria(*words, monkeypatch=monkeypatch) == 1
    said = capsys.readouterr().err
    assert "b.png cannot be read as a picture" in said and "There is no file" in said
    assert "2 of 4 inputs failed; the others are done." in said and "Traceback" not in said
    assert len(samples(out / "c.npy")) == 3 and not (out / "b.png").exists()
    assert "cannot be read" in (out / "index.html").read_text()
    # What failed is tried again, and as JSON.
    Image.open(DIGIT).save(scans / "b.png")
    Image.open(DIGIT).save(scans / "no.png")
    assert posteria(*words, "--json", monkeypatch=monkeypatch) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["input"] for each in told] == ["a & b.png", "b.png", "no.png", "c.npy"]
    assert all(each["fault"] is None and each["results"]["residual"] for each in told)
    assert [each["finished_before"] for each in told] == [True, False, False, True]
    # What is only a warning is none of the errors to which --quiet keeps.
    for quiet in ([], ["--quiet"]):
        assert posteria(*words, *quiet, monkeypatch=monkeypatch) == 0
        assert ("c.npy: No sample explains" in capsys.readouterr().err) != bool(quiet)


def test_wrong_folders_are_told_before_anything_is_drawn(
    scans: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*words: object) -> str:
        assert posteria("restore", *words, *WORDS, monkeypatch=monkeypatch) == 1
        return capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    assert "holds nothing to restore" in refused(tmp_path / "empty", "--out", tmp_path / "o")
    twice = tmp_path / "twice"
    twice.mkdir()
    (twice / "c.npy").write_bytes((scans / "c.npy").read_bytes())
    assert "Two inputs are named c.npy" in refused(scans, twice / "c.npy", "--out", tmp_path / "o")
    assert "holds other files (a & b.png)" in refused(scans, "--out", scans).replace(
        "notes.txt", "a & b.png"
    )
    single = tmp_path / "single"
    assert posteria("restore", *SIMULATED, *QUICK, "--out", single, monkeypatch=monkeypatch) == 0
    assert "holds the run of one input" in refused(scans, "--out", single)
    # A mask in the folder is none of its pictures.
    mask = np.full((28, 28), 255, "u1")
    mask[9:15, 9:15] = 0
    Image.fromarray(mask).save(scans / "mask.png")
    words = ["--prior", "digits", "--task", "inpaint", "--mask", scans / "mask.png", *QUICK]
    assert (
        posteria("restore", scans, *words, "--out", tmp_path / "o", monkeypatch=monkeypatch) == 0
    )
    assert not (tmp_path / "o" / "mask.png").exists()
