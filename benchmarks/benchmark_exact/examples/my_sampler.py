"""A sampler of your own in the benchmark, in one file; change `draw`.

B=$PWD/benchmarks/benchmark_exact; benchopt run $B -s $B/examples/my_sampler.py -d "toy[problem=gmm25-8-1]"
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from benchopt import BaseSolver
from torch import Tensor

from lib.budget import next_budget
from posteria import GaussianLikelihood, Karras, Posterior
from posteria.problems.toy import Problem


def draw(target: Posterior, seeds: Sequence[int], steps: int, spread: float) -> Tensor:
    """Samples `[n, *event]`, at one evaluation and one vjp of the prior a step."""
    prior, y = target.prior, target.y
    likelihood: Any = target.likelihood
    levels = Karras(steps=steps, sigma_min=0.01, sigma_max=100.0).levels()
    generator = torch.Generator().manual_seed(seeds[0])
    space = target.space
    x = levels[0] * torch.randn((len(seeds), *space.shape), dtype=space.dtype, generator=generator)
    for sigma, sigma_next in pairwise(levels):
        x0, prior_vjp = prior.vjp(x, sigma)
        # The residual's variance grows with the uncertainty of the estimate.
        weight = likelihood.std**2 / (likelihood.std**2 + spread * sigma**2)
        x0 = x0 + sigma**2 * weight * prior_vjp(likelihood.score(y, x0))
        x = x0 + sigma_next / sigma * (x - x0)
    return x


class Solver(BaseSolver):
    """Guidance by the gradient of a widened likelihood."""

    name = "my-sampler"
    sampling_strategy = "iteration"
    parameters = {"spread": [1.0]}

    def skip(self, problem: Problem, seeds: Sequence[int]) -> tuple[bool, str | None]:
        """Why it cannot draw from a problem, if it cannot."""
        gaussian = isinstance(problem.target.likelihood, GaussianLikelihood)
        return not gaussian, None if gaussian else "my-sampler needs Gaussian noise."

    def set_objective(self, problem: Problem, seeds: Sequence[int]) -> None:
        """What `Objective.get_objective` gives."""
        self.target, self.seeds = problem.target, seeds

    def get_next(self, stop_val: int) -> int:
        """The budgets of the other samplers."""
        return next_budget(stop_val)

    def run(self, stop_val: int) -> None:
        """Spend a budget of evaluations and vjps per sample; a curve begins with 0."""
        self.steps = stop_val // 2
        self.samples = draw(self.target, self.seeds, self.steps, self.spread) if stop_val else None

    def get_result(self) -> dict[str, Any]:
        """The arguments of `Objective.evaluate_result`."""
        if self.samples is None:
            return {"samples": None}
        return {"samples": self.samples.numpy(), "evaluations": self.steps, "vjps": self.steps}
