"""All samplers on pictures whose posteriors are known exactly: results are kept, and docs/pictures.md is made of them.

python benchmarks/pictures.py draw --truths 0 1   # goes on where it was stopped; an hour a truth on one core
python benchmarks/pictures.py draw --budget 2000 --samples 256 --samplers "exact draws" tempered --tasks box
python benchmarks/pictures.py page
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import torch

from certificates import KEPT as CERTIFICATES
from lib import study as store
from lib.budget import budgeted
from lib.measure import measure, seeds_of
from lib.show import at_budget, exact_mean
from lib.study import RESULTS, Cell, Row, write_parts
from lib.table import Table
from posteria.analytic.low_rank_posterior import PPCAPosterior
from posteria.core.errors import expect
from posteria.metrics import AgainstExact
from posteria.problems.pictures import NOISE, PICTURES, pictures_exact
from posteria.samplers import POSTERIOR_SAMPLERS
from report import TOGETHER, by_problem, read

KEYS = ("truth", "task", "sampler", "budget", "n", "std")
KEPT = RESULTS / "pictures.jsonl"
TASKS = ("box", "half", "random5", "sr4", "blur")
ABOUT = {
    "box": "a missing box, 495 pixels seen",
    "half": "the left half, 392 pixels seen",
    "random5": "39 random pixels",
    "sr4": "49 averages of 4 x 4 pixels",
    "blur": "a Gaussian blur, 784 numbers",
}
# Evaluations and samples of the tables of all samplers, and of that of populations; the noise of the former.
ALL, POPULATIONS, USUAL = (400, 32), (2000, 256), 0.1
# Of populations on what was not drawn with so many.
HALF = (1000, 256)
# Of noise alone, by a reverse run from the measurement.
ALONE = (16, 256)
COLUMNS = {
    "ratio": "distance / floor",
    "mean_error": "mean error (sd)",
    "variance_ratio": "variance ratio",
    "mode_weight_error": "component weights",
    "coverage_90": "90 % coverage",
    "log_evidence_error": "error of log p(y)",
}
HEADER = ["sampler", *COLUMNS.values(), "evaluations + vjps", "truths"]
# Tasks of certificates by their names here.
PLAIN = {"inpaint": "box", "sr": "sr4"}
# Evaluations and vjps at which samplers are compared in few dimensions.
FEW = 2000
# A sampler is certified on a task if, in the mean of the truths, it is within these.
RATIO, VARIANCE, WEIGHTS = 1.3, (0.8, 1.25), 0.05


def draw(task: str, truth: int, name: str, budget: int, n: int, std: float) -> Row:
    """The metrics of a sampler on one measurement, or why there are none."""
    problem = pictures_exact(task, std, seed=truth)
    exact = expect(problem.exact, PPCAPosterior, by="A problem of pictures")
    against = AgainstExact(exact, n)
    given = {"floor_weights": against.weight_floor}
    if name in {"exact draws", "prior draws"}:
        law = exact if name == "exact draws" else exact.prior
        generator = torch.Generator().manual_seed(2**31 + truth)
        return against.evaluate(law.sample(n, generator)) | given
    sampler = budgeted(name, problem.target, budget)
    if isinstance(sampler, str):
        return {"note": sampler}
    drawn = measure(sampler, problem.target, seeds_of(truth, n))
    cost = {"evaluations": drawn.evaluations, "vjps": drawn.vjps, "seconds": drawn.seconds}
    error = abs(drawn.log_evidence - problem.log_evidence)
    found = against.evaluate(drawn.samples) | given | cost
    return found | {"log_evidence_error": error, "note": repr(sampler)}


def drawn(options: argparse.Namespace) -> Iterator[Cell]:
    """What is to be drawn; samplers of single samples come first, since populations are dear."""
    size = (options.budget, options.samples, options.std)
    every = product(options.truths, options.samplers, options.tasks)
    for truth, name, task in sorted(every, key=lambda cell: cell[1] in TOGETHER):
        key = dict(zip(KEYS, (truth, task, name, *size), strict=True))
        yield key, partial(draw, task, truth, name, *size)


def mean(found: list[Row], metric: str) -> float:
    """Over truths; NaN unless each has a number."""
    values = [row.get(metric, math.nan) for row in found]
    return statistics.fmean(values) if values and all(map(math.isfinite, values)) else math.nan


def certified(found: list[Row]) -> bool:
    """Whether a sampler is as good as exact draws on a task, within what is stated."""
    weights = mean(found, "mode_weight_error") - mean(found, "floor_weights")
    low, high = VARIANCE
    return (
        mean(found, "ratio") <= RATIO
        and low <= mean(found, "variance_ratio") <= high
        and weights <= WEIGHTS
    )


def at(kept: list[Row], size: tuple[int, int]) -> list[Row]:
    """The rows of as many evaluations and samples."""
    return [row for row in kept if (row["budget"], row["n"]) == size]


def compared(path: Path) -> list[Row]:
    """The rows of the tables of all samplers."""
    return [row for row in at(store.rows(path), ALL) if row["std"] == USUAL]


def of(kept: list[Row], name: str, task: str) -> list[Row]:
    """The rows of a sampler on a task, one a truth."""
    return [row for row in kept if row["sampler"] == name and row["task"] == task]


def ordered(kept: list[Row]) -> list[str]:
    """Names by their distance on the middle task."""

    def middle(name: str) -> float:
        values = [mean(of(kept, name, task), "ratio") for task in TASKS]
        return statistics.median(math.inf if math.isnan(value) else value for value in values)

    return sorted({row["sampler"]: None for row in kept}, key=middle)


def tables(kept: list[Row]) -> list[Table]:
    """Distances of all samplers on all tasks, and what else is known, task by task."""
    order = ordered(kept)

    def cell(name: str, task: str) -> str:
        found = of(kept, name, task)
        shown = _shown(mean(found, "ratio"))
        return f"**{shown}**" if certified(found) and name in POSTERIOR_SAMPLERS else shown

    lines = [[name, *(cell(name, task) for task in TASKS)] for name in order]
    made = [Table("Distance over the floor", ["sampler", *TASKS], lines)]
    for task in TASKS:
        found = {name: of(kept, name, task) for name in order}
        known = {name: rows for name, rows in found.items() if not math.isnan(mean(rows, "ratio"))}
        lines = [_detail(name, rows) for name, rows in known.items()]
        made.append(Table(f"{task}: {ABOUT[task]}", HEADER, lines))
    return made


def few() -> dict[str, list[str]]:
    """The problems of 2 to 80 dimensions on which each sampler that was drawn is certified."""
    good: dict[str, list[str]] = {}
    for problem, part in by_problem(read(RESULTS)["exact"]).items():
        means = {metric: at_budget(part, metric, FEW) for metric in COLUMNS}
        floor = exact_mean(part, "mode_weight_error").value
        for name in means["ratio"]:
            row = {metric: found[name].value for metric, found in means.items() if name in found}
            # A law without separate modes has no weights of them.
            modes = {} if "mode_weight_error" in row else {"mode_weight_error": 0.0}
            fits = certified([row | modes | {"floor_weights": 0.0 if modes else floor}])
            good.setdefault(name, []).extend([problem] if fits else [])
    return good


def network() -> dict[str, list[str]]:
    """The tasks on which no projection of a sampler's certificate on the network of digits rejects."""
    good: dict[str, list[str]] = {}
    names = {kind.__name__: name for name, kind in POSTERIOR_SAMPLERS.items()}
    for each in json.loads(CERTIFICATES.read_text()):
        plan, found = each["plan"], each["certificate"]
        if plan["prior"] == "digits":
            p = [min(s["adjusted"]) for s in found["statistics"] if "projection" in s["name"]]
            tasks = good.setdefault(names[plan["sampler"].partition("(")[0]], [])
            task = f"{PLAIN[plan['task']]} ({found['simulations']})"
            tasks += [task] if min(p) >= found["level"] else []
    return good


def sizes(kept: list[Row], whole: list[Row]) -> Table:
    """At which size and on what each sampler is certified, and on what not, with its distance and variance."""
    small, net, lines = few(), network(), []
    # Whole populations have a row of their own, with what was drawn of them alone.
    title = f"tempered, {POPULATIONS[1]} particles, {POPULATIONS[0]}"
    large = [(name, name, kept) for name in POSTERIOR_SAMPLERS] + [(title, "tempered", whole)]
    for title, name, rows in large:
        good: list[str] = []
        bad: list[str] = []
        for task in PICTURES:
            found = of(rows, name, task)
            if any("ratio" in row for row in found):
                ratio, variance = (mean(found, metric) for metric in ("ratio", "variance_ratio"))
                text = f"{task} {_shown(ratio)} ({_shown(variance)})"
                (good if certified(found) else bad).append(text)
        seen = bool(good or bad)
        cells = (small.get(title), good if seen else None, bad if seen else None, net.get(title))
        if any(cell is not None for cell in cells):
            lines.append([title, *("" if c is None else ", ".join(c) or "none" for c in cells)])
    head = ["sampler", f"2 to 80 dimensions, {FEW}", f"784 pixels, {ALL[0]}: certified"]
    head += ["784 pixels: not certified", "the network, 100: projections pass (simulations)"]
    return Table("", head, lines)


def beside(kept: list[Row], sampler: str) -> Table:
    """What a sampler drew on each task and noise, beside as many exact draws."""
    lines = []
    for std, task in product(sorted(NOISE, key=lambda std: std != USUAL), PICTURES):
        here = [row for row in kept if row["std"] == std]
        truths = {row["truth"] for row in of(here, sampler, task)}
        for name in ordered(kept) if truths else []:
            found = [row for row in of(here, name, task) if row["truth"] in truths]
            if found:
                lines.append([task, f"{std:g}", *_detail(name, found)])
    return Table("", ["task", "noise", *HEADER], lines)


def page() -> None:
    """Put the tables between their marks."""
    every = store.rows(KEPT)
    whole, half = at(every, POPULATIONS), at(every, HALF)
    large = {(row["task"], row["std"]) for row in whole if row["sampler"] == "tempered"}
    whole = [row for row in whole if (row["task"], row["std"]) in large]
    whole += [row for row in half if (row["task"], row["std"]) not in large]
    kept = compared(KEPT)
    write_parts(
        "pictures.md",
        {
            "tempered": beside(whole, "tempered").markdown(),
            "alone": beside(at(every, ALONE), "reverse").markdown(),
            "pictures": "\n\n".join(table.markdown() for table in tables(kept)),
        },
    )
    certified = sizes(kept, [row for row in whole if row["std"] == USUAL])
    write_parts("samplers.md", {"sizes": certified.markdown()})


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _detail(name: str, found: list[Row]) -> list[str]:
    spent, vjps = (mean(found, metric) for metric in ("evaluations", "vjps"))
    cost = "-" if math.isnan(spent) else f"{spent:.0f} + {vjps:.0f}"
    return [name, *(_shown(mean(found, metric)) for metric in COLUMNS), cost, str(len(found))]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["draw", "page"])
    every = ["exact draws", "prior draws", *POSTERIOR_SAMPLERS]
    parser.add_argument("--samplers", nargs="+", choices=every, default=every)
    parser.add_argument("--truths", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--tasks", nargs="+", choices=PICTURES, default=TASKS)
    parser.add_argument("--budget", type=int, default=400)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--std", type=float, default=USUAL)
    options = parser.parse_args()
    torch.set_num_threads(1)
    store.draw(KEPT, drawn(options), "ratio") if options.what == "draw" else page()


if __name__ == "__main__":
    main()
