"""What cannot be done better, and what no sampler should do worse than."""

from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import override

from lib.solver import Answering
from posteria.problems.toy import Problem

SETS = 8


class Solver(Answering):
    """Exact draws, the floor of every metric; or draws of the prior, which ignore the measurement."""

    name = "reference"
    parameters = {"law": ["exact draws", "prior draws"]}
    parameter_template = "{law}"

    @override
    def draw(self, stop_val: int, problem: Problem, seeds: Sequence[int]) -> dict[str, Any]:
        target: Any = problem.target.prior
        law = problem.exact if self.law == "exact draws" else target
        # Not the stream of the draws that samples are compared with.
        generator = torch.Generator().manual_seed(2**32 + seeds[0])
        # Metrics are averaged over several sets, so that the floor is smooth.
        samples = torch.stack([law.sample(len(seeds), generator) for _ in range(SETS)])
        return {"samples": samples.numpy(), "evaluations": 0, "vjps": 0}
