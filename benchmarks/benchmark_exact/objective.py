"""How far samples are from a posterior that is known exactly."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lib.code import code_hash
from lib.measure import seeds_of
from lib.solver import BudgetCriterion, Measured, spent
from posteria.analytic import GaussianMixture
from posteria.analytic.low_rank_posterior import PPCAPosterior
from posteria.metrics import AgainstExact
from posteria.metrics.calibration import energy_score, sbc_ranks
from posteria.metrics.distribution import (
    mean_error,
    mmd,
    mode_weight_error,
    moments,
    sliced_wasserstein,
    two_sample_floor,
    variance_ratio,
)
from posteria.metrics.exact import coverage_of
from posteria.problems.toy import Problem

# Sets of exact draws that samples are compared with; the costlier metrics have fewer.
REFERENCES, FEWER = 5, 2
METRICS = (
    *("ratio", "distance", "mmd", "mean_error", "variance_ratio", "mode_weight_error"),
    *("coverage_90", "rank", "energy_score"),
)


class Objective(Measured):
    """Samples against exact draws, and the truth against samples."""

    name = "exact"
    url = "https://github.com/posteria/benchmark_exact"
    sampling_strategy = "iteration"
    stopping_criterion = BudgetCriterion()
    parameters = {"samples": [512], "code": [code_hash(Path(__file__).parent)]}
    parameter_template = "samples={samples}"
    test_dataset_name = "toy"

    @override
    def set_data(self, problem: Problem) -> None:
        self.problem = problem
        self.number = self.get_seed(use_dataset=True, use_repetition=True)
        self._floor: float | None = None
        exact = problem.exact
        # Along the leading axes, where pictures differ.
        self._against = (
            AgainstExact(exact, self.samples, seed=self.number)
            if isinstance(exact, PPCAPosterior)
            else None
        )

    def get_objective(self) -> dict[str, Any]:
        """What a solver is given: the problem, and the seeds of its samples, the same for all solvers."""
        return {"problem": self.problem, "seeds": seeds_of(self.number, self.samples)}

    @override
    def evaluate_result(
        self,
        samples: Any,
        log_evidence: float = math.nan,
        sweeps: float = math.nan,
        note: str = "",
        **cost: float,
    ) -> dict[str, Any]:
        """The metrics of samples `[n, *event]`, or of sets of them `[sets, n, *event]`, averaged; NaN for None.

        `note` is anything to keep, such as why there are no samples, and `cost` what `spent` takes.
        """
        return {
            **self._metrics(samples),
            "floor": self.floor,
            "log_evidence": log_evidence,
            "log_evidence_error": abs(log_evidence - self.problem.log_evidence),
            "sweeps": sweeps,
            **spent(self.samples, **cost),
            "note": note,
        }

    def get_one_result(self) -> dict[str, Any]:
        """Exact draws, for benchopt's own tests."""
        return {"samples": self._exact(1, self.samples)[0].numpy()}

    @property
    def floor(self) -> float:
        """The distance to expect between two exact sets."""
        if self._against is not None:
            return self._against.floor.mean
        if self._floor is None:
            draw = self.problem.exact.sample
            self._floor = two_sample_floor(draw, self.samples, seed=self.number).mean
        return self._floor

    def _exact(self, sets: int, n: int) -> list[Tensor]:
        # Not the stream of the floor.
        generator = torch.Generator().manual_seed(2**33 + self.number)
        return [self.problem.exact.sample(n, generator) for _ in range(sets)]

    def _metrics(self, samples: Any) -> dict[str, float]:
        if samples is None:
            return {name: math.nan for name in (*METRICS, "finite")}
        x = torch.as_tensor(samples)
        sets = x if x.ndim > self.problem.truth.ndim + 1 else x[None]
        rows = [self._of_one(row) for row in sets]
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}

    def _of_one(self, x: Tensor) -> dict[str, float]:
        """The metrics of one set, NaN where samples are not finite."""
        finite = float(x.isfinite().reshape(len(x), -1).all(1).double().mean())
        if finite < 1:
            return {name: math.nan for name in METRICS} | {"finite": finite}
        truth, target = self.problem.truth, self.problem.target
        references, generator = self._exact(FEWER, len(x)), torch.Generator()
        y, log_prob = target.y, target.likelihood.log_prob
        # A statistic that also sees samples that ignore the measurement.
        rank = sbc_ranks(log_prob(y, x), log_prob(y, truth), generator.manual_seed(self.number))
        found = self._of_law(x) if self._against is None else self._against.evaluate(x)
        return found | {
            "mmd": sum(mmd(x, y) for y in references) / FEWER,
            "coverage_90": coverage_of(x, torch.cat(references)),
            "rank": float(rank) / len(x),
            "energy_score": energy_score(x, truth),
            "finite": finite,
        }

    def _of_law(self, x: Tensor) -> dict[str, float]:
        """Those that are of whole signals, where these are short."""
        law, references = self.problem.exact, self._exact(REFERENCES, len(x))
        known, distance = moments(law), sum(sliced_wasserstein(x, y) for y in references)
        return {
            "ratio": distance / REFERENCES / self.floor,
            "distance": distance / REFERENCES,
            "mean_error": mean_error(x, known.mean, known.std),
            "variance_ratio": variance_ratio(x, known.std),
            "mode_weight_error": (
                mode_weight_error(x, law) if isinstance(law, GaussianMixture) else math.nan
            ),
        }
