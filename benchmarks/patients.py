"""`ecg` on patients that it never saw, beside what a cardiologist would name: docs/ecg.md.

python benchmarks/patients.py draw --data DIR --patients 8   # of LUDB and of the Challenge each; goes on if stopped
python benchmarks/patients.py exact --data DIR               # a Gaussian prior of ECGs, whose posterior is known
python benchmarks/patients.py page

The folder `training` is to be on PYTHONPATH: the recipe says which patients it never sees.
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import posteria as po
from beats import axis, beats, found
from ecgs import LEADS, Records, real
from leads import BASELINES, SHAPE, STD, TASKS, TIME, TWELVE, Baselines
from lib.measure import measure
from lib.table import Table
from posteria.metrics.calibration import crps, interval_coverage
from posteria.metrics.distribution import mean_error, variance_ratio
from posteria.samplers.budget import at_budget
from report import DOCS, RESULTS, marked

KEPT = RESULTS / "ecg.jsonl"
SAMPLES, BUDGET = 10, 100
Row = dict[str, Any]
OTHERS = ("daps", "diffpir", "ddrm", "tempered", "pigdm", "red_diff", "dps", "mmps")
SAMPLERS: dict[str, Any] = {
    "mgdm": po.MGDM(),
    "mgps": po.MGPS(),
    **{name: po.samplers.POSTERIOR_SAMPLERS[name]() for name in OTHERS},
    "ddnm": po.samplers.DDNM(travel=10),
    "mgps, ecg": po.MGPS.published("ecg"),
}


@cache
def prior(name: str) -> po.Network:
    """The prior, in half precision where that is fast."""
    dtype = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    loaded = po.load_prior(name, size=TIME, dtype=dtype)
    assert isinstance(loaded, po.Network)
    return loaded


def scores(task: str, x: Tensor, mean: Tensor, samples: Tensor | None) -> Row:
    """Of twelve leads, in mV, over the entries that were not seen (of `noise`: over all)."""
    mask = TASKS[task][1]
    missing = (TWELVE.abs() @ (~mask).float() > 0) if not mask.all() else torch.ones(12, TIME) > 0
    truth, mean = TWELVE @ x, TWELVE @ mean.float()
    error = (mean - truth)[missing]
    row = {"mae": float(error.abs().mean()), "rmse": float(error.square().mean().sqrt())}
    pairs = [(a[m], b[m]) for a, b, m in zip(truth, mean, missing, strict=True) if m.any()]
    of_leads = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs if pair[0].std() > 0.01]  # fmt: skip
    row["correlation"] = statistics.fmean(c for c in of_leads if math.isfinite(c))
    row["axis"] = abs((axis(mean[:2]) - axis(truth[:2]) + 180) % 360 - 180)
    if samples is not None:
        drawn = TWELVE @ samples.float()
        off = (drawn - truth)[:, missing]
        row["median_mae"] = float((drawn.quantile(0.5, 0) - truth)[missing].abs().mean())
        row["sample_mae"] = float(off.abs().mean())
        row["coverage"] = interval_coverage(drawn[:, missing], truth[missing])
        row["crps"] = float(crps(drawn[:, missing], truth[missing]).mean())
    if task == "gap" and samples is not None:
        gap = (~mask[0]).nonzero()[[0, -1], 0].tolist()
        row["f1"] = statistics.fmean(found(beats(x), beats(each), gap) for each in samples)
    return row


def patients(records: list[Records], count: int) -> Iterator[tuple[str, str, int, Tensor]]:
    """Held-out records by source, name and number."""
    for each in records:
        # Spread over rhythms, by which they are sorted nowhere.
        for i in range(min(count, len(each.test))):
            yield each.source, each.test_rhythm[i], i, each.test[i]


def measured(task: str, source: str, i: int, x: Tensor) -> Tensor:
    """What is seen of a record, with noise that every method gets alike."""
    generator = torch.Generator().manual_seed(1000 * len(source) + i)
    noise = torch.randn(SHAPE, generator=generator)
    return (x + STD * noise)[TASKS[task][1]]


def draw(name: str, data: Path, count: int, tasks: list[str], methods: list[str]) -> None:
    """Draw what is not kept yet, for so many patients of a source; baselines for all of them."""
    records = real(data)
    fitted = Baselines(records)
    done = {
        tuple(row[key] for key in ("task", "method", "source", "patient"))
        for row in rows("patients")
    }
    for method in methods:
        for task in tasks:
            number = 1000 if method in BASELINES else count
            for source, rhythm, i, x in patients(records, number):
                if (task, method, source, i) in done:
                    continue
                y = measured(task, source, i, x)
                row: Row | None
                if method in BASELINES:
                    row = _by_hand(fitted, method, task, x, y)
                else:
                    row = _sampled(name, method, task, x, y)
                if row is None:
                    break
                key = {"study": "patients", "task": task, "method": method, "source": source}
                keep(key | {"patient": i, "rhythm": rhythm} | row)


def keep(row: Row) -> None:
    """Add a row to what is kept."""
    with KEPT.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(*(row.get(k) for k in ("task", "method", "source", "patient", "mae", "coverage")), flush=True)  # fmt: skip


def _by_hand(fitted: Baselines, method: str, task: str, x: Tensor, y: Tensor) -> Row | None:
    estimate = fitted(method, task, y)
    if estimate is None:
        return None
    mean, std = estimate
    drawn = None
    if std is not None:
        # Entry by entry: no metric looks at several at once, but for beats.
        drawn = mean + std * torch.randn(
            SAMPLES, *SHAPE, generator=torch.Generator().manual_seed(0)
        )
    # Of a Gaussian law the mean is the median.
    row = scores(task, x, mean, drawn)
    row["median_mae"] = row["mae"]
    return {key: value for key, value in row.items() if key != "f1"}


def _sampled(name: str, method: str, task: str, x: Tensor, y: Tensor) -> Row:
    operator = po.operators.Inpainting(TASKS[task][1])
    target = po.Posterior(prior(name), po.GaussianLikelihood(operator, STD), y)
    try:
        sampler = _settled(method, target)
        drawn = measure(sampler, target, range(SAMPLES))
    except po.PosteriaError as error:
        return {"note": str(error)}
    row = scores(task, x, drawn.samples.mean(0), drawn.samples)
    cost = {"evaluations": drawn.evaluations, "vjps": drawn.vjps}
    residual = ((operator(drawn.samples) - y) / STD).square().mean().sqrt()
    return row | cost | {"residual": float(residual), "note": repr(sampler)}


def _settled(method: str, target: po.Posterior) -> Any:
    """A sampler at the budget that all have, but for the settings of the paper."""
    sampler = SAMPLERS[method]
    return sampler if method == "mgps, ecg" else at_budget(sampler, target, BUDGET)


WINDOW, PROBLEMS, DRAWS = 128, 4, 64


def exact(data: Path, methods: list[str]) -> None:
    """Samplers against the exact posterior of a Gaussian prior fitted to windows of the training part."""
    x = torch.cat([each.train for each in real(data)])
    windows = x.unfold(2, WINDOW, 16).permute(0, 2, 1, 3).reshape(-1, len(LEADS) * WINDOW).double()
    mean, covariance = windows.mean(0), torch.cov(windows.T)
    # Directions that the records do not have are as wide as a microvolt.
    covariance += 1e-6 * torch.eye(len(mean))
    done = {(row["task"], row["method"], row["patient"]) for row in rows("exact")}
    gaussian = po.analytic.Gaussian(mean.float(), covariance.float())
    for problem in range(PROBLEMS):
        truth = gaussian.sample(1, torch.Generator().manual_seed(problem))
        for task in ("I", "gap"):
            mask = TASKS[task][1][:, 400 - WINDOW // 2 : 400 + WINDOW // 2].reshape(-1)
            likelihood = po.GaussianLikelihood(po.operators.Inpainting(mask), STD)
            y = likelihood.sample(truth, po.Rng([problem], stream=1))[0]
            law = gaussian.posterior(likelihood, y)
            target = po.Posterior(gaussian, likelihood, y)
            for method in methods:
                if (task, method, problem) in done:
                    continue
                drawn = measure(_settled(method, target), target, range(DRAWS)).samples
                key = {"study": "exact", "task": task, "method": method, "patient": problem}
                error, variance = (
                    mean_error(drawn, law.mean, law.std),
                    variance_ratio(drawn, law.std),
                )
                keep(key | {"error": error, "variance": variance})


def rows(study: str) -> list[Row]:
    """What is kept of a study."""
    kept = [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []
    return [row for row in kept if row["study"] == study]


COLUMNS = {
    "mae": ("MAE", 3),
    "median_mae": ("MAE of the median", 3),
    "rmse": ("RMSE", 3),
    "sample_mae": ("MAE of a sample", 3),
    "coverage": ("90 % coverage", 2),
    "crps": ("CRPS", 3),
    "correlation": ("correlation", 2),
    "axis": ("axis, degrees", 0),
    "f1": ("F1 of beats", 2),
}


def interval(values: list[float], digits: int) -> str:
    """Mean and 95 % interval by Student's t."""
    from scipy.stats import t

    if len(values) < 2:
        return "-"
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):.{digits}f} ± {half:.{digits}f}"


def of_patients(kept: list[Row], task: str, source: str) -> str:
    """A table of what was drawn for the same patients by every method."""
    found: dict[str, dict[int, Row]] = {}
    for row in kept:
        if (row["task"], row["source"]) == (task, source) and "mae" in row:
            found.setdefault(row["method"], {})[row["patient"]] = row
    if not found:
        return ""
    # A method that was stopped after less than four patients is left out.
    found = {method: of for method, of in found.items() if len(of) > 3}
    drawn = [set(of) for method, of in found.items() if method not in BASELINES]
    if not drawn:
        return ""
    common = sorted(set.intersection(*drawn))
    columns = [key for key in COLUMNS if key != "f1" or task == "gap"]
    lines = []
    for method in (*BASELINES, *SAMPLERS):
        if method in found:
            of = [found[method][i] for i in common]
            cells = (interval([r[k] for r in of if k in r], COLUMNS[k][1]) for k in columns)
            cost = f"{of[0]['evaluations']:.0f} + {of[0]['vjps']:.0f}" if "vjps" in of[0] else ""
            lines.append([method, *cells, cost])
    header = ["method", *(COLUMNS[k][0] for k in columns), "evaluations + vjps"]
    about = TASKS[task][0]
    title = f"{about[0].upper()}{about[1:]}: {source}, {len(common)} patients"
    return Table(title, header, lines).markdown(4)


def all_held_out(kept: list[Row]) -> str:
    """MAE and coverage of what was drawn for every held-out patient."""
    lines, shown = [], ("mae", "median_mae", "rmse", "coverage", "crps")
    for task in TASKS:
        for source in ("LUDB", "Challenge"):
            ours = [r for r in kept if (r["task"], r["source"]) == (task, source) and "mae" in r]
            methods = dict.fromkeys(r["method"] for r in ours)
            most = max((r["patient"] for r in ours), default=0)
            for method in methods:
                of = [r for r in ours if r["method"] == method]
                if len(of) == most + 1 > 2:
                    cells = [interval([r[k] for r in of if k in r], COLUMNS[k][1]) for k in shown]
                    lines.append([task, f"{source} ({len(of)})", method, *cells])
    return Table(
        "", ["seen", "patients", "method", *(COLUMNS[k][0] for k in shown)], lines
    ).markdown()


def of_gaussian(kept: list[Row]) -> str:
    """Samplers against the exact posterior."""
    lines = []
    for method in SAMPLERS:
        cells = []
        for task, key in ((t, k) for t in ("I", "gap") for k in ("error", "variance")):
            cells.append(
                interval([r[key] for r in kept if (r["method"], r["task"]) == (method, task)], 2)
            )
        if any(cell != "-" for cell in cells):
            lines.append([method, *cells])
    header = [
        "method",
        "I: error of the mean",
        "variance / exact",
        "gap: error of the mean",
        "variance / exact",
    ]
    return Table("", header, lines).markdown()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["draw", "exact", "page"])
    parser.add_argument("--data", type=Path, help="folder with ludb/ and the Challenge's samples")
    parser.add_argument("--prior", default="ecg")
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--methods", nargs="+", default=[*BASELINES, *SAMPLERS])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "draw":
        draw(options.prior, options.data, options.patients, options.tasks, options.methods)
    elif options.what == "exact":
        exact(options.data, [m for m in options.methods if m in SAMPLERS])
    else:
        kept = rows("patients")
        tables = (
            of_patients(kept, task, each) for task in TASKS for each in ("LUDB", "Challenge")
        )
        parts = {
            "samplers": "\n\n".join(filter(None, tables)),
            "held-out": all_held_out(kept),
            "exact": of_gaussian(rows("exact")),
        }
        path = DOCS / "ecg.md"
        path.write_text(marked(path.read_text(), parts))


if __name__ == "__main__":
    main()
