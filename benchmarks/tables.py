"""The figures of docs/measures.md and docs/exact.md, measured: `python benchmarks/tables.py PART ...`.

- measures: writes docs/measures.md: gmm25 with published and default settings beside official codes, and `overhead`.
- overhead: milliseconds that a step costs beyond the network and the operator, and seconds of the import.
- calibration, evidence: the tables of docs/exact.md that the benchmark has not.
"""

import argparse
import dataclasses
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor

import posteria as po
from lib.measure import measure
from lib.study import write_parts
from lib.table import Table, average, costs, error_of
from posteria.metrics.calibration import sbc_ranks, uniformity
from posteria.metrics.distribution import sliced_wasserstein
from posteria.problems.toy import PROBLEMS, gmm25
from posteria.samplers.base import Sampler

Run = Callable[..., Iterator[Any]]
# Dimensions and measurements of gmm25; the official codes were run on the first six.
CELLS = [(d, d_y) for d in (8, 80, 200) for d_y in (1, 2, 4)]
OFFICIALLY = 6

METHODS: dict[str, Sampler[Any]] = {
    "MGPS": po.MGPS.published("gmm"),
    "MGDM": po.MGDM.published("gmm"),
    "MGDM, R = 4": dataclasses.replace(po.MGDM.published("gmm"), gibbs=4),
    "DPS": po.DPS.published("gmm"),
    "MGPS, default": po.MGPS(),
    "MGDM, default": po.MGDM(),
}
# Means over 6 problems and their standard errors, from the official codes with exact denoisers; some are NaN there.
NAN = math.nan
OFFICIAL = {
    "exact draws": ((0.36, 0.17, 0.063, 0.46, 0.21, 0.10), (0.09, 0.05, 0.003, 0.11, 0.06, 0.02)),
    "MGPS": ((3.9, 4.5, 3.8, 6.3, 7.0, 8.5), (1.2, 1.4, 1.2, 1.1, 1.0, 0.7)),
    "MGDM": ((4.3, 4.7, 3.2, 2.6, 3.8, 1.6), (1.4, 1.2, 0.8, 0.7, 1.2, 0.5)),
    "MGDM, R = 4": ((3.5, 3.6, 1.9, 2.3, 3.8, 1.7), (1.4, 1.3, 0.8, 0.5, 1.0, 0.4)),
    "DPS": ((NAN, 2.5, 0.52, NAN, 2.4, 0.35), (NAN, 1.2, 0.21, NAN, 1.1, 0.15)),
}
# Samples, and problems on which a cell is measured again that is two standard errors from the official figure.
SAMPLES, FURTHER = 500, 24


# docs/measures.md.


def distances(methods: Sequence[str], cell: int, index: int) -> dict[str, float]:
    """Sliced Wasserstein distance of methods to exact draws, on one problem."""
    d, d_y = CELLS[cell]
    problem = gmm25(d, d_y, seed=1000 * d + 100 * d_y + index)
    generator = torch.Generator().manual_seed(index)
    exact = problem.exact.sample(SAMPLES, generator)
    row = {"exact draws": sliced_wasserstein(problem.exact.sample(SAMPLES, generator), exact)}
    for name in methods:
        samples = METHODS[name].sample(problem.target, range(SAMPLES))
        row[name] = sliced_wasserstein(samples, exact)
    return row


def beside(rows: Sequence[dict[str, float]], name: str, cell: int) -> tuple[str, float]:
    """A mean beside the official one, and how far apart they are in standard errors of their difference."""
    values = [row[name] for row in rows]
    text = average(values, 2)
    if name not in OFFICIAL:
        return text, NAN
    theirs, error = (part[cell] for part in OFFICIAL[name])
    if math.isnan(theirs):
        return f"{text} (official: nan)", NAN
    far = abs(statistics.mean(values) - theirs) / math.hypot(error_of(values), error)
    return f"{text} (official: {theirs} ± {error}; {far:.1f} s.e.)", far


def spent(name: str) -> str:
    """Evaluations and vjps of a method, per sample."""
    if name not in METHODS:
        return ""
    drawn = measure(METHODS[name], gmm25(8, 1, seed=0).target, [0])
    return costs(drawn.evaluations, drawn.vjps)


def against_official(run: Run, problems: int) -> str:
    """The table of gmm25, and the cells that are far from the official ones on further problems."""
    cells = range(OFFICIALLY)
    drawn = [list(run(partial(distances, list(METHODS), cell), range(problems))) for cell in cells]
    rows, doubtful = [], []
    for name in ("exact draws", *METHODS):
        found = [beside(drawn[cell], name, cell) for cell in cells]
        rows.append([name, spent(name), *(text for text, _ in found)])
        doubtful += [(name, cell) for cell in cells if found[cell][1] > 2 and name in METHODS]
    kinds = [f"d = {d}, d_y = {d_y}" for d, d_y in CELLS[:OFFICIALLY]]
    table = Table("", ["method", "evaluations + vjps", *kinds], rows).markdown()
    further, again = range(problems, problems + FURTHER), []
    for name, cell in doubtful:
        text, _ = beside(list(run(partial(distances, [name], cell), further)), name, cell)
        again.append([name, kinds[cell], text])
    title = (
        f"The cells that are more than two standard errors apart, on {FURTHER} further problems"
    )
    last = [Table(title, ["method", "problem", "distance"], again).markdown()] if again else []
    return "\n\n".join([f"{SAMPLES} samples on each of {problems} problems.", table, *last])


class Trivial(po.Denoiser):
    """A network that costs nothing."""

    space = po.Space((3, 64, 64))

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Half of its input."""
        return x / 2


def milliseconds(sampler: Sampler[Any], target: Any, count: int) -> float:
    """Per step, the median of five runs."""
    times = []
    with warnings.catch_warnings():
        # Half of an input is no denoiser: its signals vanish.
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(5):
            start = time.perf_counter()
            sampler.sample(target, [0])
            times.append((time.perf_counter() - start) / count * 1e3)
    return statistics.median(times)


def overhead() -> dict[str, str]:
    """Parts of the page: milliseconds a step, and CPU seconds of imports after `import torch`, in fresh processes."""
    prior, steps, inner = Trivial(), 200, 50
    likelihood = po.GaussianLikelihood(po.operators.Identity(prior.space.shape), std=0.05)
    posterior = po.Posterior(prior, likelihood, torch.zeros(prior.space.shape))
    rows: list[tuple[str, float, float]] = []
    for kind in po.solvers.SOLVERS.values():
        sampler = po.Unconditional(solver=kind(), schedule=po.Karras(steps=steps))
        rows.append((f"{kind.__name__} step", milliseconds(sampler, prior, steps), 0.3))
    dps = po.DPS(schedule=po.schedules.Table(steps=steps))
    rows.append(("DPS step", milliseconds(dps, posterior, steps), 0.6))
    # The whole time of the sampler over its inner steps: an upper bound of what one of them costs.
    levels, chosen = po.schedules.Table(steps=20), po.samplers.InnerSteps(inner)
    mgps, mgdm = (kind(schedule=levels, inner=chosen) for kind in (po.MGPS, po.MGDM))
    rows.append(("MGPS inner step", milliseconds(mgps, posterior, 19 * inner), 1.0))
    rows.append(("MGDM inner step", milliseconds(mgdm, posterior, 18 * inner), 1.0))
    texts = [[name, f"{value:.3f}", str(bound)] for name, value, bound in rows]
    parts = {"overhead": Table("", ["", "ms, median of 5", "at most"], texts).markdown()}
    code = (
        "import torch, time; start = time.process_time(); import posteria as po; "
        "po.load_prior, po.Posterior, po.MMPS; print(time.process_time() - start)"
    )
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, capture_output=True, check=True) for _ in range(5)]
    seconds = statistics.median(float(run.stdout) for run in runs)
    words = "`import posteria` and the first use of priors, targets and samplers take"
    return parts | {"import": f"{words} {seconds:.2f} s of CPU beyond `import torch`."}


def measures(run: Run, problems: int) -> str:
    """Write the tables of the page."""
    parts = overhead() | {"gmm25": against_official(run, problems)}
    write_parts("measures.md", parts)
    return "\n\n".join(parts.values())


# docs/exact.md.

POPULATION = 512


def one_rank(key: str, seed: int) -> Tensor:
    """Ranks of a truth among 99 samples of its posterior."""
    problem = PROBLEMS[key](seed=seed)
    schedule = po.Karras(steps=150, sigma_min=0.01, sigma_max=1000.0)
    sampler = po.Exact(schedule=schedule, particles=256)
    # A population of its own: the noise of one and the same would be in all ranks.
    x = sampler.sample(problem.target, range(256 * seed, 256 * seed + 99))
    return sbc_ranks(x, problem.truth, torch.Generator().manual_seed(seed))


def calibration(run: Run, problems: int, simulations: int = 500) -> str:
    """The p-values of the rank histograms, with 150 steps and 256 particles."""
    rows = []
    for key in ("gaussian-half", "gmm25-8-2"):
        ranks = torch.stack(list(run(partial(one_rank, key), range(simulations))))
        p = uniformity(ranks, 99, bins=20)
        rows.append([key, f"{float(p.min()):.4f}", str(p.numel()), f"{0.01 / p.numel():.4f}"])
    header = ["problem", "smallest p-value of an entry", "entries", "level for 1 % over all"]
    title = f"Calibration: {simulations} simulations, 99 samples, 20 bins"
    return Table(title, header, rows).markdown(2)


def one_evidence(d_y: int, budget: int, index: int) -> float:
    """The error of log p(y) on one problem."""
    problem = gmm25(8, d_y, seed=5000 + 100 * d_y + index)
    sampler = po.at_budget(po.Exact(), problem.target, budget)
    estimate = sampler.log_evidence(problem.target, [POPULATION * index])[0]
    return float(estimate - problem.log_evidence)


def evidence(run: Run, problems: int, budget: int = 2000) -> str:
    """The errors of log p(y) on 20 problems."""
    rows = []
    for d_y in (1, 2, 4):
        errors = list(run(partial(one_evidence, d_y, budget), range(20)))
        absolute = statistics.mean(map(abs, errors))
        rows.append([str(d_y), f"{statistics.mean(errors):+.3f}", f"{absolute:.3f}"])
    title = f"Evidence: 20 problems at d = 8, {budget} evaluations a sample"
    return Table(title, ["d_y", "mean error", "mean absolute error (nat)"], rows).markdown(2)


PARTS: dict[str, Callable[[Run, int], str]] = {
    "measures": measures,
    "overhead": lambda run, problems: "\n\n".join(overhead().values()),
    "calibration": calibration,
    "evidence": evidence,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART")
    parser.add_argument("--problems", type=int, default=12, help="problems in each cell of gmm25")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with ProcessPoolExecutor(
        given.workers, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for part in given.parts:
            print(f"\n{PARTS[part](pool.map, given.problems)}", flush=True)


if __name__ == "__main__":
    main()
