"""The benchmark of signals in time."""

import importlib
import math
from pathlib import Path

import pytest
import torch

from benchmarks.test_benchopt_images import ROOT, benchopt, check_plots, package, rows_of
from lib.budget import budgeted, refusal, sampler_named
from lib.measure import measure
from lib.show import short
from posteria.metrics.distribution import mean_error, variance_ratio
from posteria.samplers import SAMPLERS

SIGNALS = ROOT / "benchmarks" / "benchmark_signals"
package(SIGNALS, "signals_utils")
signals = importlib.import_module("signals_utils.signals")
KNOWN = [task for task in signals.TASKS if task != "stems-declip"]


@pytest.mark.parametrize("task", KNOWN)
def test_the_known_posterior_explains_the_measurement_and_covers_the_truth(task: str) -> None:
    # Catches: a measurement of another signal, noise of another level, a law that is not that of the prior.
    problems = [signals.known(task, seed) for seed in range(12)]
    residuals, errors = [], []
    for problem in problems:
        target, law = problem.target, problem.exact
        off = target.likelihood.misfit(target.y, problem.truth[None])
        residuals.append(float(off.square().mean()))
        # The truth as a draw of the posterior, in its covariance.
        z = (problem.truth - law.mean).flatten()
        errors.append(float(z @ torch.linalg.solve(law.covariance, z)) / len(z))
    assert sum(residuals) / 12 == pytest.approx(1, abs=0.25)
    assert sum(errors) / 12 == pytest.approx(1, abs=0.15)


def test_a_shipped_signal_is_a_part_of_an_example_and_is_measured_by_its_seed() -> None:
    # Catches: a truth that was not shipped, a gap of another length, noise that repeats.
    one, again, other = (signals.shipped("ecg-gap", 128, seed) for seed in (3, 3, 4))
    assert torch.equal(one.truth, again.truth) and torch.equal(one.target.y, again.target.y)
    assert not torch.equal(one.truth, other.truth)
    assert any(
        (x.unfold(1, 128, 1) - one.truth[:, None]).abs().sum((0, 2)).min() == 0
        for x in signals.examples("ecg")
    )
    assert len(one.target.y) == 8 * 96
    operator = signals.shipped("stems-separate", 128, 0).target.likelihood.operator
    assert torch.allclose(operator(torch.ones(1, 4, 128)), torch.full((1, 1, 128), 4.0))


def test_a_sampler_of_the_registry_comes_near_to_the_known_posterior() -> None:
    problem = signals.known("ecg-I", 1)
    chosen = budgeted("mmps", problem.target, 200)
    assert not isinstance(chosen, str)
    x = measure(chosen, problem.target, range(64)).samples
    law = problem.exact
    assert mean_error(x, law.mean, law.std) < 0.2
    assert variance_ratio(x, law.std) == pytest.approx(1, abs=0.15)


@pytest.mark.slow
def test_smoke_of_signals(tmp_path: Path) -> None:
    # Catches: a sampler that is in the registry and not in the benchmark, an error in a plot.
    pytest.importorskip("benchopt")
    rows = rows_of(tmp_path, SIGNALS, "--config", SIGNALS / "configs" / "smoke.yml")
    ran = {short(name) for name in rows["solver_name"]}
    target = signals.known("stems-separate", 1).target
    assert ran - {"exact draws"} == {n for n in SAMPLERS if not refusal(sampler_named(n), target)}
    exact = rows[rows["solver_name"] == "reference[exact draws]"]
    assert exact["objective_variance_ratio"].between(0.8, 1.2).all()
    assert rows["objective_nfe"].max() <= 100 and not math.isnan(exact["objective_si_sdr"].mean())
    check_plots(SIGNALS, rows)


@pytest.mark.slow
def test_benchopts_own_tests_pass_on_signals(tmp_path: Path) -> None:
    pytest.importorskip("benchopt")
    assert "passed" in benchopt(tmp_path, "test", SIGNALS, "--skip-install", "-q")
