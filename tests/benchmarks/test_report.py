"""What is said of the results is what they say."""

import importlib.util
import math
import re
from pathlib import Path

import pytest

from posteria.samplers import POSTERIOR_SAMPLERS
from shipping import marked

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results"
needs_benchopt = pytest.mark.skipif(
    importlib.util.find_spec("benchopt") is None, reason="needs the extra posteria[bench]"
)


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_tables_of_pictures_are_of_every_sampler() -> None:
    # Catches: a sampler that is added to the package and is in no table.
    folder = BENCHMARKS / "benchmark_images" / "configs"
    assert "solver:\n  - posteria\n" in (folder / "mnist.yml").read_text()
    found = re.search(r"sampler=\[(.*)\]\]", (folder / "mnist-populations.yml").read_text())
    populations = [name for name, kind in POSTERIOR_SAMPLERS.items() if kind().shared > 1]
    assert found is not None and sorted(found[1].split(",")) == sorted(populations)


@needs_benchopt
def test_the_documentation_has_the_tables_of_the_results() -> None:
    # Catches: results that were replaced, or a table that was edited by hand.
    report = importlib.import_module("report")
    parts = report.sections(report.read(RESULTS))
    assert parts
    texts = [path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))]
    for name in parts:
        assert sum(f"<!-- {name} -->" in text for text in texts) == 1, name
    for text in texts:
        assert marked(text, parts) == text


@needs_benchopt
def test_the_answer_counts_problems_and_leaves_populations_out_when_asked() -> None:
    pandas = pytest.importorskip("pandas")
    report = importlib.import_module("report")
    rows = [
        {
            "dataset_name": f"toy[{problem}]",
            "solver_name": f"posteria[{name}]",
            "sampling_strategy": "Iteration",
            "stop_val": 500,
            "idx_rep": repetition,
            "objective_ratio": value * (1 + repetition / 10),
        }
        for problem, values in {
            "radius": {"exact": 1.0, "mgdm": 2.0, "dps": 3.0},
            "banana": {"exact": 1.0, "mgdm": 3.0, "dps": 2.0},
            "gmm25-8-1": {"exact": 2.0, "mgdm": 1.0},
        }.items()
        for name, value in values.items()
        for repetition in range(3)
    ]
    frame = pandas.DataFrame(rows)
    # In the order of the problems: names of a page, not of an alphabet.
    assert list(report.by_problem(frame)) == ["gmm25-8-1", "banana", "radius"]
    (first, wins, ratio), second = report.tally(frame, 500, single=False)
    assert (first, wins, second[:2]) == ("exact", 2, ("mgdm", 1)) and ratio == pytest.approx(1.1)
    assert [found[:2] for found in report.tally(frame, 500, single=True)] == [
        ("mgdm", 2),
        ("dps", 1),
    ]
    assert "**exact** is the nearest" in report.answer(frame, 500)
    assert "Nothing" in report.answer(frame, 100)


@needs_benchopt
def test_error_and_calibration_are_those_of_the_nearest() -> None:
    # Catches: numbers of another sampler or budget than the row names, a population among single samples.
    pandas = pytest.importorskip("pandas")
    report = importlib.import_module("report")
    rows = [
        {
            "dataset_name": "toy[radius]",
            "solver_name": f"posteria[{name}]",
            "sampling_strategy": "Iteration",
            "stop_val": budget,
            "idx_rep": repetition,
            "objective_ratio": ratio,
            "objective_mode_weight_error": math.nan,
            **{f"objective_{m}": ratio + budget for m in ("mean_error", "variance_ratio")},
            "objective_coverage_90": ratio - 1,
        }
        for name, ratios in {"exact": (2, 1), "mgdm": (3, 5), "dps": (4, 4)}.items()
        for budget, ratio in zip((500, 2000), ratios, strict=True)
        for repetition in range(3)
    ]
    table = report.calibration(pandas.DataFrame(rows), single=False)
    said = [[cell.split(" ± ")[0] for cell in row] for row in table.rows]
    assert said[0] == ["radius", "500", "exact", "502", "502", "-", "1"]
    assert said[1] == ["radius", "2 000", "exact", "2000", "2000", "-", "0"]
    single = report.calibration(pandas.DataFrame(rows), single=True).rows
    assert [row[1:3] for row in single[:2]] == [["500", "mgdm"], ["2 000", "dps"]]


@needs_benchopt
def test_quality_and_diversity_are_of_the_largest_budget() -> None:
    # Catches: rows of several budgets mixed, weights that are not in order.
    pandas = pytest.importorskip("pandas")
    report = importlib.import_module("report")
    rows = [
        {
            "solver_name": f"posteria[{name}]",
            "stop_val": budget,
            "p_dataset_weight": weight,
            **{f"objective_{m}": value for m in ("precision", "recall", "agreement", "frechet")},
        }
        for name, budget, weight, value in (
            *(("cfg", 64, 1.5, 0.5), ("cfgig", 64, 1.5, 0.75), ("cfg", 64, 10.0, 0.25)),
            *(("cfg", 32, 1.5, 0.875), ("cfgig", 256, math.nan, math.nan)),
        )
    ]
    table = report.varied(pandas.DataFrame(rows))
    found = [[*row[:3], row[-1]] for row in table.rows]
    assert found == [
        ["1.5", "cfgig", "0.750", "0.8"],
        ["1.5", "cfg", "0.500", "0.5"],
        ["10", "cfg", "0.250", "0.2"],
    ]
    assert "at 64" in table.title
    assert not report.varied(pandas.DataFrame(rows[-1:])).rows


@needs_benchopt
def test_marks_are_filled_again_and_again() -> None:
    text = "a\n<!-- best -->\nold\n<!-- /best -->\nb\n"
    once = marked(text, {"best": r"new \1 text"})
    assert once == "a\n<!-- best -->\n\nnew \\1 text\n\n<!-- /best -->\nb\n"
    assert marked(once, {"best": r"new \1 text"}) == once


@needs_benchopt
def test_the_page_is_made_of_the_results_and_of_nothing_else() -> None:
    # Catches: a page that names a sampler or a machine that the results do not have.
    landing = importlib.import_module("web.landing")
    page = landing.landing(RESULTS)
    assert "Which sampler should I use?" in page and "<svg" in page
    assert not re.search(r"(?:src|href)=\"https?:", page)
    assert page.count("<details>") >= 4 and "nan" not in re.sub(
        r"<svg.*?</svg>", "", page, flags=re.S
    )


@needs_benchopt
def test_the_figure_is_the_same_in_every_process() -> None:
    # Catches: curves in the order of a set, of which another one lies on top in each process.
    pandas, plots = pytest.importorskip("pandas"), importlib.import_module("lib.plots")
    names = [*"hgfedcba", "dps"]
    rows = [
        {
            "solver_name": f"posteria[{name}]",
            "sampling_strategy": "Iteration",
            "stop_val": budget,
            "idx_rep": 0,
            "objective_ratio": 1.0 + place,
        }
        for place, name in enumerate(names)
        for budget in (100, 200)
    ]
    lines = plots.curves({"radius": pandas.DataFrame(rows)}).axes[0].lines
    assert [line.get_ydata()[0] for line in lines] == [
        8.0,
        7.0,
        6.0,
        5.0,
        4.0,
        3.0,
        2.0,
        1.0,
        9.0,
        1,
    ]
