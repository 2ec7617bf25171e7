"""Every sampler on pictures of the digits prior, at equal cost: prints the tables of docs/images.md.

    python benchmarks/images.py --data FOLDER --out RESULTS [--budget 200] [--images 64]

Each cell (task, sampler) is one file in RESULTS; a cell that is there is not drawn again, so that a
run that is stopped goes on. FOLDER holds `mnist_28x28.npz`.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import posteria as po
from posteria.core.rng import Rng
from posteria.metrics.calibration import interval_coverage
from posteria.metrics.distribution import sliced_wasserstein
from posteria.metrics.image import psnr, ssim
from posteria.problems.image import Options, build_operator
from posteria.samplers import POSTERIOR_SAMPLERS, cost

TASKS = {
    "box": ("inpaint", Options(mask="box")),
    "sr4": ("sr", Options(factor=4)),
    "blur": ("blur", Options(blur=1.5)),
    "jpeg": ("jpeg", Options(quality=10)),
    "phase": ("phase", Options()),
}
SIGMA, HIGHEST = 0.05, 80.0
# Particles of a population, of which one is a sample; and a batch of pictures.
PARTICLES, BATCH = 8, 64
# Pictures whose posterior is drawn often enough for intervals, how often, and particles of a population then.
COVERED, DRAWS, CROWD = 4, 19, 32


def at_budget(name: str, target: po.Posterior, budget: int) -> tuple[Any, int]:
    """A sampler's defaults with as many steps as its share of the budget allows, and what a sample costs."""
    kind: type[Any] = POSTERIOR_SAMPLERS[name]
    population = "particles" in {field.name for field in dataclasses.fields(kind)}
    sampler = kind(particles=PARTICLES) if population else kind()
    schedule = sampler.schedule
    if isinstance(schedule, (po.Karras, po.LogLinear)):
        # From no higher a level than the prior was trained at.
        schedule = dataclasses.replace(schedule, sigma_max=min(schedule.sigma_max, HIGHEST))
        sampler = dataclasses.replace(sampler, schedule=schedule)
    sampler = po.at_budget(sampler, target, budget)
    return sampler, cost(sampler, target)


def measure(task: str, name: str, budget: int, truths: Tensor, prior: Any) -> dict[str, Any]:
    """One cell."""
    kind, options = TASKS[task]
    operator = build_operator(kind, prior.space.shape, options)
    likelihood = po.GaussianLikelihood(operator, std=SIGMA)
    y = likelihood.sample(truths, Rng(range(len(truths)), stream=1))
    sampler, nfe = at_budget(name, po.Posterior(prior, likelihood, y), budget)
    started, parts = time.perf_counter(), []
    for first in range(0, len(truths), BATCH):
        rows = range(first, min(first + BATCH, len(truths)))
        target = po.Posterior(prior, likelihood, y[list(rows)])
        parts.append(sampler.sample(target, seeds=[PARTICLES * row for row in rows]))
    x = torch.cat(parts)
    seconds = (time.perf_counter() - started) / len(truths)
    residual = ((y - operator(x)) / SIGMA).flatten(1).square().mean(1).sqrt()
    several = torch.cat([psnr(a[None], b) for a, b in zip(x, truths, strict=True)])
    alike = torch.cat([ssim(a[None], b) for a, b in zip(x, truths, strict=True)])
    return {
        "sampler": repr(sampler),
        "nfe": nfe,
        "seconds": seconds,
        "psnr": several.tolist(),
        "ssim": alike.tolist(),
        "residual": residual.tolist(),
        "distance": sliced_wasserstein(x, truths) if x.isfinite().all() else float("nan"),
    }


def cover(task: str, name: str, budget: int, truths: Tensor, prior: Any) -> float:
    """Share of the pixels of a few pictures in the central 90 % interval of their samples."""
    kind, options = TASKS[task]
    operator = build_operator(kind, prior.space.shape, options)
    likelihood = po.GaussianLikelihood(operator, std=SIGMA)
    few = slice(None, None, len(truths) // COVERED)
    y, truths = likelihood.sample(truths, Rng(range(len(truths)), stream=1))[few], truths[few]
    sampler, _ = at_budget(name, po.Posterior(prior, likelihood, y), budget)
    if sampler.shared > 1:
        sampler = dataclasses.replace(sampler, particles=CROWD)
    rows = [(i, k) for k in range(DRAWS) for i in range(COVERED)]
    target = po.Posterior(prior, likelihood, y[[i for i, _ in rows]])
    # A population for each picture.
    x = sampler.sample(target, seeds=[CROWD * (1000 + i) + k for i, k in rows])
    return interval_coverage(x.reshape(DRAWS, COVERED, *x.shape[1:]), truths)


def table(out: Path, task: str, floor: float) -> str:
    """The rows of a task, nearest samples first."""
    lines = [
        f"## {task}",
        "",
        "| sampler | PSNR | SSIM | residual / sigma | distance | 90 % coverage | NFE | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cells = [
        (path.stem.split(".")[1], json.loads(path.read_text()))
        for path in sorted(out.glob(f"{task}.*.json"))
    ]
    for name, cell in sorted(cells, key=lambda pair: pair[1].get("distance", np.inf)):
        if "refused" in cell:
            continue
        spread = [
            f"{np.mean(cell[key]):.{digits}f} +- {np.std(cell[key], ddof=1) / len(cell[key]) ** 0.5:.{digits}f}"
            for key, digits in (("psnr", 2), ("ssim", 3), ("residual", 2))
        ]
        covered = f"{100 * cell['coverage']:.0f} %" if "coverage" in cell else ""
        lines.append(
            f"| {name} | {' | '.join(spread)} | {cell['distance']:.4f} | {covered} "
            f"| {cell['nfe']} | {cell['seconds']:.2f} |"
        )
    lines += [f"| *two sets of truths* | | | | {floor:.4f} | 90 % | | |", ""]
    for name, cell in cells:
        if "refused" in cell:
            lines.append(f"- {name}: {cell['refused']}")
    return "\n".join([*lines, ""])


def main() -> None:
    """Draw the cells that are missing, and print all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--samplers", default="")
    parser.add_argument("--coverage", action="store_true", help="also draw the intervals")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    pictures = np.load(given.data / "mnist_28x28.npz")["x_test"]
    # The file is sorted by label: pictures from all of it, so that all digits are there.
    pictures = pictures[:: len(pictures) // (2 * given.images)][: 2 * given.images]
    every = torch.from_numpy(pictures).float()[:, None] / 127.5 - 1
    truths, others = every[::2], every[1::2]
    prior = po.load_prior("digits")
    names = [name for name in given.samplers.split(",") if name] or list(POSTERIOR_SAMPLERS)
    for task in given.tasks.split(","):
        for name in names:
            path = given.out / f"{task}.{name}.json"
            cell = json.loads(path.read_text()) if path.exists() else None
            if cell is None:
                try:
                    cell = measure(task, name, given.budget, truths, prior)
                except po.CapabilityError as error:
                    cell = {"refused": str(error)}
            if given.coverage and not {"coverage", "refused"} & set(cell):
                cell["coverage"] = cover(task, name, given.budget, truths, prior)
            path.write_text(json.dumps(cell))
            print(task, name, cell.get("psnr", [0])[:1], flush=True)
        print(table(given.out, task, sliced_wasserstein(truths, others)), flush=True)


if __name__ == "__main__":
    main()
