"""Posterior samples of signals in time: how near to the truth, how sure, and how far from a known posterior."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lib.code import code_hash
from lib.measure import seeds_of
from lib.solver import BudgetCriterion, Measured, spent
from posteria.metrics.audio import si_sdr_improvement
from posteria.metrics.calibration import crps, interval_coverage
from posteria.metrics.distribution import mean_error, variance_ratio
from posteria.problems.toy import Problem

METRICS = ("crps", "mae", "coverage", "residual", "si_sdr", "mean_error", "variance_ratio")


class Objective(Measured):
    """Samples of one posterior against the truth, and against its law."""

    name = "signals"
    url = "https://github.com/posteria/benchmark_signals"
    sampling_strategy = "iteration"
    stopping_criterion = BudgetCriterion()
    parameters = {"samples": [64], "code": [code_hash(Path(__file__).parent)]}
    parameter_template = "samples={samples}"
    test_dataset_name = "gaussian"
    test_config = {"samples": 8}

    @override
    def set_data(self, problem: Problem) -> None:
        self.problem = problem
        self.number = self.get_seed(use_dataset=True, use_repetition=True)

    def get_objective(self) -> dict[str, Any]:
        """What a solver is given: the problem, and the seeds of its samples, the same for all solvers."""
        return {"problem": self.problem, "seeds": seeds_of(self.number, self.samples)}

    def get_one_result(self) -> dict[str, Any]:
        """The truth again and again, for benchopt's own tests."""
        return {"samples": self.problem.truth.expand(self.samples, -1, -1).numpy()}

    @override
    def evaluate_result(self, samples: Any, note: str = "", **cost: Any) -> dict[str, Any]:
        """The metrics of samples `[n, channels, time]`; NaN for None, or where one is not finite.

        `note` is anything to keep, such as why there are no samples, and `cost` what `spent` takes.
        """
        numbers = dict.fromkeys(METRICS, math.nan)
        if samples is not None and (x := torch.as_tensor(samples)).isfinite().all():
            numbers |= self._numbers(x)
        # The number that benchopt shows first; the less, the better.
        return {"value": numbers["crps"], **numbers, **spent(self.samples, **cost), "note": note}

    def _numbers(self, x: Tensor) -> dict[str, float]:
        truth, target, exact = self.problem.truth, self.problem.target, self.problem.exact
        likelihood: Any = target.likelihood
        off = likelihood.misfit(target.y, x.to(target.y))
        found = {
            "crps": float(crps(x, truth).mean()),
            "mae": float((x.mean(0) - truth).abs().mean()),
            "coverage": interval_coverage(x, truth),
            "residual": float(off.square().mean().sqrt()),
        }
        if len(truth) == 4:
            found["si_sdr"] = float(si_sdr_improvement(x.mean(0, keepdim=True), truth))
        if exact is not None:
            law: Any = exact
            found["mean_error"] = mean_error(x, law.mean, law.std)
            found["variance_ratio"] = variance_ratio(x, law.std)
        return found
