"""The figures of docs/guidance.md: `python benchmarks/guidance.py toy` and `... curve --data FOLDER --out RESULTS`.

- toy: distances to tilted laws that are known exactly, and what they cost.
- curve: quality against diversity of digits over weights, at about equal cost. Each point is one file in RESULTS; a
  point that is there is not drawn again, so that a run that is stopped goes on. FOLDER holds `mnist_28x28.npz`.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import posteria as po
from posteria.metrics.distribution import sliced_wasserstein
from posteria.metrics.diversity import (
    classifier_agreement,
    density_coverage,
    frechet_distance,
    precision_recall,
)
from posteria.metrics.features import Penultimate
from posteria.problems.tilted import TILTED_PROBLEMS, TiltedProblem
from posteria.samplers.base import Sampler

HEUN = po.Karras(steps=32)
RUNS, SAMPLES, DIGITS = 3, 20_480, 10


def widened(problem: TiltedProblem) -> po.Denoiser:
    """A weaker model of the toy's class: its modes are three times as wide."""
    law = problem.target.conditional
    if not isinstance(law, po.GaussianMixture):
        raise TypeError("the toy is a pair of mixtures")
    return po.GaussianMixture(law.weights, law.means, 3 * law.covariances)


def gibbs(steps: int) -> po.TiltedGibbs:
    """Ours with a number of steps."""
    return po.TiltedGibbs(schedule=po.LogLinear(steps=steps, sigma_min=0.02, sigma_max=80.0))


def of_the_toy(problem: TiltedProblem) -> dict[str, Sampler[Any]]:
    """What is compared on the toy of CFGiG's paper."""
    rules: dict[str, po.Guidance] = {
        "conditional law, w = 1": po.CFG(1.0),
        "CFG": po.CFG(),
        "interval (.19, 3]": po.Interval(low=0.19, high=3.0),
        "interval (.19, 1]": po.Interval(low=0.19, high=1.0),
        "APG, eta = 0.5": po.APG(eta=0.5),
        "adaptive guidance, .999": po.AdaptiveGuidance(threshold=0.999),
        "autoguidance, w = 2 (and as many of the weak model)": po.AutoGuidance(
            2.0, weak=widened(problem)
        ),
        "two levels, delta = 0.1": po.TwoLevel(delta=0.1),
    }
    named: dict[str, Sampler[Any]] = {
        name: po.Guided(rule=rule, schedule=HEUN) for name, rule in rules.items()
    }
    for lam in (0.1, 0.3, 0.6):
        rule = po.CFGPlusPlus(lam=lam)
        named[f"CFG++, lam = {lam}"] = po.Guided(rule=rule, schedule=HEUN, solver=po.DDIM())
    for star, rounds in ((1.0, 2), (0.5, 2), (0.3, 2), (0.3, 10)):
        levels = HEUN if rounds == 2 else po.Karras(steps=112)
        name = f"CFGiG, sigma_star = {star}, {rounds} rounds"
        named[name] = po.CFGiG(schedule=levels, sigma_star=star, rounds=rounds, initial=12)
    for steps in (25, 50, 60):
        named[f"TiltedGibbs, {steps} steps"] = gibbs(steps)
    return named


def distance(problem: TiltedProblem, x: Tensor, run: int) -> float:
    """Wasserstein-1 in one dimension, sliced in two."""
    if problem.target.space.size == 1:
        return problem.wasserstein(x)
    return sliced_wasserstein(
        x, problem.exact.sample(len(x), torch.Generator().manual_seed(100 + run))
    )


def row(problem: TiltedProblem, name: str, sampler: Sampler[Any] | None) -> str:
    """A line of a table: distance, spread, and evaluations and vjps of both members a sample."""
    counted = po.Counted(problem.target.prior)
    target = po.Tilted(counted, problem.target.condition, problem.target.weight)
    distances, spread = [], 0.0
    for run in range(RUNS):
        if sampler is None:
            x = problem.exact.sample(SAMPLES, torch.Generator().manual_seed(run))
        else:
            x = sampler.sample(target, seeds=range(SAMPLES * run, SAMPLES * (run + 1)))
        distances.append(distance(problem, x, run))
        spread = float(x.std(0).mean())
    # A population counts its particles.
    whole = RUNS * (1 if sampler is None else sampler.shared)
    cost = f"{counted.forward / whole:.0f}"
    if counted.backward:
        cost += f" + {counted.backward / whole:.0f} vjps"
    error = statistics.stdev(distances) / RUNS**0.5
    return f"| {name} | {statistics.mean(distances):.4f} +- {error:.4f} | {spread:.3f} | {cost} |"


def toy() -> None:
    """Print the tables of laws that are known."""
    for key in ("cfgig-toy", "narrow-mode", "rare-mode", "three-kinds"):
        problem = TILTED_PROBLEMS[key]()
        print(f"\n### {key}\n\n| method | distance | std | evaluations |\n|---|---|---|---|")
        if key == "cfgig-toy":
            compared = of_the_toy(problem)
        else:
            star = 1.0
            compared = {
                "CFG": po.Guided(schedule=HEUN),
                "CFGiG, 2 rounds": po.CFGiG(sigma_star=star),
                "CFGiG, 10 rounds": po.CFGiG(
                    schedule=po.Karras(steps=112), sigma_star=star, rounds=10, initial=12
                ),
                **{f"TiltedGibbs, {steps} steps": gibbs(steps) for steps in (60, 120, 250)},
            }
        print(row(problem, "exact draws", None), flush=True)
        for name, sampler in compared.items():
            print(row(problem, name, sampler), flush=True)


def of_digits(factor: int) -> dict[str, list[Sampler[Any]]]:
    """What is compared on digits, with its strengths; about 62 evaluations of networks a sample, times `factor`."""
    weights = (1.5, 2.0, 3.0, 5.0)

    def guided(rule: po.Guidance, levels: int = 16, solver: po.Solver | None = None) -> po.Guided:
        solver = po.Heun() if solver is None else solver
        return po.Guided(rule=rule, schedule=po.Karras(steps=factor * levels), solver=solver)

    def rounds(weight: float, star: float) -> po.CFGiG:
        # 15 evaluations for the start and 44 for two rounds.
        schedule = po.Karras(steps=20 * factor)
        rule = po.CFG(weight)
        return po.CFGiG(schedule=schedule, initial=8 * factor, sigma_star=star, rule=rule)

    return {
        # 62, 62 and 61 evaluations; 26 levels of the interval have 5 or so inside.
        "CFG": [guided(po.CFG(w)) for w in (1.2, *weights)],
        "APG": [guided(po.APG(w)) for w in weights],
        "interval": [guided(po.Interval(w), levels=26) for w in weights],
        "CFG++": [
            guided(po.CFGPlusPlus(lam=lam), levels=31, solver=po.DDIM())
            for lam in (0.1, 0.2, 0.4, 0.8)
        ],
        "CFGiG": [rounds(w, 1.0) for w in weights],
        "CFGiG at 2.5": [rounds(w, 2.5) for w in (2.0, 4.0, 8.0)],
        "TiltedGibbs": [
            po.TiltedGibbs(
                schedule=po.Karras(steps=10 * factor, sigma_min=0.01, sigma_max=80.0),
                particles=1,
                rounds=1,
                round_steps=6 * factor,
                sigma_star=0.7,
            )
            for _ in weights
        ],
    }


def weight_of(sampler: Sampler[Any], index: int) -> float:
    """The weight of a target for a sampler that takes the target's."""
    return (1.5, 2.0, 3.0, 5.0)[index] if isinstance(sampler, po.TiltedGibbs) else 3.0


def point(sampler: Sampler[Any], weight: float, count: int, reference: Tensor) -> dict[str, Any]:
    """Digits of all classes in equal shares, and their scores against held-out pictures."""
    prior, classifier = po.load_prior("digits"), po.load_classifier("digits")
    prior.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    started, parts, agreed, counted = time.perf_counter(), [], [], po.Counted(prior)
    for label in range(DIGITS):
        target = po.Tilted(counted, po.Label(label), weight)
        each = count // DIGITS
        seeds = range(each * label, each * (label + 1))
        drawn = [sampler.sample(target, seeds[k : k + 50]) for k in range(0, each, 50)]
        parts.append(torch.cat(drawn))
        agreed.append(classifier_agreement(classifier, parts[-1], label))
    features = Penultimate(classifier)
    x, y = features(torch.cat(parts)), features(reference)
    precision, recall = precision_recall(x, y)
    density, coverage = density_coverage(x, y)
    batches = DIGITS * -(-(count // DIGITS) // 50)
    return {
        "sampler": repr(sampler),
        "weight": weight,
        "count": count,
        "forward": counted.forward / batches,
        "backward": counted.backward / batches,
        "seconds": time.perf_counter() - started,
        "agreement": statistics.mean(agreed),
        **{"precision": precision, "recall": recall, "density": density, "coverage": coverage},
        "frechet": frechet_distance(x, y),
    }


def curve(data: Path, out: Path, count: int, factor: int, methods: str | None) -> None:
    """Draw the points that are missing, and print and paint all."""
    out.mkdir(parents=True, exist_ok=True)
    # The file is sorted by label.
    pictures = np.load(data / "mnist_28x28.npz")["x_test"]
    pictures = pictures[:: len(pictures) // count][:count]
    reference = torch.from_numpy(pictures).float()[:, None] / 127.5 - 1
    alone: list[Sampler[Any]] = [po.Guided(rule=po.CFG(1.0), schedule=HEUN)]
    compared = {"conditional": alone, **of_digits(factor)}
    wanted = methods.split(",") if methods else list(compared)
    for index in range(max(map(len, compared.values()))):
        for name, samplers in compared.items():
            path = out / f"{name}.{index}.json"
            if name in wanted and index < len(samplers) and not path.exists():
                found = point(samplers[index], weight_of(samplers[index], index), count, reference)
                path.write_text(json.dumps(found))
                print(name, index, found, flush=True)
    points = {
        name: [
            json.loads((out / f"{name}.{index}.json").read_text())
            for index in range(len(samplers))
            if (out / f"{name}.{index}.json").exists()
        ]
        for name, samplers in compared.items()
    }
    print(
        "| method | strength | agreement | precision | recall | density | coverage | Frechet | evaluations |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, of_name in points.items():
        for index, p in enumerate(of_name):
            cost = f"{p['forward']:.0f}" + (f" + {p['backward']:.0f}" if p["backward"] else "")
            keys = ("agreement", "precision", "recall", "density", "coverage")
            scores = " | ".join(f"{p[key]:.3f}" for key in keys)
            print(f"| {name} | {index + 1} | {scores} | {p['frechet']:.1f} | {cost} |")
    paint(points, out / "guidance.png")


def paint(points: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Precision against recall, and density against coverage."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for axis, (across, up) in zip(
        axes, (("recall", "precision"), ("coverage", "density")), strict=True
    ):
        for name, found in points.items():
            x, y = [p[across] for p in found], [p[up] for p in found]
            style = "k*" if name == "conditional" else "o-"
            axis.plot(x, y, style, label=name, markersize=9 if name == "conditional" else 4)
        axis.set(xlabel=across, ylabel=up)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["toy", "curve"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--factor", type=int, default=1, help="how many times 62 evaluations")
    parser.add_argument("--methods", help="those that are drawn now; by default all")
    parser.add_argument("--count", type=int, default=2000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part == "toy":
        toy()
    elif given.data is None or given.out is None:
        parser.error("curve needs --data and --out")
    else:
        curve(given.data, given.out, given.count, given.factor, given.methods)


if __name__ == "__main__":
    main()
