"""The figures of docs/exact.md, measured: `python benchmarks/exact.py [--parts mixture,gaussian,...] [--workers N]`.

- mixture: the exact sampler on gmm25 at 1000 evaluations a sample, over the two-sample floor.
- gaussian: moments on Gaussians at two data scales and a correlated one, at 200 steps.
- calibration: simulation-based calibration, 500 simulations, with 150 steps and 256 particles.
- evidence: log p(y) on 20 problems at 2000 evaluations.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import torch

import posteria as po
from posteria.analytic import GaussianMixture
from posteria.metrics.calibration import sbc_ranks, uniformity
from posteria.metrics.distribution import (
    mean_error,
    moments,
    sliced_wasserstein,
    two_sample_floor,
    variance_ratio,
)
from posteria.problems.toy import PROBLEMS, Problem, gmm25

CELLS = [(8, 1), (8, 2), (8, 4), (80, 1), (80, 2), (80, 4), (200, 1), (200, 2), (200, 4)]
POPULATION = 512


def exact_at(problem: Problem, budget: int) -> po.TwistedSMC:
    """The default exact sampler with the steps that a budget buys: 1 evaluation and m vjps each, and 8 for the rest."""
    measurement = problem.target.likelihood.measurement
    size = 0 if measurement is None else measurement.size
    schedule = dataclasses.replace(po.TwistedSMC().schedule, steps=(budget - 8) // (1 + size))
    return po.TwistedSMC(schedule=schedule)


def one_mixture(d: int, d_y: int, budget: int, index: int) -> tuple[float, float, float]:
    """Distance, floor and cost on one problem."""
    number = 1000 * d + 100 * d_y + index
    problem = gmm25(d, d_y, seed=number)
    # A population, floors and references of its own: errors of cells would else be of one noise.
    floor = two_sample_floor(problem.exact.sample, POPULATION, repetitions=20, seed=number).mean
    counted = po.Counted(problem.target.prior)
    target = po.Posterior(counted, problem.target.likelihood, problem.target.y)
    seeds = range(POPULATION * index, POPULATION * (index + 1))
    x = exact_at(problem, budget).sample(target, seeds=seeds)
    generators = [torch.Generator().manual_seed(10_000 * number + k) for k in range(20)]
    draws = [problem.exact.sample(POPULATION, generator) for generator in generators]
    distance = statistics.mean(sliced_wasserstein(x, draw) for draw in draws)
    return distance, floor, (counted.forward + counted.backward) / POPULATION


def mixture(run: Callable[..., Iterable[Any]], problems: int, budget: int) -> None:
    """Print the table of gmm25."""
    print(f"\n## gmm25, {budget} evaluations a sample, {problems} problems a cell\n")
    print("| d, d_y | distance | floor | ratio of means | mean of ratios | NFE | s a problem |")
    print("|---|---|---|---|---|---|---|")
    for d, d_y in CELLS:
        started = time.perf_counter()
        rows = list(run(partial(one_mixture, d, d_y, budget), range(problems)))
        seconds = (time.perf_counter() - started) / problems
        distance, floor = (statistics.mean(row[k] for row in rows) for k in (0, 1))
        ratios = [row[0] / row[1] for row in rows]
        error = statistics.stdev(ratios) / len(ratios) ** 0.5
        print(
            f"| {d}, {d_y} | {distance:.3f} | {floor:.3f} | {distance / floor:.2f} "
            f"| {statistics.mean(ratios):.2f} +- {error:.2f} | {rows[0][2]:.0f} | {seconds:.0f} |",
            flush=True,
        )


def gaussian() -> None:
    """Print the moments on Gaussians."""
    print("\n## Gaussians, 200 steps, 4096 samples, mean of three problems\n")
    print("| sampler | problem | mean error (posterior sd) | variance ratio |\n|---|---|---|---|")
    for name in ("exact", "mmps"):
        for key in ("gaussian-half", "gaussian-half-small", "gaussian-correlated"):
            errors, ratios = [], []
            for seed in range(3):
                problem = PROBLEMS[key](seed=seed)
                answer = moments(problem.exact)
                x = po.SAMPLERS[name]().sample(problem.target, seeds=range(4096))
                errors.append(mean_error(x, answer.mean, answer.std))
                ratios.append(variance_ratio(x, answer.std))
            print(
                f"| {name} | {key} | {max(errors):.3f} (largest) | {statistics.mean(ratios):.3f} |",
                flush=True,
            )


def one_rank(key: str, seed: int) -> torch.Tensor:
    """Ranks of a truth among 99 samples of its posterior."""
    problem = PROBLEMS[key](seed=seed)
    schedule = po.Karras(steps=150, sigma_min=0.01, sigma_max=1000.0)
    sampler = po.TwistedSMC(schedule=schedule, particles=256)
    # A population of its own: the noise of one and the same would be in all ranks.
    x = sampler.sample(problem.target, range(256 * seed, 256 * seed + 99))
    return sbc_ranks(x, problem.truth, torch.Generator().manual_seed(seed))


def calibration(run: Callable[..., Iterable[Any]], simulations: int) -> None:
    """Print the p-values of the rank histograms."""
    print(f"\n## Calibration: {simulations} simulations, 99 samples, 20 bins\n")
    print(
        "| problem | smallest p-value of an entry | entries | level for 1 % over all |\n|---|---|---|---|"
    )
    for key in ("gaussian-half", "gmm25-8-2"):
        ranks = torch.stack(list(run(partial(one_rank, key), range(simulations))))
        p = uniformity(ranks, 99, bins=20)
        print(
            f"| {key} | {float(p.min()):.4f} | {p.numel()} | {0.01 / p.numel():.4f} |", flush=True
        )


def one_evidence(d_y: int, budget: int, index: int) -> float:
    """The error of log p(y) on one problem."""
    problem = gmm25(8, d_y, seed=5000 + 100 * d_y + index)
    prior = problem.target.prior
    if not isinstance(prior, GaussianMixture):
        raise TypeError("gmm25 has a mixture as its prior")
    sampler = exact_at(problem, budget)
    estimate = sampler.log_evidence(problem.target, [POPULATION * index])[0]
    return float(estimate - prior.log_evidence(problem.target.likelihood, problem.target.y))


def evidence(run: Callable[..., Iterable[Any]], budget: int) -> None:
    """Print the errors of log p(y)."""
    print(f"\n## Evidence: 20 problems at d = 8, {budget} evaluations a sample\n")
    print("| d_y | mean error | mean absolute error (nat) |\n|---|---|---|")
    for d_y in (1, 2, 4):
        errors = list(run(partial(one_evidence, d_y, budget), range(20)))
        absolute = statistics.mean(abs(error) for error in errors)
        print(f"| {d_y} | {statistics.mean(errors):+.3f} | {absolute:.3f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default="mixture,gaussian,evidence,calibration")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--problems", type=int, default=12)
    given = parser.parse_args()
    parts = given.parts.split(",")
    torch.set_num_threads(1)
    with ProcessPoolExecutor(
        given.workers, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        if "mixture" in parts:
            mixture(pool.map, given.problems, 1000)
        if "gaussian" in parts:
            gaussian()
        if "calibration" in parts:
            calibration(pool.map, 500)
        if "evidence" in parts:
            evidence(pool.map, 2000)


if __name__ == "__main__":
    main()
