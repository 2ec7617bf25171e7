"""A sampler of one's own in one file: `benchopt run benchmarks/benchmark_images -s path/to/this_file.py`."""

from typing import Any

import torch
from benchopt import BaseSolver

from posteria.core.rng import Rng
from posteria.operators import LinearOperator


class Solver(BaseSolver):
    """What a measurement says by itself, and noise where it says nothing.

    `work.target` is a posterior with a row of `y` for each of `work.seeds`. A sampler that is a
    `posteria.PosteriorSampler` needs no more than `self.result = work.draw(sampler)`.
    """

    name = "pseudo-inverse"
    sampling_strategy = "run_once"
    parameters = {"noise": [0.1]}

    def skip(self, work: Any) -> tuple[bool, str | None]:
        """What the method cannot do, as a reason."""
        linear = isinstance(work.target.likelihood.operator, LinearOperator)
        return not linear, None if linear else "It has no inverse."

    def set_objective(self, work: Any) -> None:
        """Keep what the objective gives."""
        self.work = work

    def run(self, stop_val: float) -> None:
        """The only part that is timed."""
        target, rng = self.work.target, Rng(self.work.seeds)
        operator = target.likelihood.operator
        noise = self.noise * rng.normal(target.space)
        self.x = operator.pinv(target.y) + noise - operator.pinv(operator(noise))

    def get_result(self) -> dict[str, Any]:
        """Samples `[n, channels, height, width]` on the CPU, and what they cost if that is known."""
        x: torch.Tensor = self.x
        return {"samples": x.cpu().numpy(), "evaluations": 0.0, "vjps": 0.0}
