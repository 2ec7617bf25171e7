"""Tables, figure and landing page from the results that are kept in `benchmarks/results`.

python benchmarks/report.py     # puts tables between their marks in docs/, and draws docs/benchmark.png
"""

import argparse
import math
import statistics
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from benchopt.results import read_results

from advice import tables
from lib.show import (
    METRICS,
    Frame,
    Mean,
    at_budget,
    equals,
    exact_mean,
    inner,
    mean_of,
    ranking,
    rows_of_all,
    short,
    table_of_best,
)
from lib.study import DOCS, RESULTS
from lib.table import Table
from posteria.samplers import POSTERIOR_SAMPLERS
from shipping import marked

# What is asked for: evaluations and vjps of the prior, per sample.
BUDGETS = (100, 500, 2000, 10_000)
# One budget whose whole table is in the documentation.
SHOWN = 1000
PROBLEMS = {
    "gaussian-half": "white noise, one half seen (16 dimensions)",
    "gaussian-half-small": "the same at a tenth of the scale",
    "gaussian-correlated": "a Gaussian with the spectrum of pictures (16 dimensions)",
    "gmm25-8-1": "25 modes in 8 dimensions, one measurement",
    "gmm25-8-2": "25 modes in 8 dimensions, two measurements",
    "gmm25-8-4": "25 modes in 8 dimensions, four measurements",
    "gmm25-80-1": "25 modes in 80 dimensions, one measurement",
    "gmm25-80-2": "25 modes in 80 dimensions, two measurements",
    "gmm25-80-4": "25 modes in 80 dimensions, four measurements",
    "gmm25-200-4": "25 modes in 200 dimensions, four measurements",
    "banana": "two bent arms in the plane, a linear measurement",
    "radius": "a broken ring in the plane: the radius is measured (nonlinear)",
    "product": "two hyperbolas in the plane: the product is measured (nonlinear)",
}
# What is said of a sampler beside its distance, with the heading.
DETAILS = {
    "mean_error": "mean error (sd)",
    "variance_ratio": "variance ratio",
    "mode_weight_error": "mode weights",
    "coverage_90": "90 % coverage",
}
# An interval of 90 % that holds so much more or less of the truth counts as right.
CALIBRATED = 0.05
# Samplers whose samples are particles of one population, 512 of them here; the last is a peer's.
TOGETHER = {
    name
    for name, kind in POSTERIOR_SAMPLERS.items()
    if "particles" in {field.name for field in fields(kind)}
} | {"azula[TDS]"}


def spaced(number: int) -> str:
    """A number with a space between its thousands."""
    return f"{number:,}".replace(",", " ")


def read(results: Path = RESULTS) -> dict[str, Frame]:
    """The frames of a folder by name; those that are not there are left out."""
    return {path.stem: read_results(path) for path in sorted(results.glob("*.parquet"))}


def by_problem(frame: Frame) -> dict[str, Frame]:
    """The rows of each problem, in the order of `PROBLEMS`."""
    found = {inner(str(name)): rows for name, rows in frame.groupby("dataset_name")}
    return {name: found[name] for name in sorted(found, key=list(PROBLEMS).index)}


def drawn(part: Frame, budget: int, *, single: bool) -> dict[str, Mean]:
    """Distances of all samplers over the floor, or of those that draw each sample by itself."""
    means = at_budget(part, "ratio", budget)
    return {name: mean for name, mean in means.items() if not (single and name in TOGETHER)}


def best(frame: Frame, *, single: bool) -> Table:
    """The best sampler of each problem at each budget, by distance over the floor."""
    rows = []
    for problem, part in by_problem(frame).items():
        cells = (table_of_best(drawn(part, b, single=single), METRICS["ratio"]) for b in BUDGETS)
        named = f"{problem}: {PROBLEMS[problem]}"
        rows.append([named, *cells, str(exact_mean(part, "ratio"))])
    kind = "that draw each sample by itself" if single else "of all, populations included"
    return Table(
        f"The nearest of the samplers {kind}",
        ["problem", *(f"at {spaced(budget)}" for budget in BUDGETS), "exact draws"],
        rows,
    )


def calibration(frame: Frame, *, single: bool) -> Table:
    """The error and the calibration of the best sampler of each problem at each budget."""
    rows = []
    for problem, part in by_problem(frame).items():
        for budget in BUDGETS:
            if order := ranking(drawn(part, budget, single=single), METRICS["ratio"]):
                columns = [at_budget(part, metric, budget) for metric in DETAILS]
                found = [str(column.get(order[0], mean_of([]))) for column in columns]
                rows.append([problem, spaced(budget), order[0], *found])
        exact = [str(exact_mean(part, metric)) for metric in DETAILS]
        rows.append([problem, "", "*exact draws*", *exact])
    kind = "that draw each sample by itself" if single else "of all"
    return Table(
        f"Error and calibration of the nearest of the samplers {kind}",
        ["problem", "budget", "sampler", *DETAILS.values()],
        rows,
    )


def tally(frame: Frame, budget: int, *, single: bool) -> list[tuple[str, int, float]]:
    """Samplers by the problems on which none is nearer, with the middle of their ratios to the floor."""
    wins: dict[str, int] = {}
    ratios: dict[str, list[float]] = {}
    for part in by_problem(frame).values():
        means = drawn(part, budget, single=single)
        order = ranking(means, METRICS["ratio"])
        for name in order:
            ratios.setdefault(name, []).append(means[name].value)
        for name in order[:1] + equals(means, METRICS["ratio"]):
            wins[name] = wins.get(name, 0) + 1
    ranked = sorted(wins, key=lambda name: (-wins[name], statistics.median(ratios[name])))
    return [(name, wins[name], statistics.median(ratios[name])) for name in ranked]


def answer(frame: Frame, budget: int, *, single: bool = False) -> str:
    """Which sampler to take at a budget, in a sentence."""
    found = tally(frame, budget, single=single)
    every = [drawn(part, budget, single=single) for part in by_problem(frame).values()]
    every = list(filter(None, every))
    if not found:
        return f"Nothing was drawn at {budget} evaluations."
    (name, wins, ratio), rest = found[0], found[1:4]
    others = ", ".join(f"{other} ({count})" for other, count, _ in rest)
    samplers = len({name for means in every for name in means})
    return (
        f"**{name}** is the nearest, or not to be told from the nearest, on {wins} of {len(every)} problems; its "
        f"distance is {ratio:.2g} times the floor on the middle one."
        + (f" Then come {others}." if others else "")
        + f" ({samplers} samplers were drawn.)"
    )


def everyone(frame: Frame, budget: int) -> Table:
    """Every sampler on every problem at one budget."""
    parts = by_problem(frame)
    return Table(
        f"Distance over the floor at {budget} evaluations and vjps a sample",
        ["sampler", *parts],
        rows_of_all(parts, "ratio", budget, "*exact draws*"),
        "A dash: it cannot draw from the problem, or the budget buys less than five steps, or a repetition diverged.",
    )


def peers(frame: Frame) -> Table:
    """Other libraries' samplers on every problem at two budgets."""
    parts = by_problem(frame)
    pairs = [[at_budget(part, "ratio", b) for b in (500, 2000)] for part in parts.values()]
    names = {name for pair in pairs for means in pair for name in means if "[" in name}

    def cell(name: str, pair: list[dict[str, Mean]]) -> str:
        return " / ".join(f"{means[name].value:.3g}" if name in means else "-" for means in pair)

    rows = [[name, *(cell(name, pair) for pair in pairs)] for name in sorted(names)]
    title = "Distance over the floor at 500 / 2000 evaluations and vjps a sample"
    note = "Means of three repetitions; a dash is skipped."
    return Table(title, ["sampler", *parts], rows, note)


def detail(part: Frame, problem: str, budget: int) -> Table:
    """What is known of every sampler on one problem at one budget, the nearest first."""
    metrics = ("ratio", *DETAILS, "seconds")
    columns = {metric: at_budget(part, metric, budget) for metric in metrics}
    rows = [
        [name, *(str(columns[metric].get(name, mean_of([]))) for metric in metrics)]
        for name in ranking(columns["ratio"], METRICS["ratio"])
    ]
    header = ["sampler", "distance / floor", *DETAILS.values(), "seconds"]
    return Table(f"{problem} at {budget}", header, rows)


def pictures(frame: Frame, task: str) -> Table:
    """Samplers on a task of pictures, nearest to the truths first."""
    rows = frame[(frame["p_dataset_task"] == task) & frame["objective_psnr"].notna()]
    lines = []
    for _, row in rows.sort_values("objective_distance").iterrows():
        cell = {key.removeprefix("objective_"): value for key, value in row.items()}
        spread = [
            f"{cell[key]:.{digits}f} ± {cell[f'{key}_se']:.{digits}f}"
            for key, digits in (("psnr", 2), ("ssim", 3), ("residual", 2))
        ]
        rest = [f"{cell['distance']:.4f}", f"{100 * cell['coverage']:.0f} %", f"{cell['nfe']:.0f}"]
        name, seconds = short(str(row["solver_name"])), f"{cell['seconds_each']:.2f}"
        lines.append([name, *spread, *rest, seconds])
    floor = mean_of(rows["objective_floor"]).value
    header = ["sampler", "PSNR", "SSIM", "residual / sigma", "distance"]
    if not math.isnan(floor):
        lines.append(["*two sets of truths*", "", "", "", f"{floor:.4f}", "90 %", "", ""])
    return Table(task, [*header, "90 % coverage", "NFE", "s"], lines)


def in_short(frame: Frame, title: str) -> Table:
    """Who is first on each task of pictures, by each of three measures."""
    rows = []
    for task in frame["p_dataset_task"].unique():
        part = frame[(frame["p_dataset_task"] == task) & frame["objective_psnr"].notna()]
        part = part.assign(name=part["solver_name"].map(short))
        near = part.sort_values("objective_distance")["name"][:3]
        sharp = part.sort_values("objective_psnr", ascending=False)["name"][:3]
        sure = sorted(part[(part["objective_coverage"] - 0.9).abs() <= CALIBRATED]["name"])
        rows.append([str(task), *(", ".join(names) for names in (near, sharp, sure))])
    held = "coverage of 90 % intervals within 85 to 95 %"
    return Table(title, ["task", "nearest to the truths' law", "highest PSNR", held], rows)


def tilted(frame: Frame) -> Table:
    """The best rule or sampler of each tilted law at each budget."""
    budgets, rows = sorted({int(stop) for stop in frame["stop_val"] if stop > 0}), []
    for name, part in by_law(frame).items():
        best = (table_of_best(at_budget(part, "ratio", b), METRICS["ratio"]) for b in budgets)
        rows.append([name, *best])
    title = "The nearest rule or sampler of each tilted law, by distance over that of exact draws"
    return Table(title, ["law", *(f"at {budget}" for budget in budgets)], rows)


def by_law(frame: Frame) -> dict[str, Frame]:
    """The rows of each tilted law that is known."""
    exact = frame[frame["objective_ratio"].notna()]
    return {inner(str(name)): part for name, part in exact.groupby("dataset_name")}


def laws(frame: Frame, budget: int = 128) -> Table:
    """Every rule and sampler on every tilted law at one budget."""
    parts = by_law(frame)
    return Table(
        f"Distance over that of exact draws at {budget} evaluations and vjps a sample",
        ["rule or sampler", *parts],
        rows_of_all(parts, "ratio", budget)[:-1],
        "A dash: it needs a model that is not there, or the budget does not buy its levels, or a repetition diverged.",
    )


def varied(frame: Frame) -> Table:
    """Quality and diversity of a label to a power, at the largest budget, the most precise first."""
    known = frame[frame["objective_precision"].notna()]
    title = "Digits with a label to a power"
    header = ["weight", "rule or sampler", "precision", "recall", "agreement", "Fréchet distance"]
    if known.empty:
        return Table(title, header, [])
    budget = int(known["stop_val"].max())
    known = known[known["stop_val"] == budget]
    rows = []
    for weight, part in known.groupby("p_dataset_weight"):
        for _, row in part.sort_values("objective_precision", ascending=False).iterrows():
            three = (row[f"objective_{key}"] for key in ("precision", "recall", "agreement"))
            line = [f"{weight:g}", short(str(row["solver_name"])), *(f"{v:.3f}" for v in three)]
            rows.append([*line, f"{row['objective_frechet']:.1f}"])
    note = (
        "*Precision*: the share of samples among the held-out pictures, in features of a classifier;\n"
        "*recall*: of these among the samples; *agreement*: what the classifier takes for its label.\n"
        "`cfgpp` has a strength of its own and does not see the weight: its rows differ by their draws alone."
    )
    return Table(f"{title}, at {budget} evaluations a sample", header, rows, note)


def sections(frames: Mapping[str, Frame]) -> dict[str, str]:
    """The generated parts of the documentation by their marks."""
    parts: dict[str, str] = {"advice": tables()}
    if "exact" in frames:
        frame = frames["exact"]
        for name, make in (("best", best), ("calibration", calibration)):
            both = [make(frame, single=single).markdown() for single in (False, True)]
            parts[name] = "\n\n".join(both)
        parts["peers"] = peers(frame).markdown()
        parts["everyone"] = everyone(frame, SHOWN).markdown()
    for name in ("images", "populations"):
        if name in frames:
            tasks = frames[name]["p_dataset_task"].unique()
            parts[name] = "\n\n".join(pictures(frames[name], task).markdown() for task in tasks)
    if "guidance" in frames:
        parts["tilted"] = tilted(frames["guidance"]).markdown()
        parts["laws"] = laws(frames["guidance"]).markdown()
        parts["varied"] = varied(frames["guidance"]).markdown()
    return parts


def main() -> None:
    """Write what is generated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path, default=RESULTS)
    frames = read(parser.parse_args().results)
    parts = sections(frames)
    for path in sorted(DOCS.glob("*.md")):
        path.write_text(marked(path.read_text(), parts))
    if "exact" in frames:
        from lib.plots import curves

        curves(by_problem(frames["exact"])).savefig(DOCS / "benchmark.png", dpi=110)


if __name__ == "__main__":
    main()
