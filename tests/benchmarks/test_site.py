"""The pages that are made of results."""

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("web.offline")


@pytest.mark.parametrize(
    "remote",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="//cdn.example/a.css">',
        '<img src="http://example.org/a.png">',
        '<svg><image xlink:href="https://example.org/a.png"/></svg>',
        "<style>@import 'https://fonts.example/a.css';</style>",
        '<p style="background: url(https://example.org/a.png)">',
    ],
)
def test_a_page_that_loads_of_the_network_is_refused(
    offline: Any, tmp_path: Path, remote: str
) -> None:
    # Catches: a script, style, font or picture of the network that is left in a page.
    page = tmp_path / "page.html"
    page.write_text('<a href="https://example.org">more</a><img src="data:image/png;base64,">')
    offline.check(tmp_path)
    page.write_text(remote)
    with pytest.raises(SystemExit, match=r"page\.html loads .*example"):
        offline.check(tmp_path)


def test_links_have_targets(offline: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<a href="other%20page.html#part">other</a> <a href="#top">top</a>')
    with pytest.raises(SystemExit, match=r"page\.html refers to other%20page\.html"):
        offline.check(tmp_path)
    (tmp_path / "other page.html").touch()
    offline.check(tmp_path)


def test_an_archive_has_its_hash(offline: Any, tmp_path: Path) -> None:
    package = offline.PACKAGES[0]
    (tmp_path / f"{package.folder}.tgz").write_bytes(b"another")
    with pytest.raises(SystemExit, match="SHA-256"):
        offline.fetch(package, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("benchopt") is None, reason="needs posteria[bench]")
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm, which fetches what pages load")
def test_pages_open_without_network(tmp_path: Path) -> None:
    # Catches: a change of benchopt's pages, a plot that the browser cannot draw, an empty view.
    results, site = tmp_path / "results", tmp_path / "site"
    results.mkdir()
    environment = os.environ | {
        "BENCHOPT_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT / 'src'}:{BENCHMARKS}",
    }

    def run(*words: str | Path) -> str:
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout

    run(
        *("-m", "benchopt", "run", BENCHMARKS / "benchmark_exact", "-n", "1", "--no-plot"),
        *("-d", "toy[problem=[gaussian-half,radius]]", "-s", "posteria[sampler=[mgps,dps]]"),
        *("-s", "reference", "-s", "mgdm-sweeps[gibbs=1,levels=24]"),
        *("--output", results / "exact.parquet"),
    )
    run("-m", "web.make", "--results", results, "--out", site)
    said = run(BENCHMARKS / "web" / "check.py", site)
    assert "exact.html" in said or "not opened" in said
