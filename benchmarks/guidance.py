"""The figures of docs/guidance.md: `python benchmarks/guidance.py toy` and `... curve --data FOLDER --out RESULTS`.

- toy: distances to tilted laws that are known exactly, and what they cost.
- curve: quality against diversity of digits over weights, at about equal cost. Each point is one file in RESULTS; a
  point that is there is not drawn again, so that a run that is stopped goes on. FOLDER holds `mnist_28x28.npz`.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import posteria as po
from lib import measure
from lib.digits import mnist, scores
from lib.table import Table, costs, with_error
from posteria.analytic import GaussianMixture
from posteria.metrics.distribution import sliced_wasserstein
from posteria.problems.tilted import TILTED_PROBLEMS, TiltedProblem
from posteria.samplers.base import Sampler

HEUN, DDIM = po.Karras(steps=32), po.DDIM()
RUNS, DRAWS = 3, 20_480
LABELS, BATCH = 10, 50


def gibbs(steps: int) -> po.TiltedGibbs:
    """Ours with a number of steps."""
    return po.TiltedGibbs(
        schedule=po.schedules.LogLinear(steps=steps, sigma_min=0.02, sigma_max=80.0)
    )


def rounds(star: float, count: int) -> po.CFGiG:
    """CFGiG with rounds of Gibbs."""
    levels = HEUN if count == 2 else po.Karras(steps=112)
    return po.CFGiG(schedule=levels, sigma_star=star, rounds=count, initial=12)


def of_the_toy(problem: TiltedProblem) -> dict[str, Sampler[Any]]:
    """What is compared on the toy of CFGiG's paper."""
    law = problem.target.conditional
    if not isinstance(law, GaussianMixture):
        raise TypeError("the toy is a pair of mixtures")
    # A weaker model of the class: its modes are three times as wide.
    weak = GaussianMixture(law.weights, law.means, 3 * law.covariances)
    rules: dict[str, po.guidance.TiltedRule] = {
        "conditional law, w = 1": po.CFG(1.0),
        "CFG": po.CFG(),
        "interval (.19, 3]": po.guidance.Interval(low=0.19, high=3.0),
        "interval (.19, 1]": po.guidance.Interval(low=0.19, high=1.0),
        "APG, eta = 0.5": po.APG(eta=0.5),
        "adaptive guidance, .999": po.guidance.AdaptiveGuidance(threshold=0.999),
        "autoguidance, w = 2 (and as many of the weak model)": po.guidance.AutoGuidance(
            2.0, weak=weak
        ),
        "two levels, delta = 0.1": po.guidance.TwoLevel(delta=0.1),
    }
    plus = {f"CFG++, lam = {lam}": po.guidance.CFGPlusPlus(lam=lam) for lam in (0.1, 0.3, 0.6)}
    return {
        **{name: po.Guided(rule=rule, schedule=HEUN) for name, rule in rules.items()},
        **{name: po.Guided(rule=rule, schedule=HEUN, solver=DDIM) for name, rule in plus.items()},
        **{
            f"CFGiG, sigma_star = {star}, {count} rounds": rounds(star, count)
            for star, count in ((1.0, 2), (0.5, 2), (0.3, 2), (0.3, 10))
        },
        **{f"TiltedGibbs, {steps} steps": gibbs(steps) for steps in (25, 50, 60)},
    }


def of_the_others() -> dict[str, Sampler[Any]]:
    """What is compared where the tilt moves mass between modes."""
    return {
        "CFG": po.Guided(schedule=HEUN),
        "CFGiG, 2 rounds": po.CFGiG(sigma_star=1.0),
        "CFGiG, 10 rounds": rounds(1.0, 10),
        **{f"TiltedGibbs, {steps} steps": gibbs(steps) for steps in (60, 120, 250)},
    }


def distance(problem: TiltedProblem, x: Tensor, run: int) -> float:
    """Wasserstein-1 in one dimension, sliced in two."""
    if problem.target.space.size == 1:
        return problem.wasserstein(x)
    exact = problem.exact.sample(len(x), torch.Generator().manual_seed(100 + run))
    return sliced_wasserstein(x, exact)


def row(problem: TiltedProblem, name: str, sampler: Sampler[Any] | None) -> list[str]:
    """A line of a table: distance, spread, and evaluations and vjps of both members a sample."""
    distances, spread, spent = [], 0.0, [(0.0, 0.0)]
    for run in range(RUNS):
        if sampler is None:
            x = problem.exact.sample(DRAWS, torch.Generator().manual_seed(run))
        else:
            drawn = measure(sampler, problem.target, range(DRAWS * run, DRAWS * (run + 1)))
            x, spent = drawn.samples, [*spent, (drawn.evaluations, drawn.vjps)]
        distances.append(distance(problem, x, run))
        spread = float(x.std(0).mean())
    evaluations, vjps = (sum(column) / RUNS for column in zip(*spent, strict=True))
    # A population counts its particles.
    return [name, with_error(distances, 4), f"{spread:.3f}", costs(evaluations, vjps, " vjps")]


def toy() -> None:
    """Print the tables of laws that are known."""
    for key in ("cfgig-toy", "narrow-mode", "rare-mode", "three-kinds"):
        problem = TILTED_PROBLEMS[key]()
        known = of_the_toy(problem) if key == "cfgig-toy" else of_the_others()
        compared = {"exact draws": None, **known}
        rows = [row(problem, name, sampler) for name, sampler in compared.items()]
        table = Table(key, ["method", "distance", "std", "evaluations"], rows)
        print(f"\n{table.markdown()}", flush=True)


WEIGHTS = (1.5, 2.0, 3.0, 5.0)


def of_digits(factor: int) -> dict[str, list[Sampler[Any]]]:
    """What is compared on digits, with its strengths; about 62 evaluations of networks a sample, times `factor`."""

    def guided(rule: po.guidance.TiltedRule, levels: int, solver: po.solvers.Solver) -> po.Guided:
        return po.Guided(rule=rule, schedule=po.Karras(steps=factor * levels), solver=solver)

    def gibbs_of(weight: float, star: float) -> po.CFGiG:
        # 15 evaluations for the start and 44 for two rounds.
        schedule, rule = po.Karras(steps=20 * factor), po.CFG(weight)
        return po.CFGiG(schedule=schedule, initial=8 * factor, sigma_star=star, rule=rule)

    ours = po.TiltedGibbs(
        schedule=po.Karras(steps=10 * factor, sigma_min=0.01, sigma_max=80.0),
        particles=1,
        rounds=1,
        round_steps=6 * factor,
        sigma_star=0.7,
    )
    heun, lams = po.Heun(), (0.1, 0.2, 0.4, 0.8)
    return {
        "conditional": [po.Guided(rule=po.CFG(1.0), schedule=HEUN)],
        # 62, 62 and 61 evaluations; 26 levels of the interval have 5 or so inside.
        "CFG": [guided(po.CFG(w), 16, heun) for w in (1.2, *WEIGHTS)],
        "APG": [guided(po.APG(w), 16, heun) for w in WEIGHTS],
        "interval": [guided(po.guidance.Interval(w), 26, heun) for w in WEIGHTS],
        "CFG++": [guided(po.guidance.CFGPlusPlus(lam=lam), 31, po.DDIM()) for lam in lams],
        "CFGiG": [gibbs_of(w, 1.0) for w in WEIGHTS],
        "CFGiG at 2.5": [gibbs_of(w, 2.5) for w in (2.0, 4.0, 8.0)],
        "TiltedGibbs": [ours] * len(WEIGHTS),
    }


def point(sampler: Sampler[Any], weight: float, count: int, reference: Tensor) -> dict[str, Any]:
    """Digits of all classes in equal shares, and their scores against held-out pictures."""
    prior = po.load_prior("digits")
    each = count // LABELS
    drawn = [
        measure(sampler, po.Tilted(prior, po.Label(label), weight), seeds[k : k + BATCH])
        for label in range(LABELS)
        for seeds in [range(each * label, each * (label + 1))]
        for k in range(0, each, BATCH)
    ]
    return {
        "sampler": repr(sampler),
        "weight": weight,
        "count": count,
        "forward": statistics.mean(part.evaluations for part in drawn),
        "backward": statistics.mean(part.vjps for part in drawn),
        "seconds": sum(part.seconds for part in drawn),
        **scores(torch.cat([part.samples for part in drawn]), reference, range(LABELS)),
    }


def curve(data: Path, out: Path, count: int, factor: int, methods: str | None) -> None:
    """Draw the points that are missing, and print and paint all."""
    out.mkdir(parents=True, exist_ok=True)
    reference = mnist(data / "mnist_28x28.npz", count)
    compared = of_digits(factor)
    wanted = methods.split(",") if methods else list(compared)
    paths = {
        (n, i): out / f"{n}.{i}.json" for n, found in compared.items() for i in range(len(found))
    }
    # The first strengths of all first.
    for (name, index), path in sorted(paths.items(), key=lambda pair: pair[0][1]):
        if name in wanted and not path.exists():
            sampler = compared[name][index]
            # The rules have a weight of their own.
            weight = WEIGHTS[index] if isinstance(sampler, po.TiltedGibbs) else 3.0
            path.write_text(json.dumps(point(sampler, weight, count, reference)))
            print(path, flush=True)
    points = {key: json.loads(path.read_text()) for key, path in paths.items() if path.exists()}
    keys = ("agreement", "precision", "recall", "density", "coverage")
    rows = []
    for (name, index), p in points.items():
        cost = costs(p["forward"], p["backward"])
        numbers = [*(f"{p[key]:.3f}" for key in keys), f"{p['frechet']:.1f}"]
        rows.append([name, str(index + 1), *numbers, cost])
    header = ["method", "strength", *keys, "Frechet", "evaluations"]
    print(Table("Digits: quality against diversity", header, rows).markdown())
    paint(points, out / "guidance.png")


def paint(points: dict[tuple[str, int], dict[str, Any]], path: Path) -> None:
    """Precision against recall, and density against coverage."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, 2)
    pairs = (("recall", "precision"), ("coverage", "density"))
    for axis, (across, up) in zip(axes, pairs, strict=True):
        for name in dict.fromkeys(name for name, _ in points):
            found = [p for (other, _), p in points.items() if other == name]
            style, size = ("k*", 9) if name == "conditional" else ("o-", 4)
            x, y = ([p[key] for p in found] for key in (across, up))
            axis.plot(x, y, style, label=name, markersize=size)
        axis.set(xlabel=across, ylabel=up)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
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
