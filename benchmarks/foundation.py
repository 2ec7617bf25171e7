"""The figures of docs/measures.md, measured: `python benchmarks/foundation.py [--workers N] [--problems N]`.

- gmm25: every sampler with its published settings against exact posterior draws, beside what the official codes give.
- Defaults: the package's own settings on the same problems.
- Overhead: milliseconds that a step costs beyond the network and the operator.
- Import: seconds beyond `import torch`.
"""

import argparse
import dataclasses
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import posteria as po
from posteria.metrics.distribution import sliced_wasserstein
from posteria.problems.toy import gmm25

PAGE = Path(__file__).parent.parent / "docs" / "measures.md"
CELLS = [(8, 1), (8, 2), (8, 4), (80, 1), (80, 2), (80, 4)]
SAMPLES = 500
# Problems on which a cell is measured again when it is two standard errors from the official figure.
FURTHER = 24

METHODS: dict[str, po.Sampler[Any]] = {
    "MGPS": po.MGPS.published("gmm"),
    "MGDM": po.MGDM.published("gmm"),
    "MGDM, R = 4": dataclasses.replace(po.MGDM.published("gmm"), gibbs=4),
    "DPS": po.DPS.published("gmm"),
    "MGPS, default": po.MGPS(),
    "MGDM, default": po.MGDM(),
}
# Mean and standard error over 6 problems, from the official codes with exact denoisers; None where they give nan.
OFFICIAL: dict[str, list[tuple[float, float] | None]] = {
    "exact draws": [
        (0.36, 0.09),
        (0.17, 0.05),
        (0.063, 0.003),
        (0.46, 0.11),
        (0.21, 0.06),
        (0.10, 0.02),
    ],
    "MGPS": [(3.9, 1.2), (4.5, 1.4), (3.8, 1.2), (6.3, 1.1), (7.0, 1.0), (8.5, 0.7)],
    "MGDM": [(4.3, 1.4), (4.7, 1.2), (3.2, 0.8), (2.6, 0.7), (3.8, 1.2), (1.6, 0.5)],
    "MGDM, R = 4": [(3.5, 1.4), (3.6, 1.3), (1.9, 0.8), (2.3, 0.5), (3.8, 1.0), (1.7, 0.4)],
    "DPS": [None, (2.5, 1.2), (0.52, 0.21), None, (2.4, 1.1), (0.35, 0.15)],
}


def one_problem(d: int, d_y: int, index: int, methods: Sequence[str]) -> dict[str, float]:
    """Sliced Wasserstein distance of methods to exact draws, on one problem."""
    torch.set_num_threads(1)
    problem = gmm25(d, d_y, seed=1000 * d + 100 * d_y + index)
    generator = torch.Generator().manual_seed(index)
    exact = problem.exact.sample(SAMPLES, generator)
    row = {"exact draws": sliced_wasserstein(problem.exact.sample(SAMPLES, generator), exact)}
    for name in methods:
        samples = METHODS[name].sample(problem.target, range(SAMPLES))
        row[name] = sliced_wasserstein(samples, exact)
    return row


def cost(sampler: po.Sampler[Any]) -> str:
    """Evaluations and vjps per sample."""
    target = gmm25(8, 1, seed=0).target
    counted = po.Counted(target.prior)
    sampler.sample(po.Posterior(counted, target.likelihood, target.y), seeds=[0])
    return f"{counted.forward} + {counted.backward}"


def summary(values: Iterable[float]) -> tuple[float, float]:
    """Mean and standard error."""
    kept = list(values)
    return statistics.mean(kept), statistics.stdev(kept) / math.sqrt(len(kept))


Job = tuple[int, int, int, Sequence[str]]


def all_problems(jobs: Sequence[Job], workers: int) -> list[dict[str, float]]:
    """`one_problem` of each job, printed as they come."""
    rows = []
    with ProcessPoolExecutor(workers) as pool:
        for job, row in zip(jobs, pool.map(one_problem, *zip(*jobs, strict=True)), strict=True):
            rows.append(row)
            print(*job[:3], *(f"{name} {value:.3f}" for name, value in row.items()), flush=True)
    return rows


def apart(mean: float, error: float, official: tuple[float, float]) -> float:
    """How far two means are apart, in standard errors of their difference."""
    return abs(mean - official[0]) / math.hypot(error, official[1])


def gmm_table(problems: int, workers: int) -> tuple[list[str], list[tuple[str, int]]]:
    """The gmm25 table, in Markdown, and the methods and cells that are to be measured again."""
    jobs: list[Job] = [(d, d_y, i, list(METHODS)) for d, d_y in CELLS for i in range(problems)]
    rows, doubtful = all_problems(jobs, workers), []
    lines = [
        "| method | evaluations + vjps | "
        + " | ".join(f"d = {d}, d_y = {d_y}" for d, d_y in CELLS)
        + " |",
        "|---|---|" + "---|" * len(CELLS),
    ]
    for name in ["exact draws", *METHODS]:
        cells = []
        for i in range(len(CELLS)):
            mean, error = summary(row[name] for row in rows[i * problems : (i + 1) * problems])
            text = f"{mean:.2f} +- {error:.2f}"
            if name in OFFICIAL:
                official = OFFICIAL[name][i]
                if official is None:
                    text += " (official: nan)"
                else:
                    far = apart(mean, error, official)
                    text += f" (official: {official[0]} +- {official[1]}; {far:.1f} s.e.)"
                    if far > 2 and name in METHODS:
                        doubtful.append((name, i))
            cells.append(text)
        spent = cost(METHODS[name]) if name in METHODS else ""
        lines.append(f"| {name} | {spent} | " + " | ".join(cells) + " |")
    return lines, doubtful


def second_look(doubtful: Sequence[tuple[str, int]], problems: int, workers: int) -> list[str]:
    """The doubtful cells on further problems, in Markdown."""
    if not doubtful:
        return []
    jobs: list[Job] = [
        (*CELLS[cell], i, [name])
        for name, cell in doubtful
        for i in range(problems, problems + FURTHER)
    ]
    rows = all_problems(jobs, workers)
    lines = [
        f"The cells that are more than two standard errors apart, on {FURTHER} further problems:",
        "",
        "| method | d, d_y | here | official | s.e. |",
        "|---|---|---|---|---|",
    ]
    for i, (name, cell) in enumerate(doubtful):
        mean, error = summary(row[name] for row in rows[i * FURTHER : (i + 1) * FURTHER])
        official = OFFICIAL[name][cell]
        if official is not None:
            d, d_y = CELLS[cell]
            far = apart(mean, error, official)
            lines.append(
                f"| {name} | {d}, {d_y} | {mean:.2f} +- {error:.2f} | {official[0]} +- {official[1]} | {far:.1f} |"
            )
    return [*lines, ""]


class Trivial(po.Denoiser):
    """A network that costs nothing."""

    space = po.Space((3, 64, 64))

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Half of its input."""
        return x / 2


def milliseconds(work: Callable[[], Any], count: int) -> float:
    """Per step, the median of five runs."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) / count * 1e3)
    return statistics.median(times)


def overhead_table() -> list[str]:
    """Milliseconds a step, in Markdown."""
    torch.set_num_threads(1)
    prior, steps, inner = Trivial(), 200, 50
    likelihood = po.GaussianLikelihood(po.operators.Identity(prior.space.shape), std=0.05)
    posterior = po.Posterior(prior, likelihood, torch.zeros(prior.space.shape))
    rows: list[tuple[str, float, float]] = []
    for kind in po.SOLVERS.values():
        sampler = po.Unconditional(solver=kind(), schedule=po.Karras(steps=steps))
        work = partial(sampler.sample, prior, [0])
        rows.append((f"{kind.__name__} step", milliseconds(work, steps), 0.3))
    dps = po.DPS(schedule=po.Table(steps=steps))
    rows.append(("DPS step", milliseconds(partial(dps.sample, posterior, [0]), steps), 0.6))
    # The whole time of the sampler over its inner steps: an upper bound of what one of them costs.
    mgps = po.MGPS(schedule=po.Table(steps=20), inner=po.InnerSteps(inner))
    rows.append((
        "MGPS inner step",
        milliseconds(partial(mgps.sample, posterior, [0]), 19 * inner),
        1.0,
    ))
    mgdm = po.MGDM(schedule=po.Table(steps=20), inner=po.InnerSteps(inner))
    rows.append((
        "MGDM inner step",
        milliseconds(partial(mgdm.sample, posterior, [0]), 18 * inner),
        1.0,
    ))
    lines = ["| | ms, median of 5 | at most |", "|---|---|---|"]
    return lines + [f"| {name} | {value:.3f} | {bound} |" for name, value, bound in rows]


def import_seconds() -> float:
    """Seconds of `import posteria` after `import torch`, the median of five fresh processes."""
    code = "import torch, time; t = time.perf_counter(); import posteria; print(time.perf_counter() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        for _ in range(5)
    ]
    return statistics.median(float(run.stdout) for run in runs)


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=12, help="problems in each cell of gmm25")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    overhead, seconds = overhead_table(), import_seconds()
    table, doubtful = gmm_table(options.problems, options.workers)
    again = second_look(doubtful, options.problems, options.workers)
    lines = [
        "# Measures",
        "",
        "Written by `make measure`; every figure is that command's.",
        "",
        "## Posterior of a mixture of 25 Gaussians",
        "",
        f"Sliced Wasserstein-1 distance (100 directions) of {SAMPLES} samples to {SAMPLES} exact draws;",
        f"mean and standard error over {options.problems} problems.",
        "In brackets what the official code gives on 6 problems of its own draw,",
        "and how far apart the two means are in standard errors of their difference.",
        "Problems: `posteria.problems.toy.gmm25`.",
        "",
        *table,
        "",
        *again,
        "## Overhead",
        "",
        "Milliseconds beyond the network and the operator: batch 1, one CPU thread, 3 x 64 x 64 in float32,",
        "a denoiser that halves its input.",
        "",
        *overhead,
        "",
        "## Import",
        "",
        f"`import posteria` takes {seconds:.2f} s beyond `import torch` (at most 0.5 s).",
        "",
    ]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
