"""The benchmark of exact posteriors, and the library that benchmarks share."""

import importlib.util
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import posteria as po
from lib.budget import BUDGETS, budgeted, next_budget, refusal, sampler_named
from lib.code import code_hash
from lib.measure import measure, seeds_of
from lib.show import METRICS, Metric, equals, mean_of, ranking, short, table_of_best
from posteria.problems.toy import PROBLEMS

ROOT = Path(__file__).parents[2]
BENCHMARK = ROOT / "benchmarks" / "benchmark_exact"
needs_benchopt = pytest.mark.skipif(
    importlib.util.find_spec("benchopt") is None, reason="needs the extra posteria[bench]"
)

# A solver that says what it did, and that waits at a budget until it is killed.
LOGGED = """
import os, time
from pathlib import Path
from benchopt import BaseSolver
from lib.budget import next_budget

class Solver(BaseSolver):
    name = "logged"
    sampling_strategy = "iteration"

    def set_objective(self, problem, seeds):
        self.problem, self.seeds = problem, seeds

    def get_next(self, stop_val):
        return next_budget(stop_val)

    def run(self, stop_val):
        with Path(os.environ["CALL_LOG"]).open("a") as log:
            log.write(f"{len(self.problem.truth)} {stop_val}\\n")
        while stop_val == 500 and Path(os.environ["CALL_LOG"] + ".block").exists():
            time.sleep(0.05)

    def get_result(self):
        return {"samples": None}
"""


# The library that benchmarks share.


def test_budgets_grow_and_do_not_end() -> None:
    seen = [0]
    for _ in range(len(BUDGETS) + 2):
        seen.append(next_budget(seen[-1]))
    assert seen == [0, *BUDGETS, 20_000, 40_000]


def test_a_budget_is_kept_by_every_sampler_that_can_draw() -> None:
    # Catches: a sampler that is left out without a word, or one that spends more than it may.
    problem, spent = PROBLEMS["gaussian-half"](seed=1), 0
    for name in po.samplers.SAMPLERS:
        chosen = budgeted(name, problem.target, 200)
        if isinstance(chosen, str):
            assert chosen == refusal(sampler_named(name), problem.target)
            continue
        # A population whole, and few samples where there is none.
        seeds = seeds_of(5, max(chosen.shared, 16))
        draws = measure(chosen, problem.target, seeds)
        assert draws.samples.shape == (len(seeds), 8)
        assert 100 < draws.evaluations + draws.vjps <= 200
        spent += 1
    assert spent > 20


def test_too_small_a_budget_has_a_reason() -> None:
    problem = PROBLEMS["gaussian-half"](seed=1)
    assert "too small for DCPS" in str(budgeted("dcps", problem.target, 50))
    assert "without a budget" in str(budgeted("dps", problem.target, 0))
    with pytest.raises(po.InputError, match="mgdm"):
        budgeted("mgdn", problem.target, 100)
    chosen = budgeted("MGDM(gibbs=2)", problem.target, 500)
    assert isinstance(chosen, po.MGDM) and chosen.gibbs == 2


def test_measuring_changes_no_sample_and_counts_a_population_once() -> None:
    problem = PROBLEMS["gmm25-8-1"](seed=1)
    for name in ("exact", "mmps"):
        sampler = budgeted(name, problem.target, 100)
        assert not isinstance(sampler, str)
        draws = measure(sampler, problem.target, range(512))
        assert torch.equal(draws.samples, sampler.sample(problem.target, range(512)))
        assert draws.seconds > 0 and draws.memory >= 0
        assert math.isnan(draws.log_evidence) == (name == "mmps")
        assert draws.evaluations + draws.vjps <= 100
    exact = budgeted("exact", problem.target, 100)
    assert isinstance(exact, po.samplers.Exact)
    evidence = [measure(exact, problem.target, range(512)).log_evidence]
    assert exact.log_evidence(problem.target, [0]).tolist() == evidence


def test_seeds_are_one_population_whatever_the_number() -> None:
    for number in (0, 511, 2**32 - 2):
        seeds = seeds_of(number, 1000)
        assert seeds[0] % 512 == 0 and len(seeds) == 1000 and seeds[-1] < 2**32


def test_the_hash_sees_the_code_and_not_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: results of old code that are taken for those of the new one.
    from lib import code

    for name in ("a", "b", "lib"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.py").write_text("x = 1\n")
        (tmp_path / name / "two.py").write_text("y = 1\n")
    utils = tmp_path / "benchmark" / "benchmark_utils"
    monkeypatch.setattr(code, "LIBRARY", tmp_path / "lib")
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "a")
    before = code_hash(tmp_path / "benchmark")
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "b")
    assert code_hash(tmp_path / "benchmark") == before
    (tmp_path / "lib" / "show.py").write_text("only shows\n")
    assert code_hash(tmp_path / "benchmark") == before
    (tmp_path / "b" / "show.py").write_text("of the package\n")
    shown = code_hash(tmp_path / "benchmark")
    utils.mkdir(parents=True)
    (utils / "__init__.py").write_text("z = 1\n")
    changed = code_hash(tmp_path / "benchmark")
    (tmp_path / "b" / "one.py").write_text("x = 2\n")
    again = code_hash(tmp_path / "benchmark")
    (tmp_path / "b" / "one.py").rename(tmp_path / "b" / "three.py")
    moved = code_hash(tmp_path / "benchmark")
    (tmp_path / "lib" / "one.py").write_text("x = 2\n")
    hashes = {before, shown, changed, again, moved, code_hash(tmp_path / "benchmark")}
    assert len(hashes) == 6


def test_the_best_is_named_with_those_that_cannot_be_told_from_it() -> None:
    means = {
        "good": mean_of([1.0, 1.1, 0.9]),
        "near": mean_of([1.04, 1.1, 0.91]),
        "bad": mean_of([2.0, 2.2, 1.8]),
        "wild": mean_of([4.0, 30.0, 300.0]),
        "lost": mean_of([]),
    }
    ratio = METRICS["ratio"]
    assert ranking(means, ratio) == ["good", "near", "bad", "wild"]
    # Catches: one that is always far and called equal because it is so to very different degrees; and
    # one that is always twice as far and called equal because problems differ.
    assert equals(means, ratio) == ["near"]
    assert table_of_best(means, ratio) == "good 1 ± 0.058 (also near)"
    hard = {"good": mean_of([1.0, 10.0, 100.0]), "twice": mean_of([2.0, 21.0, 190.0])}
    assert equals(hard, ratio) == []
    # Catches: a variance that is far too small and so ranks first.
    spread = {"narrow": mean_of([0.1, 0.11]), "right": mean_of([1.1, 1.2])}
    assert ranking(spread, METRICS["variance_ratio"]) == ["right", "narrow"]
    assert Metric("more", math.inf).loss(2.0) < Metric("more", math.inf).loss(1.0)
    assert short("posteria[mgps]") == "mgps" and short("my-sampler[x=1]") == "my-sampler[x=1]"


# Benchopt runs the rest.


class Runner:
    """Runs benchopt with its cache, log and results in a folder."""

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        self.folder, self.log = folder, folder / "calls"
        self.benchmark = root / BENCHMARK.relative_to(ROOT)
        self.solver = folder / "logged.py"
        self.solver.write_text(LOGGED)
        self.environment = os.environ | {
            "BENCHOPT_CACHE": str(folder / "cache"),
            "BENCHOPT_RAISE_ON_ERROR": "true",
            "CALL_LOG": str(self.log),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(root / "src"),
        }

    def start(self, *words: str | Path, command: str = "run") -> "subprocess.Popen[str]":
        line = [sys.executable, "-m", "benchopt", command, str(self.benchmark), *map(str, words)]
        streams: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(line, env=self.environment, cwd=self.folder, **streams)

    def run(self, *words: str | Path) -> Any:
        """The rows of a run."""
        from benchopt.results import read_results

        # Benchopt does not write over a file, but beside it.
        path = self.folder / "result.parquet"
        path.unlink(missing_ok=True)
        process = self.start(*words, "--no-timeout", "--no-plot", "--output", path)
        said = process.communicate(timeout=600)[0]
        assert process.returncode == 0, said[-3000:]
        return read_results(path)

    def calls(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


# Two cells of a solver that says what it did, at budgets 0, 100, 200, 500 and 1000.
CELLS = ("-d", "toy[problem=[gaussian-half,gaussian-correlated]]", "-n", "4")
ALL = [f"{d} {budget}" for d in (8, 16) for budget in (0, 100, 200, 500, 1000)]


@pytest.mark.slow
@needs_benchopt
def test_benchopts_own_tests_pass(tmp_path: Path) -> None:
    process = Runner(tmp_path).start("--skip-install", "-q", command="test")
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0 and "failed" not in said, said[-3000:]


@pytest.mark.slow
@needs_benchopt
def test_every_sampler_runs_or_says_why_not(tmp_path: Path) -> None:
    # Catches: a sampler that is in the registry and not in the benchmark, an error in a plot.
    rows = Runner(tmp_path).run("--config", BENCHMARK / "configs" / "smoke.yml")
    ran = {short(name) for name in rows["solver_name"]}
    problems = [PROBLEMS[key](seed=0) for key in ("gaussian-half", "gmm25-8-1")]
    for name in po.samplers.SAMPLERS:
        reasons = [refusal(sampler_named(name), problem.target) for problem in problems]
        assert (name in ran) == (None in reasons)
    exact = rows[rows["solver_name"] == "reference[exact draws]"]
    assert exact["objective_ratio"].between(0.8, 1.2).all()
    assert exact["objective_coverage_90"].between(0.88, 0.92).all()
    assert rows[rows["stop_val"] == 200]["objective_nfe"].max() <= 200
    for path in sorted((BENCHMARK / "plots").glob("*.py")):
        plots, _ = load(path).Plot()._get_all_plots(rows)
        assert plots and all(plot["data"] for plot in plots.values())


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@needs_benchopt
def test_pictures_are_compared_along_their_axes(tmp_path: Path) -> None:
    # Catches: random directions of 784, in which draws of the prior are near; a law without a covariance.
    rows = Runner(tmp_path).run(
        *("-d", "pictures[task=[sr4,box],std=0.1]", "-o", "exact[samples=64]", "-s", "reference"),
        *("-s", "posteria[sampler=mmps]", "-n", "1", "-r", "2"),
    )
    ratio = rows.groupby("solver_name")["objective_ratio"].mean()
    assert ratio["reference[exact draws]"] == pytest.approx(1, abs=0.15)
    assert ratio["reference[prior draws]"] > 4
    assert 1 < ratio["posteria[mmps]"] < ratio["reference[prior draws]"]


@pytest.mark.slow
@needs_benchopt
def test_a_third_party_adds_one_file(tmp_path: Path) -> None:
    solver = BENCHMARK / "examples" / "my_sampler.py"
    rows = Runner(tmp_path).run(
        *("-s", solver, "-s", "reference", "-n", "2"),
        *("-d", "toy[problem=[gaussian-half,radius]]", "-r", "2"),
    )
    mine = rows[rows["solver_name"].str.startswith("my-sampler") & (rows["stop_val"] == 200)]
    prior = rows[rows["solver_name"] == "reference[prior draws]"]
    assert len(mine) == 4
    assert mine["objective_ratio"].mean() < prior["objective_ratio"].mean()
    assert (mine["objective_nfe"] == 200).all()


@pytest.mark.slow
@needs_benchopt
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    block = Path(f"{runner.log}.block")
    block.touch()
    words = ("-s", runner.solver, *CELLS)
    process = runner.start(*words, "--no-timeout", "--no-plot", "--output", tmp_path / "x.parquet")
    deadline = time.monotonic() + 120
    while "500" not in (runner.log.read_text() if runner.log.exists() else ""):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed = runner.calls()
    block.unlink()
    assert len(runner.run(*words)) == len(ALL)
    resumed = runner.calls()
    # The budget that was killed is run again, and no other.
    assert killed[-1] == resumed[0] and killed[-1].endswith(" 500")
    assert sorted(killed[:-1] + resumed) == sorted(ALL)
    runner.run(*words)
    assert runner.calls() == []


@pytest.mark.slow
@needs_benchopt
def test_an_edit_of_the_package_makes_results_out_of_date(tmp_path: Path) -> None:
    left = shutil.ignore_patterns("outputs", "__cache__", "__pycache__", "results")
    for folder in ("src", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=left)
    runner = Runner(tmp_path, tmp_path)
    words = ("-s", runner.solver, *CELLS)
    runner.run(*words)
    assert sorted(runner.calls()) == sorted(ALL)
    shown = tmp_path / "benchmarks" / "lib" / "show.py"
    shown.write_text(shown.read_text() + "# Another.\n")
    runner.run(*words)
    assert runner.calls() == []
    edited = tmp_path / "src" / "posteria" / "target.py"
    edited.write_text(edited.read_text() + "# Another.\n")
    runner.run(*words)
    assert sorted(runner.calls()) == sorted(ALL)


@pytest.mark.slow
@needs_benchopt
@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_parallel_runs_give_the_same_bits(tmp_path: Path, backend: str) -> None:
    if backend == "dask":
        pytest.importorskip("distributed")
    words = (
        *("-s", "posteria[sampler=[exact,mgps,daps]]", "-s", "reference[law=exact draws]"),
        *("-d", "toy[problem=[gmm25-8-1,gaussian-half]]", "-n", "1", "-r", "2"),
    )
    (tmp_path / "one").mkdir()
    alone = Runner(tmp_path / "one").run(*words)
    config = ROOT / "benchmarks" / "parallel" / f"{backend}.yml"
    together = Runner(tmp_path).run(*words, "--parallel-config", config)
    keys = ["dataset_name", "solver_name", "idx_rep", "stop_val"]
    values = [
        name for name in alone.columns if re.fullmatch(r"objective_(?!seconds|memory).*", name)
    ]
    first, second = (rows.sort_values(keys).reset_index(drop=True) for rows in (alone, together))
    assert len(first) == len(second) == 28
    assert first[[*keys, *values]].equals(second[[*keys, *values]])
