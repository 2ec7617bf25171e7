"""The samplers of azula 0.11.1 (https://github.com/probabilists/azula, MIT) on the problems of `benchmark_exact`.

benchopt run $PWD/benchmarks/benchmark_exact -s $PWD/benchmarks/peers/azula_samplers.py -d "toy[problem=banana]"
"""

# ruff: file-ignore[mutable-class-default]

import time
from collections.abc import Sequence
from typing import Any

import torch
from azula import guidance  # type: ignore[import-not-found]
from azula.denoise import Denoiser, DiracPosterior  # type: ignore[import-not-found]
from azula.linalg.covariance import (  # type: ignore[import-not-found]
    FullCovariance,
    IsotropicCovariance,
)
from azula.noise import Schedule, VPSchedule  # type: ignore[import-not-found]
from azula.sample import DDIMSampler  # type: ignore[import-not-found]
from benchopt import BaseSolver
from torch import Tensor

from lib import next_budget
from posteria import GaussianLikelihood, Posterior
from posteria.diffusion.denoiser import Counted
from posteria.operators import LinearOperator
from posteria.problems.toy import Problem

# Evaluations and vjps of the prior a step.
COSTS = {"DPS": 2, "PGDM": 2, "DiffPIR": 1, "MMPS": 3, "JFPS": 1, "TDS": 2}
# Given the matrix of the operator.
LINEAR = {"PGDM", "DiffPIR", "TDS"}
# What a user has of the prior besides its denoiser: data.
DATA = 4096
FEWEST = 5


class Exact(Denoiser):
    """An exact prior as a denoiser of azula, which has a scale `alpha` beside the noise level.

    Args:
        prior: Counts its evaluations, and here its vjps.
        schedule: Scale and noise level of a time.
    """

    def __init__(self, prior: Counted, schedule: Schedule) -> None:
        super().__init__()
        self.prior, self.schedule = prior, schedule

    def forward(self, x_t: Tensor, t: Tensor, **kwargs: Any) -> DiracPosterior:
        """See azula."""
        alpha, sigma = self.schedule(t)
        x = x_t / alpha
        if x.requires_grad:
            x.register_hook(self._count)
        return DiracPosterior(mean=self.prior(x, float(sigma / alpha)))

    def _count(self, gradient: Tensor) -> None:
        # A gradient comes back to the input once for each product with the transposed Jacobian.
        self.prior.meter.backward += self.prior.space.batch(gradient).numel()


def sampler(method: str, target: Posterior, prior: Counted, steps: int) -> Any:
    """A sampler with the defaults of azula.

    DDPM for DPS; DDIM for PGDM, whose default is deterministic; DDIM with `eta=1` for the guided denoisers,
    as in azula's tutorials. The schedule is variance preserving, the one of its introduction.

    Args:
        method: One of `COSTS`.
        target: The posterior.
        prior: The prior of it that is counted.
        steps: Evaluations of the prior.
    """
    likelihood: Any = target.likelihood
    operator, y, std = likelihood.operator, target.y, float(likelihood.std)
    denoiser = Exact(prior, VPSchedule())
    options = {"steps": steps, "silent": True, "dtype": target.space.dtype}
    noise = IsotropicCovariance(torch.tensor(std**2, dtype=target.space.dtype))
    if method == "DPS":
        return guidance.DPSSampler(denoiser, y, operator, **options)
    if method == "PGDM":
        inverse = torch.linalg.pinv(operator.matrix())
        return guidance.PGDMSampler(denoiser, y, operator, lambda v: v @ inverse.mT, **options)
    if method == "TDS":
        gains = (operator.matrix() ** 2).sum(1)

        def twist(x: Tensor, sigma: Tensor) -> Tensor:
            variance = std**2 + sigma**2 * gains
            log_p: Tensor = -((y - operator(x)) ** 2 / variance + variance.log()) / 2
            return log_p

        return guidance.TDSSampler(denoiser, twist, **options)
    if method == "DiffPIR":
        guided = guidance.DiffPIRDenoiser(denoiser, y, operator, var_y=std**2)
    elif method == "MMPS":
        guided = guidance.MMPSDenoiser(denoiser, y, operator, cov_y=noise)
    else:
        law: Any = target.prior
        data = law.sample(DATA, torch.Generator().manual_seed(0))
        signal = FullCovariance.from_data(data)
        guided = guidance.JFPSDenoiser(denoiser, y, operator, cov_y=noise, cov_x=signal)
    return DDIMSampler(guided, eta=1.0, **options)


class Solver(BaseSolver):
    """Its rules as they come; no parameter is tuned.

    - `DPS` takes the norm of the residual over the whole batch: its samples depend on how many are drawn
      at once, here all of them.
    - `PGDM` is the rule for measurements without noise; it is not told the noise level.
    - `DiffPIR` weighs the prior by `lmbda=10`.
    - `MMPS` and `JFPS` solve their linear system with one iteration; `JFPS` is given the covariance of 4096
      draws of the prior.
    - `TDS` is one population of all the samples, resampled at every step. Its twist is that of azula's
      tutorial: Gaussian, with the variance that noise of level sigma / alpha gives the measurement.
    - All take the signal to have zero mean and unit variance where they begin, at a level where it matters little.
    """

    name = "azula"
    requirements = ["pip::azula==0.11.1"]
    sampling_strategy = "iteration"
    parameters = {"method": list(COSTS)}
    parameter_template = "{method}"

    def skip(self, problem: Problem, seeds: Sequence[int]) -> tuple[bool, str | None]:
        """See benchopt."""
        if not isinstance(problem.target.likelihood, GaussianLikelihood):
            return True, f"{self.method} needs Gaussian noise."
        linear = isinstance(problem.target.likelihood.operator, LinearOperator)
        if self.method in LINEAR and not linear:
            return True, f"{self.method} needs a linear operator."
        return False, None

    def set_objective(self, problem: Problem, seeds: Sequence[int]) -> None:
        """See benchopt."""
        self.target, self.seeds = problem.target, seeds

    def get_next(self, stop_val: int) -> int:
        """See benchopt: the budgets of the other samplers."""
        return next_budget(stop_val)

    def run(self, stop_val: int) -> None:
        """See benchopt; all samples are one batch."""
        steps = stop_val // COSTS[self.method]
        self.samples: Tensor | None = None
        if steps < FEWEST:
            return
        torch.manual_seed(self.seeds[0])
        space, self.prior = self.target.space, Counted(self.target.prior)
        started = time.perf_counter()
        chosen = sampler(self.method, self.target, self.prior, steps)
        self.samples = chosen(chosen.init((len(self.seeds), *space.shape), dtype=space.dtype))
        self.seconds = time.perf_counter() - started

    def get_result(self) -> dict[str, Any]:
        """See benchopt."""
        if self.samples is None:
            return {"samples": None, "note": f"A budget that does not buy {FEWEST} steps."}
        return {
            "samples": self.samples.detach().numpy(),
            "evaluations": self.prior.meter.forward / len(self.samples),
            "vjps": self.prior.meter.backward / len(self.samples),
            "seconds": self.seconds,
        }
