"""`ecg` on patients that it never saw, beside what a cardiologist would name: docs/ecg.md.

python benchmarks/patients.py draw --data DIR --patients 8   # of LUDB and of the Challenge each; goes on if stopped
python benchmarks/patients.py exact --data DIR               # a Gaussian prior of ECGs, whose posterior is known
python benchmarks/patients.py page

The folder `training` is to be on PYTHONPATH: the recipe says which patients it never sees.
"""

import argparse
import math
import statistics
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import posteria as po
from data.beats import axis, beats, found, rate, width
from data.ecgs import LEADS, Records, real
from leads import BASELINES, SHAPE, STD, TASKS, TIME, TWELVE, Baselines
from lib.measure import measure
from lib.study import RESULTS, Cell, Row, by_method, draw, prior, rows, write_parts
from lib.table import Table, average
from posteria.metrics.calibration import crps, interval_coverage
from posteria.metrics.distribution import mean_error, variance_ratio
from posteria.samplers.budget import at_budget

KEPT = RESULTS / "ecg.jsonl"
SAMPLES, BUDGET = 10, 100
SOURCES = ("LUDB", "Challenge")
NAMES = "mgdm mgps daps diffpir ddrm tempered pigdm red_diff dps ddnm mmps repaint"
# From a level that hides an ECG, and not from that for pictures.
LEVELS = po.Karras(steps=25, sigma_min=0.02, sigma_max=3.0)
SAMPLERS: dict[str, Any] = {
    **{name: po.samplers.POSTERIOR_SAMPLERS[name]() for name in NAMES.split()},
    "ddnm": po.samplers.DDNM(travel=10),
    "mgps, ecg": po.MGPS.published("ecg"),
    "mmps, 25 steps": po.MMPS(schedule=LEVELS),
    "mmps, 60 steps": po.MMPS(schedule=po.Karras(steps=60, sigma_min=0.03, sigma_max=3.0)),
    "mmps, gmres": po.MMPS(solver="gmres", schedule=LEVELS),
}


def scores(task: str, x: Tensor, mean: Tensor, samples: Tensor | None) -> Row:
    """Of twelve leads, in mV, over the entries that were not seen (over all, if there are none)."""
    missing = TASKS[task].missing(x)
    truth, mean = TWELVE @ x, TWELVE @ mean.float()
    error = (mean - truth)[missing]
    row = {"mae": float(error.abs().mean()), "rmse": float(error.square().mean().sqrt())}
    pairs = [(a[m], b[m]) for a, b, m in zip(truth, mean, missing, strict=True) if m.any()]
    of_leads = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs if pair[0].std() > 0.01]  # fmt: skip
    known = [c for c in of_leads if math.isfinite(c)]
    row["correlation"] = statistics.fmean(known) if known else math.nan
    row["axis"] = abs((axis(mean[:2]) - axis(truth[:2]) + 180) % 360 - 180)
    if samples is not None:
        drawn = TWELVE @ samples.float()
        off = (drawn - truth)[:, missing]
        row["median_mae"] = float((drawn.quantile(0.5, 0) - truth)[missing].abs().mean())
        row["sample_mae"] = float(off.abs().mean())
        row["coverage"] = interval_coverage(drawn[:, missing], truth[missing])
        row["crps"] = float(crps(drawn[:, missing], truth[missing]).mean())
    return row


def of_beats(task: str, x: Tensor, drawn: Tensor) -> Row:
    """What records `[n, 8, time]` say of the beats, in the mean: of a gap, of those in it and a second to each side."""
    first, last = TASKS[task].gap or (0, TIME - 1)
    near = max(first - 100, 0), min(last + 100, TIME - 1)
    true, kept = beats(x), [(each, beats(each)) for each in drawn.float()]
    return {
        "f1": statistics.fmean(found(true, at, (first, last)) for _, at in kept),
        "rr": statistics.fmean(abs(rate(at, near) - rate(true, near)) for _, at in kept),
        "qrs": statistics.fmean(abs(width(r, at, near) - width(x, true, near)) for r, at in kept),
    }


def patients(records: list[Records], count: int) -> Iterator[tuple[str, str, int, Tensor]]:
    """Held-out records by source, name and number."""
    for each in records:
        # Spread over rhythms, by which they are sorted nowhere.
        for i in range(min(count, len(each.test))):
            yield each.source, each.test_rhythm[i], i, each.test[i]


def measured(task: str, source: str, i: int, x: Tensor) -> Tensor:
    """What is seen of a record, with noise that every method gets alike."""
    generator = torch.Generator().manual_seed(1000 * len(source) + i)
    return TASKS[task].of(x, torch.randn(SHAPE, generator=generator))


def study(
    name: str, data: Path, count: int, tasks: list[str], methods: list[str]
) -> Iterator[Cell]:
    """So many patients of a source by each sampler, and all of them by the baselines."""
    records = real(data)
    fitted = Baselines(records)
    for method, task in product(methods, tasks):
        by_hand = method in BASELINES
        if by_hand and not fitted.suits(method, task):
            continue
        by: Any = partial(_by_hand, fitted) if by_hand else partial(_sampled, name)
        for source, rhythm, i, x in patients(records, 1000 if by_hand else count):
            key = {"study": "patients", "task": task, "method": method, "source": source}
            run = partial(by, method, task, x, measured(task, source, i, x))
            yield key | {"patient": i, "rhythm": rhythm}, run


def _by_hand(fitted: Baselines, method: str, task: str, x: Tensor, y: Tensor) -> Row:
    mean, std = fitted(method, task, y)
    noise = torch.randn(SAMPLES, *SHAPE, generator=torch.Generator().manual_seed(0))
    # Entry by entry: no metric of these looks at several at once.
    drawn = None if std is None else mean + std * noise
    # Of a Gaussian law the mean is the median.
    row = scores(task, x, mean, drawn)
    return row | {"median_mae": row["mae"]} | of_beats(task, x, mean[None])


def _sampled(name: str, method: str, task: str, x: Tensor, y: Tensor) -> Row:
    operator = TASKS[task].operator
    target = po.Posterior(prior(name, TIME), po.GaussianLikelihood(operator, STD), y)
    try:
        sampler = _settled(method, target)
        drawn = measure(sampler, target, range(SAMPLES))
    except po.PosteriaError as error:
        return {"note": str(error)}
    row = scores(task, x, drawn.samples.mean(0), drawn.samples)
    cost = {"evaluations": drawn.evaluations, "vjps": drawn.vjps}
    residual = ((operator(drawn.samples) - y) / STD).square().mean().sqrt()
    row |= of_beats(task, x, drawn.samples) | cost
    return row | {"residual": float(residual), "note": repr(sampler)}


def _settled(method: str, target: po.Posterior) -> Any:
    """A sampler at the budget that all have, but for those with settings of their own."""
    sampler = SAMPLERS[method]
    return sampler if ", " in method else at_budget(sampler, target, BUDGET)


WINDOW, PROBLEMS, DRAWS = 128, 4, 64


def exact(data: Path) -> Iterator[Cell]:
    """Samplers against the exact posterior of a Gaussian prior fitted to windows of the training part."""
    x = torch.cat([each.train for each in real(data)])
    windows = x.unfold(2, WINDOW, 16).permute(0, 2, 1, 3).reshape(-1, len(LEADS) * WINDOW).double()
    mean, covariance = windows.mean(0), torch.cov(windows.T)
    # Directions that the records do not have are as wide as a microvolt.
    covariance += 1e-6 * torch.eye(len(mean))
    gaussian = po.analytic.Gaussian(mean.float(), covariance.float())
    for problem in range(PROBLEMS):
        truth = gaussian.sample(1, torch.Generator().manual_seed(problem))
        for task in ("I", "gap"):
            mask = TASKS[task].mask[:, 400 - WINDOW // 2 : 400 + WINDOW // 2].reshape(-1)
            likelihood = po.GaussianLikelihood(po.operators.Inpainting(mask), STD)
            y = likelihood.sample(truth, po.Rng([problem], stream=1))[0]
            law = gaussian.posterior(likelihood, y)
            target = po.Posterior(gaussian, likelihood, y)
            for method in SAMPLERS:
                key = {"study": "exact", "task": task, "method": method, "patient": problem}
                yield key, partial(_against, method, target, law)


def _against(method: str, target: po.Posterior, law: po.analytic.Gaussian) -> Row:
    x = measure(_settled(method, target), target, range(DRAWS)).samples
    return {"error": mean_error(x, law.mean, law.std), "variance": variance_ratio(x, law.std)}


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
    "rr": ("RR, ms", 0),
    "qrs": ("QRS, ms", 0),
}


def interval(values: list[float], digits: int) -> str:
    """Mean and 95 % interval by Student's t."""
    from scipy.stats import t

    if len(values) < 2:
        return "-"
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):.{digits}f} ± {half:.{digits}f}"


def of_source(kept: list[Row], task: str, source: str) -> dict[str, dict[int, Row]]:
    """Rows of a task and source by method and patient; of less than four patients a method says nothing."""
    found = by_method(kept, "patient", "mae", task=task, source=source)
    return {m: found[m] for m in (*BASELINES, *SAMPLERS) if len(found.get(m, ())) > 3}


def differences(kept: list[Row]) -> str:
    """Each sampler less the usual estimate of a task, over the same patients of a source."""
    lines = []
    for (task, seen), source in product(TASKS.items(), SOURCES):
        found = of_source(kept, task, source)
        usual = next((m for m in ("ridge", "gaussian process", "interpolation") if m in found), "")
        for method in (m for m in found if m in SAMPLERS):
            theirs = found[usual]
            both = [(row, theirs[i]) for i, row in found[method].items() if i in theirs]
            cells = []
            for key in ("mae", "median_mae", "crps"):
                less = [one[key] - other[key] for one, other in both if key in other]
                nearer = [str(sum(each < 0 for each in less))] if key == "median_mae" else []
                cells += [average(less, 3), *nearer]
            coverage = statistics.fmean(ours["coverage"] for ours, _ in both)
            about = [f"{seen.about}: {source}", method, str(len(both)), usual]
            lines.append([*about, *cells, f"{coverage:.2f}"])
    header = ["task", "method", "patients", "less", "MAE", "MAE of the median", "nearer in"]
    return Table("", [*header, "CRPS", "90 % coverage"], lines).markdown()


def of_patients(kept: list[Row], task: str, source: str) -> str:
    """A table of what was drawn of a source, each method for the first of its patients."""
    found = {method: [*of.values()] for method, of in of_source(kept, task, source).items()}
    if not found.keys() & SAMPLERS.keys():
        return ""
    lines = []
    for method, of in found.items():
        cells = (interval([r[k] for r in of if k in r], d) for k, (_, d) in COLUMNS.items())
        cost = f"{of[0]['evaluations']:.0f} + {of[0]['vjps']:.0f}" if "vjps" in of[0] else ""
        lines.append([method, str(len(of)), *cells, cost])
    header = ["method", "patients", *(name for name, _ in COLUMNS.values()), "evaluations + vjps"]
    about = TASKS[task].about
    return Table(f"{about[0].upper()}{about[1:]}: {source}", header, lines).markdown(4)


def of_gaussian(kept: list[Row]) -> str:
    """Samplers against the exact posterior."""
    columns = {"error": "error of the mean", "variance": "variance / exact"}
    both = list(product(("I", "gap"), columns))
    found = {task: by_method(kept, "patient", "error", task=task) for task, _ in both}
    lines = [
        [
            m,
            *(
                interval([r[key] for r in found[task].get(m, {}).values()], 2)
                for task, key in both
            ),
        ]
        for m in SAMPLERS
        if any(m in of for of in found.values())
    ]
    header = ["method", *(f"{task}: {columns[key]}" for task, key in both)]
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
    if options.what != "page" and options.data is None:
        parser.error(f"{options.what} needs --data.")
    torch.set_num_threads(1)
    if options.what == "draw":
        chosen = (options.patients, options.tasks, options.methods)
        draw(KEPT, study(options.prior, options.data, *chosen), "mae")
    elif options.what == "exact":
        draw(KEPT, exact(options.data), "error", options.methods)
    else:
        kept = rows(KEPT, "patients")
        tables = (of_patients(kept, task, source) for task in TASKS for source in SOURCES)
        parts = {
            "differences": differences(kept),
            "samplers": "\n\n".join(filter(None, tables)),
            "exact": of_gaussian(rows(KEPT, "exact")),
        }
        write_parts("ecg.md", parts)


if __name__ == "__main__":
    main()
