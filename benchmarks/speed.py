"""Seconds of posteria beside azula and deepinv, and how they grow: `make bench-speed` writes docs/speed.md.

Everybody gets the same network, problem, steps, evaluations and products, on one thread. A cell is the median, over
rounds in which the libraries alternate, of another library's CPU seconds over posteria's; below 0.9 the command fails.
"""

import argparse
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

import posteria as po
from lib.asked import asked, lowest
from lib.study import write_parts
from lib.table import Table
from posteria import operators as ops
from posteria.diffusion.parametrisation import EDM
from posteria.operators.base import Operator, SVDOperator
from posteria.problems.toy import gmm25

LEAST = 0.9
LIBRARIES = ("azula", "deepinv")
SHAPE = (3, 64, 64)
Run = Callable[[], Any]


def free(shape: Sequence[int] = SHAPE) -> po.Network:
    """A network that costs one multiplication."""
    return po.Network(lambda x, time: x / 2, po.Space(tuple(shape)), EDM(0.5))


class Lean:
    """A prior as the others get it: without checks, levels as floats."""

    def __init__(self, network: po.Network) -> None:
        self.network, self.space, self.base = network, network.space, network

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """E[x_0 | x], `[n, *event]`."""
        reading: Any = self.network.parametrisation
        scale, skip, out = reading.coefficients(sigma)
        given = [torch.full((len(x),), reading.time(sigma))]
        if self.network.labels:
            given.append(torch.full((len(x),), self.network.label or 0))
        x0: Tensor = skip * x + out * self.network.module(scale * x, *given)
        return x0


KERNEL = ops.gaussian_kernel(9, 1.5)
TASKS: dict[str, Callable[[Sequence[int]], Operator]] = {
    "inpainting": lambda shape: ops.Inpainting(ops.box_mask(*shape[-2:]), shape),
    "super-resolution 4": partial(ops.SuperResolution, 4),
    "blur, circular": lambda shape: ops.CircularBlur(KERNEL, shape),
    "blur, reflected": lambda shape: ops.Blur(KERNEL, shape),
}


@dataclass(frozen=True)
class Method:
    """A method under the names of the three libraries, with the solver and the iterations that the others have."""

    ours: Callable[[int], po.samplers.Sampler[Any]]
    azula: str
    deepinv: str
    iterations: int = 1


def _steps(kind: Any, **settings: Any) -> Callable[[int], po.samplers.Sampler[Any]]:
    return lambda steps: kind(schedule=po.schedules.Table(steps=steps), **settings)


OURS = po.samplers
METHODS = {
    "DDIM, prior": Method(_steps(po.Unconditional, solver=po.DDIM()), "DDIM", "DDIM"),
    "DPS": Method(_steps(po.DPS), "DPS", "DPS"),
    "PiGDM": Method(_steps(OURS.PiGDM, order=1), "PGDM", "PiGDM"),
    "MMPS, 3 products": Method(
        _steps(po.MMPS, order=1, iterations=3), "MMPS", "MomentMatching", 3
    ),
    "DiffPIR": Method(_steps(OURS.DiffPIR), "DiffPIR", "DiffPIR"),
}


def problem(prior: po.Denoiser, operator: Operator) -> po.Posterior:
    """A measurement of one picture, with noise of standard deviation 0.05."""
    x = 0.5 * torch.randn(prior.space.shape, generator=torch.Generator().manual_seed(0))
    likelihood = po.GaussianLikelihood(operator, std=0.05)
    return po.Posterior(prior, likelihood, likelihood.sample(x[None], po.Rng([0], stream=1))[0])


def runs(method: Method, target: po.Posterior, batch: int, steps: int) -> dict[str, Run]:
    """The same work by each library that has it, whatever is made before the first step being made already."""
    network: Any = target.prior
    lean, ours = Lean(network), method.ours(steps)
    wanted: Any = network if isinstance(ours, po.Unconditional) else target
    found: dict[str, Run] = {"posteria": lambda: ours.sample(wanted, batch)}
    likelihood: Any = target.likelihood
    # Theirs need the pseudoinverse that ours has.
    if method.azula != "PGDM" or isinstance(likelihood.operator, SVDOperator):
        azula = import_module("peers.azula_samplers")
        theirs = azula.sampler(method.azula, target, lean, steps, method.iterations)
        found["azula"] = lambda: theirs(theirs.init((batch, *network.space.shape)))
    deepinv = import_module("peers.deepinv_samplers")
    units = deepinv.Units(-1.0, 2.0) if method.deepinv == "DiffPIR" else None
    found["deepinv"] = deepinv.sampler(method.deepinv, target, lean, range(batch), steps, units)
    return found


def seconds(run: Run) -> float:
    """Of CPU."""
    start = time.process_time()
    run()
    return time.process_time() - start


def alternate(found: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each, in turn, after each has run once."""
    for run in found.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in found}
    for index in range(rounds):
        gc.collect()
        for name in list(found)[:: 1 if index % 2 else -1]:
            times[name].append(seconds(found[name]))
    return times


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> tuple[float, float]:
    """The median of their time over ours, and its standard error."""
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    middle = statistics.median(ratios)
    spread = 1.4826 * statistics.median(abs(each - middle) for each in ratios)
    return middle, 1.25 * spread / math.sqrt(len(ratios))


@dataclass(frozen=True)
class Cell:
    """One method on one task at one batch."""

    task: str
    method: str
    batch: int
    milliseconds: float
    ratios: dict[str, tuple[float, float]]

    @property
    def texts(self) -> list[str]:
        """Milliseconds a step, and each library's time over ours."""
        shown = [f"{self.milliseconds:.3g}"]
        for name in LIBRARIES:
            middle, error = self.ratios.get(name, (math.nan, 0.0))
            text = "-" if math.isnan(middle) else f"{middle:.2f} ± {error:.2f}"
            shown.append(f"**{text}**" if middle < 1 else text)
        return shown


def cells(
    prior: po.Network, tasks: Iterable[str], batches: dict[int, int], rounds: int, chosen: str
) -> Iterator[Cell]:
    """Every method on every task; `batches` says how many steps are run at each batch."""
    for task in tasks:
        target = problem(prior, TASKS[task](prior.space.shape))
        for name, method in METHODS.items():
            if (name == "DDIM, prior" and task != "inpainting") or chosen not in f"{task} {name}":
                continue
            for batch, steps in batches.items():
                times = alternate(runs(method, target, batch, steps), rounds)
                ours = times.pop("posteria")
                ratios = {key: ratio(theirs, ours) for key, theirs in times.items()}
                cell = Cell(task, name, batch, 1e3 * statistics.median(ours) / steps, ratios)
                print(task, name, batch, *cell.texts, file=sys.stderr, flush=True)
                yield cell


def beside(title: str, found: Sequence[Cell]) -> str:
    """The table of cells, a row for each method on each task."""
    batches = sorted({cell.batch for cell in found})
    header = ["task", "method"]
    for batch in batches:
        header += [f"batch {batch}: ms a step", *LIBRARIES]
    rows: dict[tuple[str, str], list[str]] = {}
    for cell in found:
        row = rows.setdefault((cell.task, cell.method), [cell.task, cell.method])
        row += cell.texts
    return Table(title, header, list(rows.values())).markdown(2)


# Growth.


def exact(particles: int, m: int, d: int = 8, levels: int = 24) -> Run:
    """The exact sampler on a mixture, one population."""
    target = gmm25(d, m, seed=0).target
    schedule = po.Karras(steps=levels, sigma_min=0.02, sigma_max=100.0)
    sampler = po.Exact(schedule=schedule, particles=particles)
    return lambda: sampler.sample(target, particles)


def sampled(name: str, task: str, side: int, batch: int = 1, channels: int = 3) -> Run:
    """8 steps with the free network."""
    shape = (channels, side, side)
    return of_ours(name, free(shape), TASKS[task](shape), batch)


def of_ours(name: str, prior: po.Network, operator: Operator, batch: int) -> Run:
    """8 steps of posteria alone."""
    target, sampler = problem(prior, operator), METHODS[name].ours(8)
    return lambda: sampler.sample(target, batch)


def measured(name: str, m: int, d: int = 1024) -> Run:
    """8 steps of 8 samples of `d` numbers, of which `m` combinations are measured."""
    rows = torch.randn(m, d, generator=torch.Generator().manual_seed(1)) / math.sqrt(d)
    return of_ours(name, free((d,)), ops.Matrix(rows, (d,)), 8)


MANY, SIDES = (1, 4, 16, 64, 256, 1024), (32, 64, 128, 256)
MMPS, BLUR = "MMPS, 3 products", "blur, reflected"
GROWTH: dict[str, tuple[Sequence[int], Callable[[int], Run]]] = {
    "samples, DPS, 1 x 28 x 28": (MANY, lambda n: sampled("DPS", "inpainting", 28, n, 1)),
    "samples, MMPS, 1 x 28 x 28": (MANY, lambda n: sampled(MMPS, "inpainting", 28, n, 1)),
    "side, DPS, inpainting": (SIDES, lambda side: sampled("DPS", "inpainting", side, 4)),
    "side, PiGDM, reflected blur": (SIDES, lambda side: sampled("PiGDM", BLUR, side, 4)),
    "measurements, MMPS, 1024 numbers": (MANY, lambda m: measured(MMPS, m)),
    "measurements, PiGDM, 1024 numbers": (MANY, lambda m: measured("PiGDM", m)),
    "measurements, exact, 80 numbers, 256 particles": (
        # Of 64 no particle of so few is near the measurement, which is refused.
        (1, 2, 4, 8, 16, 32),
        lambda m: exact(256, m, 80, 12),
    ),
    "particles, exact, 8 numbers": ((64, 256, 1024, 4096), lambda p: exact(p, 1)),
}


def growth(rounds: int, chosen: str) -> str:
    """CPU seconds against sizes, with the exponent of a line through their logarithms, of all and of the last two."""
    rows = []
    for name, (sizes, make) in GROWTH.items():
        if chosen not in name:
            continue
        runs = (alternate({"ours": make(size)}, rounds)["ours"] for size in sizes)
        times = list(map(statistics.median, runs))
        logs = np.log(times)
        slope = np.polyfit(np.log(sizes), logs, 1)[0]
        last = (logs[-1] - logs[-2]) / math.log(sizes[-1] / sizes[-2])
        shown = (f"{size}: {1e3 * each:.3g}" for size, each in zip(sizes, times, strict=True))
        rows.append([name, ", ".join(shown), f"{slope:.2f}", f"{last:.2f}"])
        print(*rows[-1], file=sys.stderr, flush=True)
    header = ["what grows", "ms of CPU by size", "exponent", "of the last two"]
    return Table("Growth", header, rows).markdown(2)


def main() -> None:
    """Measure, write the page, and fail below `LEAST`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of a task and method; writes no page")
    parser.add_argument("--parts", default="free,real,growth")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    parts, rounds = given.parts.split(","), given.rounds
    without: list[Cell] = []
    real: list[Cell] = []
    if "free" in parts:
        without = list(cells(free(), TASKS, {1: 48, 8: 16, 64: 4}, rounds, given.only))
    if "real" in parts:
        land: Any = po.load_prior("satellite")
        real = list(cells(land, ["inpainting"], {1: 6, 8: 3}, rounds, given.only))
    grown = growth(min(rounds, 3), given.only) if "growth" in parts else ""
    if not given.only and len(parts) == 3:
        rows = [
            ["lowest cell of reflected blurs", lowest(without, "blur, reflected", "", LIBRARIES)]
        ]
        for task, name in product(("super-resolution 4", "inpainting"), ("DPS", "PiGDM")):
            rows.append([f"{task}, {name}, azula", lowest(without, task, name, LIBRARIES[:1])])
        every = [*([what, "1.0", got] for what, got in rows), *asked(alternate, rounds)]
        version = f"PyTorch {torch.__version__}."
        table = Table("Targets", ["what", "target", "measured"], every, version).markdown(2)
        free_table = beside("A network that costs nothing, 3 x 64 x 64", without)
        real_table = beside("A trained network, 3 x 64 x 64", real)
        tables = {"asked": table, "free": free_table, "real": real_table, "grown": grown}
        write_parts("speed.md", tables)
    slow = [
        f"{cell.task}, {cell.method}, batch {cell.batch}: {name} {middle:.2f} ± {error:.2f}"
        for cell in [*without, *real]
        for name, (middle, error) in cell.ratios.items()
        if middle < LEAST
    ]
    sys.exit("\n".join(["Slower than another library:", *slow]) if slow else 0)


if __name__ == "__main__":
    main()
