"""Other libraries' samplers on the problems of `benchmark_exact`."""

import abc
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from lib.solver import Budgeted, nothing
from posteria import GaussianLikelihood, Posterior
from posteria.diffusion import Counted
from posteria.operators import LinearOperator
from posteria.problems.toy import Problem

# Draws of the prior, which a user has besides its denoiser.
DATA = 4096
FEWEST = 5


class Peer(Budgeted):
    """A library's methods as they come; all samples are one batch.

    Attributes:
        costs: The most evaluations and vjps of the prior that a step of each method takes.
        linear: Methods that need a linear operator.
    """

    parameter_template = "{method}"
    costs: ClassVar[dict[str, int]]
    linear: ClassVar[set[str]]
    method: str

    @abc.abstractmethod
    def samples(
        self, target: Posterior, prior: Counted, seeds: Sequence[int], steps: int
    ) -> Tensor:
        """Samples `[n, *event]` of a target, with its prior in the form that is counted."""

    @override
    def refused(self, problem: Problem, seeds: Sequence[int]) -> str | None:
        likelihood = problem.target.likelihood
        if not isinstance(likelihood, GaussianLikelihood):
            return f"{self.method} needs Gaussian noise."
        if self.method in self.linear and not isinstance(likelihood.operator, LinearOperator):
            return f"{self.method} needs a linear operator."
        return None

    @override
    def draw(self, budget: int, problem: Problem, seeds: Sequence[int]) -> dict[str, Any]:
        steps = budget // self.costs[self.method]
        if steps < FEWEST:
            return nothing(f"A budget that does not buy {FEWEST} steps.")
        prior, started = Counted(problem.target.prior), time.perf_counter()
        samples = self.samples(problem.target, prior, seeds, steps)
        return {
            "samples": samples.detach().numpy(),
            "evaluations": prior.meter.forward / len(samples),
            "vjps": prior.meter.backward / len(samples),
            "seconds": time.perf_counter() - started,
        }


def count_vjps(x: Tensor, prior: Any) -> None:
    """Count a gradient that comes back to an input, once for each product; nothing of a prior that is not `Counted`."""

    def count(gradient: Tensor) -> None:
        prior.meter.backward += prior.space.batch(gradient).numel()

    if x.requires_grad and isinstance(prior, Counted):
        x.register_hook(count)  # type: ignore[no-untyped-call]
