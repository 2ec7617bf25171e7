"""The study behind `po.choose`: every sampler on targets whose law is known, at several budgets.

python benchmarks/advice.py run     # measures what benchmarks/results/advice.jsonl lacks; an hour or so, may be stopped
python benchmarks/advice.py table   # writes src/posteria/samplers/advice.json of it
"""

import argparse
import json
import math
import statistics
import time
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import posteria as po
from lib.measure import seeds_of
from lib.study import RESULTS, keep, rows
from lib.table import Table
from lib.targets import Cell, cells
from posteria.analytic.low_rank_posterior import PPCAPosterior
from posteria.metrics import AgainstExact
from posteria.metrics.distribution import sliced_wasserstein, two_sample_floor
from posteria.problems.toy import Problem
from posteria.samplers import POSTERIOR_SAMPLERS
from posteria.samplers.budget import at_budget
from posteria.samplers.choose import Row, features, likeness, ranking, suited, table

BUDGETS = (50, 200)
HEADER = [f"at {budget}" for budget in BUDGETS]
# What was so many times farther than the nearest at a budget is not drawn at the next one.
HOPELESS = 2.5
# A point and draws that take y for exact are no samples of these posteriors.
LEFT_OUT = {"red_diff", "repaint"}
KEPT = RESULTS / "advice.jsonl"
SHIPPED = Path(po.__file__).parent / "samplers" / "advice.json"


def distance(x: Tensor, problem: Problem, seed: int) -> dict[str, float]:
    """How far samples are from the exact law, with what exact draws would have.

    Of a Gaussian law: the root mean square over its principal directions of the Wasserstein distance of
    means and standard deviations, in units of the exact one. Of others: sliced Wasserstein, of pictures
    along the leading axes.
    """
    if not x.isfinite().all():
        return {"distance": math.inf, "floor": 1.0}
    exact = problem.exact
    if isinstance(exact, po.Gaussian):
        values, vectors = torch.linalg.eigh(exact.covariance)
        z = (x.double().flatten(1) - exact.mean.flatten()) @ vectors / values.sqrt()
        mean, std = z.mean(0), z.std(0)
        return {
            "distance": float((mean**2 + (std - 1) ** 2).mean().sqrt()),
            "floor": math.sqrt(1.5 / len(x)),
            "mean_error": float((mean**2).mean().sqrt()),
            "variance_low": float(std.min()) ** 2,
            "variance_high": float(std.max()) ** 2,
        }
    if isinstance(exact, PPCAPosterior):
        against = AgainstExact(exact, len(x), seed=seed)
        found = against.evaluate(x)
        return {**found, "floor": against.floor.mean}
    generator = torch.Generator().manual_seed(2**33 + seed)
    sets = [exact.sample(len(x), generator) for _ in range(4)]
    floor = two_sample_floor(exact.sample, len(x), repetitions=8, seed=seed).mean
    return {"distance": statistics.mean(sliced_wasserstein(x, y) for y in sets), "floor": floor}


def row(cell: Cell, budget: int, name: str, seed: int = 0) -> dict[str, Any]:
    """One measurement: features of the target, the distance of the sampler, or why there is none."""
    problem = cell.build(seed=seed)
    target = problem.target
    known = {"cell": cell.name, "budget": budget, "sampler": name}
    try:
        sampler = at_budget(suited(name, target), target, budget)
        sampler.check(target, (0,))
    except po.PosteriaError as error:
        return {**known, "why": str(error)}
    started = time.process_time()
    drawn = sampler.run(target, seeds_of(seed, cell.samples))
    known |= {"seconds": time.process_time() - started, "vjps": drawn.cost.backward}
    return {**known, **distance(drawn.x, problem, seed)}


def _measure(path: Path) -> None:
    """Append the rows that a file lacks."""
    found = {tuple(row[name] for name in KEYS): row for row in rows(path)}
    names = [name for name in POSTERIOR_SAMPLERS if name not in LEFT_OUT]
    # What takes long comes last.
    every = product(enumerate(BUDGETS), cells().values())
    for (place, budget), cell in sorted(every, key=lambda pair: -pair[1].samples):
        earlier = {name: found.get((cell.name, BUDGETS[place - 1], name), {}) for name in names}
        ratios = [old["distance"] / old["floor"] for old in earlier.values() if "distance" in old]
        for name in names:
            key = (cell.name, budget, name)
            if key not in found:
                why = _hopeless(earlier[name], min(ratios, default=math.inf))
                mine = {**dict(zip(KEYS, key, strict=True)), "why": why}
                found[key] = mine if why else row(cell, budget, name)
                keep(path, _short(found[key]))


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """The same with numbers of four digits."""
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}


def _hopeless(earlier: dict[str, Any], nearest: float) -> str:
    """Why a sampler is not drawn at the next budget."""
    if "distance" not in earlier:
        return earlier["why"] if FARTHER in earlier.get("why", "") else ""
    times = earlier["distance"] / earlier["floor"] / nearest
    return f"{times:.1f} {FARTHER} at {earlier['budget']}" if times > HOPELESS else ""


FARTHER = "times the nearest"
KEYS = ("cell", "budget", "sampler")


def _shipped(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the package ships of them."""
    targets = []
    for name, cell in cells().items():
        ratios: dict[str, dict[str, float]] = {str(budget): {} for budget in BUDGETS}
        for row in rows:
            if row["cell"] == name and math.isfinite(row.get("distance", math.inf)):
                at = ratios[str(row["budget"])]
                at[row["sampler"]] = round(row["distance"] / row["floor"], 2)
        known = _short(features(cell.build(seed=0).target))
        targets.append(Row(name, known, ratios, cell.held_out)._asdict())
    vjps = sorted({row["sampler"] for row in rows if row.get("vjps")})
    return {"budgets": BUDGETS, "vjps": vjps, "rows": targets}


def _write(shipped: dict[str, Any]) -> None:
    """The table, a line a target."""
    lines = ",\n".join(json.dumps(row) for row in shipped["rows"])
    head = json.dumps({key: shipped[key] for key in ("budgets", "vjps")})[:-1]
    SHIPPED.write_text(f'{head}, "rows": [\n{lines}\n]}}\n')


class Verdict(NamedTuple):
    """What the advice is worth on one target at a budget.

    `over` is the distance of the chosen sampler over that of the nearest one; exact draws' own is the least.
    """

    row: Row
    budget: str
    name: str
    over: float


def verdicts(*, held_out: bool) -> list[Verdict]:
    """On each target at each budget."""
    found = []
    for row, budget in product(table().rows, map(str, BUDGETS)):
        ratios = row.ratios[budget]
        if row.held_out == held_out and ratios:
            order = ranking(likeness(row.features), budget)
            name = next(name for name in order if name in ratios)
            over = max(ratios[name], 1.0) / max(min(ratios.values()), 1.0)
            found.append(Verdict(row, budget, name, over))
    return found


def tables() -> str:
    """What docs/choose.md shows of the table that ships."""
    parts, titles = [], ("Targets of the table", "Targets held out of the table")
    for held_out, title in zip((False, True), titles, strict=True):
        found = {(each.row.name, each.budget): each for each in verdicts(held_out=held_out)}
        rows = [
            [row.name, *(_cell(found.get((row.name, str(budget)))) for budget in BUDGETS)]
            for row in table().rows
            if row.held_out == held_out
        ]
        worst = max(found.values(), key=lambda verdict: verdict.over)
        middle = statistics.geometric_mean(verdict.over for verdict in found.values())
        note = (
            f"The choice is at {middle:.2f} times the nearest sampler's distance in the geometric mean,\n"
            f"and at {worst.over:.2f} at worst ({worst.name} on {worst.row.name} at {worst.budget})."
        )
        parts.append(Table(title, ["target", *HEADER], rows, note).markdown())
    return "\n\n".join([*parts, _by_sampler().markdown()])


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "-"
    ratios = verdict.row.ratios[verdict.budget]
    best = min(ratios, key=lambda name: ratios[name])
    other = "" if verdict.over == 1 else f" ({best} {ratios[best]:.2g})"
    return f"{verdict.name} {ratios[verdict.name]:.2g}{other}"


def _by_sampler() -> Table:
    """How often each sampler is near the nearest one."""
    lines = []
    for name in sorted({
        name for row in table().rows for at in row.ratios.values() for name in at
    }):
        line = [name]
        for budget in map(str, BUDGETS):
            drawn = [row.ratios[budget] for row in table().rows if row.ratios[budget]]
            floors = ((at.get(name, math.inf), min(at.values())) for at in drawn)
            near = sum(max(own, 1) <= 1.5 * max(least, 1) for own, least in floors)
            line.append(f"{near} of {len(drawn)}")
        lines.append(line)
    title = "Targets on which a sampler is within 1.5 times the nearest one's distance"
    lines.sort(key=lambda line: -int(line[2].split()[0]))
    return Table(title, ["sampler", *HEADER], lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("run", "table"))
    parser.add_argument("--rows", type=Path, default=KEPT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part == "run":
        _measure(given.rows)
    else:
        _write(_shipped(rows(given.rows)))


if __name__ == "__main__":
    main()
