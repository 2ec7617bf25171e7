"""The page of a run: rows that are full, one script that is known by its hash, names that stay text."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from PIL import Image

from common.command import DIGIT, QUICK, posteria
from posteria.runs.report import cells_of


@pytest.mark.parametrize("n", range(25))
def test_no_row_of_a_grid_has_a_gap(n: int) -> None:
    # Catches: an orphan in the last row, in the columns of a desktop or in the two of a phone.
    cells, columns = cells_of(list(range(n)), [-1])
    assert len(cells) % 2 == 0 and len(cells) % columns == 0
    shown = [cell for cell in cells if cell >= 0]
    assert shown == list(range(len(shown))) and (n < 2 or len(shown) >= n - 3)


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    assert posteria("restore", *words, "--out", folder, monkeypatch=monkeypatch) == 0
    return (folder / "report.html").read_text()


def test_the_page_runs_its_own_script_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a name that becomes markup; a script that the policy of the page does not allow.
    name = "<img src=x onerror=alert(1)>'.png"
    (tmp_path / name).write_bytes(DIGIT.read_bytes())
    words = [tmp_path / name, "--task", "denoise", "--sigma", 0.1, "--prior", "digits", *QUICK]
    page = run(tmp_path / "run", monkeypatch, *words)
    assert "<img src=x" not in page and "&lt;img src=x" in page
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.replace("&#39;", "'")
    assert "default-src 'none'; img-src data:" in page.replace("&#39;", "'")
    # Every view has a button, a picture of its own size and a file.
    views = re.findall(r'<li data-name="([^"]*)"', page)
    assert views == ["measurement", "mean", "sample 0", "sample 1", "sample 2"]
    assert {int(k) for k in re.findall(r'data-view="(\d+)"', page)} == set(range(5))
    assert page.count('width="28" height="28"') == page.count("<img")
    # What was given comes back in its own format.
    with (
        Image.open(tmp_path / "run" / "restored" / "mean.png") as mean,
        Image.open(DIGIT) as given,
    ):
        assert (mean.mode, mean.size) == (given.mode, given.size)


def test_one_sample_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: "1 samples"; an uncertainty of one sample.
    page = run(tmp_path, monkeypatch, *QUICK[:4], "--samples", 1)
    assert "1 sample under" in page and "1 samples" not in page
    assert "One sample says nothing of what is uncertain" in page and "std.png" not in page
