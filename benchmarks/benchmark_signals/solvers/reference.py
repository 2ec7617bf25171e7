"""What cannot be done better, where the posterior is known."""

from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import override

from lib.solver import Answering
from posteria.problems.toy import Problem


class Solver(Answering):
    """Exact draws."""

    name = "reference"
    parameters = {"law": ["exact draws"]}
    parameter_template = "{law}"

    @override
    def refused(self, problem: Problem, seeds: Sequence[int]) -> str | None:
        return None if problem.exact else "Nobody knows the posterior of a network."

    @override
    def draw(self, stop_val: int, problem: Problem, seeds: Sequence[int]) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(2**32 + seeds[0])
        x = problem.exact.sample(len(seeds), generator)
        return {"samples": x.numpy(), "evaluations": 0, "vjps": 0}
