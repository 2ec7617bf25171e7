"""The benchmarks of pictures and of guidance."""

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import posteria as po
from lib.budget import budgeted
from posteria.problems.tilted import TILTED_PROBLEMS
from posteria.samplers import POSTERIOR_SAMPLERS

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "benchmarks" / "benchmark_images"
GUIDANCE = ROOT / "benchmarks" / "benchmark_guidance"


def package(folder: Path, name: str) -> ModuleType:
    """A benchmark's `benchmark_utils`, under a name of its own."""
    path = folder / "benchmark_utils" / "__init__.py"
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=[str(path.parent)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


package(IMAGES, "images_utils")
package(GUIDANCE, "guidance_utils")
problem, sampling, sheets = (
    importlib.import_module(f"images_utils.{name}") for name in ("problem", "sampling", "sheets")
)
tilts, methods = (
    importlib.import_module(f"guidance_utils.{name}") for name in ("tilts", "methods")
)


# Pictures.


def pictures(task: str, count: int = 3, few: int = 2) -> Any:
    generator = torch.Generator().manual_seed(0)
    truths = torch.rand(count, 1, 28, 28, generator=generator) * 2 - 1
    none = torch.zeros(0, 1, 28, 28)
    return problem.Pictures("digits", task, 0.05, truths, none, seed=7, few=few)


@pytest.mark.parametrize("task", problem.TASKS)
def test_every_task_measures_each_picture_once(task: str) -> None:
    # Catches: noise that is drawn again for each sample of one picture, rows in another order.
    target, rows = problem.restoration(pictures(task), draws=2)
    assert rows == [0, 1, 2, 0, 1, 0, 1]
    assert torch.equal(target.y[3], target.y[0]) and torch.equal(target.y[6], target.y[1])
    assert not torch.equal(target.y[0], target.y[1])


def test_a_picture_is_measured_alike_whatever_the_others() -> None:
    one, _ = problem.restoration(pictures("blur", count=1, few=1), draws=0)
    three, _ = problem.restoration(pictures("blur"), draws=0)
    assert torch.allclose(one.y[0], three.y[0])


def test_budgets_are_kept_on_pictures_and_populations_are_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "WHOLE", 8)
    target, rows = problem.restoration(pictures("box", count=2, few=1), draws=1)
    for name in POSTERIOR_SAMPLERS:
        sampler = sampling.of_pictures(name)
        assert sampler.shared in {1, sampling.PARTICLES}
        chosen = budgeted(repr(sampler), sampling.alone(target), 250)
        # What takes noise alone says so.
        assert isinstance(chosen, str) == (name == "reverse"), chosen
    work = sampling.OfPictures(target, range(8, 8 + len(rows)), batch=2)
    for name in ("ddrm", "tds"):
        chosen = budgeted(repr(sampling.of_pictures(name)), sampling.alone(target), 16)
        found = work.draw(chosen)
        assert found["samples"].shape == (3, 1, 28, 28)
        assert 8 <= found["evaluations"] + found["vjps"] <= 16


def test_batches_do_not_change_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: seeds or measurements that are cut at other places.
    monkeypatch.setattr(sampling, "WHOLE", 8)
    target, rows = problem.restoration(pictures("half", count=2, few=1), draws=1)
    chosen = budgeted(repr(sampling.of_pictures("tds")), sampling.alone(target), 12)
    drawn = [
        sampling.OfPictures(target, range(len(rows)), batch=batch).draw(chosen)["samples"]
        for batch in (1, 3)
    ]
    assert abs(drawn[0] - drawn[1]).max() < 1e-4


def test_pictures_are_kept_as_bytes() -> None:
    target, _ = problem.restoration(pictures("phase", count=1, few=1), draws=0)
    x = torch.zeros(5, 1, 28, 28)
    x[0, 0, 0, 0] = torch.nan
    shown = sheets.show(target.likelihood.operator, target.y[0], x[1], x)
    assert set(shown) == {"truth", "measurement", "samples", "mean", "std"}
    assert len(shown["samples"]) == 4 and shown["std"].shape == (28, 28, 3)
    assert all(shown[key].dtype == "uint8" for key in ("truth", "measurement", "mean", "std"))


def test_coverage_is_of_pixels_that_differ_and_at_the_precision_of_a_picture() -> None:
    # Catches: a background a thousandth off, of the truth and of all samples, that decides over the number.
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(20, 4000, generator=generator) * 2 - 1
    alike = torch.full((20, 16_000), -0.999)
    alike[-1] = -1.0
    both = torch.cat([drawn, alike], 1)
    found = sheets.covered(both[:-1], both[-1])
    # Exact samples: the standard error is 0.005.
    assert abs(found - 0.9) < 0.02
    assert found == sheets.covered(drawn[:-1], drawn[-1])
    assert sheets.covered(drawn[:1].expand(19, -1), drawn[-1]) < 0.1
    assert math.isnan(sheets.covered(alike[:-1], alike[-1]))


# Guidance.


@pytest.mark.filterwarnings("ignore:.*starts from noise:RuntimeWarning")
@pytest.mark.parametrize("name", ["three-kinds", "gaussian-pair"])
def test_every_rule_keeps_a_budget_or_says_why_not(name: str) -> None:
    # Catches: a rule of the registry without the models that it needs, or one that spends more.
    tilt = tilts.known(name, None, 16, seed=1)
    refused = {m: methods.refused(m, tilt) for m in methods.METHODS}
    assert [m for m, reason in refused.items() if reason] == ["gfcg"]
    assert "Label(label=1)" in refused["gfcg"]
    for method in set(methods.METHODS) - {"gfcg"}:
        chosen = methods.at_budget(methods.method(method, tilt), tilt, 128)
        found = methods.draw(chosen, tilt)
        # What a rule saves depends on the samples, and is counted on one.
        slack = 1.1 if method in {"ag", "linear_ag"} else 1.0
        assert 100 <= found["evaluations"] + found["vjps"] <= 128 * slack, method
        assert found["samples"].shape[0] == 16


def test_the_registries_are_all_there() -> None:
    assert set(methods.METHODS) == {*po.guidance.RULES, *po.samplers.TILTED_SAMPLERS} - {"guided"}


def test_too_small_a_budget_has_a_reason() -> None:
    tilt = tilts.known("cfgig-toy", None, 64, seed=1)
    with pytest.raises(po.InputError, match="too small"):
        methods.at_budget(methods.method("cfg", tilt), tilt, 2)


def test_the_tuned_model_of_a_toy_makes_the_same_tilt() -> None:
    # Catches: a tuned model that stands for another law, whose distance would mean nothing.
    tilt = tilts.known("three-kinds", None, 64, seed=1)
    tuned, plain = (methods.method(name, tilt) for name in ("rlg", "cfg"))
    target, seeds = tilt.targets[0], range(5)
    assert torch.allclose(tuned.sample(target, seeds), plain.sample(target, seeds))


@pytest.mark.parametrize("name", TILTED_PROBLEMS)
@pytest.mark.parametrize("sigma", [0.0, 0.5, 5.0])
def test_the_classifier_of_a_toy_is_the_ratio_of_its_laws(name: str, sigma: float) -> None:
    problem = TILTED_PROBLEMS[name]()
    given, free = problem.target.conditional, problem.target.unconditional
    x = problem.exact.sample(50, torch.Generator().manual_seed(0)) + sigma
    found = tilts.OfLaws(given, free).log_prob(0, x, sigma)
    laws: Any = [law.noised(sigma) if sigma else law for law in (given, free)]
    expected = laws[0].log_prob(x) - laws[1].log_prob(x)
    assert torch.allclose((found - expected).diff(), torch.zeros(49).double(), atol=1e-9)


def test_exact_draws_are_at_the_floor_and_share_out_their_mass() -> None:
    exact = TILTED_PROBLEMS["rare-mode"]()
    x = exact.exact.sample(4096, torch.Generator().manual_seed(9))
    mass = tilts.mass(exact)
    assert mass is not None and abs(mass.moved - 0.41) < 0.01
    assert abs(tilts.shares(exact, x) - mass.of_modes).max() < 0.03
    # Shares of modes scatter, and with them the distances of exact draws.
    assert 0.1 < tilts.distance(exact, x, 1) / tilts.floor(exact, 4096) < 4


# Benchopt runs the rest.


def benchopt(folder: Path, command: str, benchmark: Path, *words: str | Path) -> str:
    """What a command of benchopt says; its cache is in a folder."""
    environment = os.environ | {
        "BENCHOPT_CACHE": str(folder / "cache"),
        "BENCHOPT_RAISE_ON_ERROR": "true",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "src"),
    }
    line = [sys.executable, "-m", "benchopt", command, str(benchmark), *map(str, words)]
    done = subprocess.run(
        line, env=environment, cwd=folder, capture_output=True, text=True, timeout=600
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    return said


def rows_of(folder: Path, benchmark: Path, *words: str | Path, name: str = "rows") -> Any:
    """The rows of a run."""
    from benchopt.results import read_results

    path = folder / f"{name}.parquet"
    benchopt(folder, "run", benchmark, *words, "--no-plot", "--output", path)
    return read_results(path)


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_quality_against_diversity_opens_on_a_budget_of_digits() -> None:
    # Catches: a view that opens on the largest budget of the tilted laws, at which there are no digits.
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("benchopt")
    module = load(GUIDANCE / "plots" / "quality_vs_diversity.py")
    names = {"digits[label=3,weight=2.0]": (0, 32, 64), "exact[cfgig-toy]": (0, 64, 256)}
    rows = [{"dataset_name": name, "stop_val": b} for name, found in names.items() for b in found]
    assert module.budgets(pandas.DataFrame(rows)) == [64, 32]
    assert module.budgets(pandas.DataFrame(rows[3:])) == [0]


def check_plots(benchmark: Path, rows: Any) -> None:
    """Every plot has something to show for some of its options."""
    for path in sorted((benchmark / "plots").glob("*.py")):
        plots, _ = load(path).Plot()._get_all_plots(rows)
        assert any(plot["data"] for plot in plots.values()), path.stem


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", [IMAGES, GUIDANCE], ids=lambda path: path.name)
def test_benchopts_own_tests_pass(benchmark: Path, tmp_path: Path) -> None:
    pytest.importorskip("benchopt")
    assert "passed" in benchopt(tmp_path, "test", benchmark, "--skip-install", "-q")


@pytest.mark.slow
def test_smoke_of_pictures(tmp_path: Path) -> None:
    pytest.importorskip("benchopt")
    theirs = IMAGES / "examples" / "pseudo_inverse.py"
    words = ("--config", IMAGES / "configs" / "smoke.yml")
    rows = rows_of(tmp_path, IMAGES, *words, "-s", "posteria[sampler=[mgps,ddrm]]", "-s", theirs)
    drawn = rows[rows["stop_val"] > 0]
    assert drawn["objective_psnr"].notna().all() and drawn["objective_nfe"].max() <= 200
    # The measurement of two pictures is explained to its noise by a sampler that does so by design.
    ddrm = drawn[drawn["solver_name"] == "posteria[ddrm]"]
    assert ddrm["objective_residual"].between(0.8, 1.2).all() and len(ddrm) == 1
    assert (drawn["solver_name"] == "pseudo-inverse[noise=0.1]").sum() == 1
    kept = [found for found in rows["final_results"] if isinstance(found, list)]
    assert len(kept) == len(drawn) and kept[0][0]["truth"].shape == (28, 28)
    check_plots(IMAGES, rows)


@pytest.mark.slow
def test_smoke_of_guidance(tmp_path: Path) -> None:
    pytest.importorskip("benchopt")
    rows = rows_of(tmp_path, GUIDANCE, "--config", GUIDANCE / "configs" / "smoke.yml")
    drawn = rows[rows["stop_val"] > 0]
    toy = drawn["dataset_name"].str.startswith("exact")
    assert drawn[toy]["objective_distance"].notna().all()
    digits = drawn[~toy & drawn["objective_nfe"].notna()]
    assert digits["objective_agreement"].between(0, 1).all() and len(digits) >= 4
    best = drawn[drawn["dataset_name"] == "exact[cfgig-toy]"].sort_values("objective_distance")
    assert best["solver_name"].iloc[0] == "posteria[tilted]"
    check_plots(GUIDANCE, rows)


@pytest.mark.slow
def test_processes_give_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("benchopt")
    words = (
        *(
            "-o",
            "pictures[draws=2]",
            "-d",
            "shipped[prior=satellite,task=sr4,std=0.05,count=1,few=1]",
        ),
        *("-s", "posteria[sampler=[ddrm,mgps]]", "-n", "1"),
    )
    (tmp_path / "one").mkdir()
    alone = rows_of(tmp_path / "one", IMAGES, *words)
    config = ROOT / "benchmarks" / "parallel" / "loky.yml"
    together = rows_of(tmp_path, IMAGES, *words, "--parallel-config", config)
    keys, values = ["solver_name", "stop_val"], ["objective_psnr", "objective_distance"]
    first, second = (rows.sort_values(keys)[[*keys, *values]] for rows in (alone, together))
    assert first.reset_index(drop=True).equals(second.reset_index(drop=True))
