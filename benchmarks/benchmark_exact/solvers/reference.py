"""What cannot be done better, and what no sampler should do worse than."""

from collections.abc import Sequence
from typing import Any

import torch
from benchopt import BaseSolver

from posteria.problems.toy import Problem

SETS = 8


class Solver(BaseSolver):
    """Exact draws, the floor of every metric; or draws of the prior, which ignore the measurement."""

    name = "reference"
    requirements = ["pip::posteria"]
    sampling_strategy = "run_once"
    parameters = {"law": ["exact draws", "prior draws"]}
    parameter_template = "{law}"

    def set_objective(self, problem: Problem, seeds: Sequence[int]) -> None:
        """See benchopt."""
        self.problem, self.seeds = problem, seeds

    def run(self, stop_val: float) -> None:
        """See benchopt; metrics are averaged over several sets, so that the floor is smooth."""
        target: Any = self.problem.target.prior
        law = self.problem.exact if self.law == "exact draws" else target
        # Not the stream of the draws that samples are compared with.
        generator = torch.Generator().manual_seed(2**32 + self.seeds[0])
        self.samples = torch.stack([law.sample(len(self.seeds), generator) for _ in range(SETS)])

    def get_result(self) -> dict[str, Any]:
        """See benchopt."""
        return {"samples": self.samples.numpy(), "evaluations": 0, "vjps": 0}
