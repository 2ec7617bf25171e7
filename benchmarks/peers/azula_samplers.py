"""The samplers of azula 0.11.1 (https://github.com/probabilists/azula, MIT) on the problems of `benchmark_exact`.

benchopt run $PWD/benchmarks/benchmark_exact -s $PWD/benchmarks/peers/azula_samplers.py -d "toy[problem=banana]"
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from azula import guidance  # type: ignore[import-not-found]
from azula.denoise import Denoiser, DiracPosterior  # type: ignore[import-not-found]
from azula.linalg.covariance import (  # type: ignore[import-not-found]
    FullCovariance,
    IsotropicCovariance,
)
from azula.noise import Schedule, VPSchedule  # type: ignore[import-not-found]
from azula.sample import DDIMSampler  # type: ignore[import-not-found]
from torch import Tensor
from typing_extensions import override

from peers.peer import DATA, Peer, count_vjps
from posteria import Posterior
from posteria.diffusion import Counted

COSTS = {"DPS": 2, "PGDM": 2, "DiffPIR": 1, "MMPS": 3, "JFPS": 1, "TDS": 2}


class Exact(Denoiser):
    """An exact prior as a denoiser of azula, which has a scale `alpha` beside the noise level."""

    def __init__(self, prior: Any, schedule: Schedule) -> None:
        super().__init__()
        self.prior, self.schedule = prior, schedule

    @override
    def forward(self, x_t: Tensor, t: Tensor, **kwargs: Any) -> DiracPosterior:
        alpha, sigma = self.schedule(t)
        x = x_t / alpha
        count_vjps(x, self.prior)
        return DiracPosterior(mean=self.prior(x, float(sigma / alpha)))


def sampler(method: str, target: Posterior, prior: Any, steps: int, iterations: int = 1) -> Any:
    """A sampler of `COSTS` with the defaults of azula, or `DDIM` for draws of the prior, in so many steps.

    DDPM for DPS; DDIM for PGDM, whose default is deterministic; DDIM with `eta=1` for the guided denoisers,
    as in azula's tutorials. The schedule is variance preserving, the one of its introduction.
    """
    likelihood: Any = target.likelihood
    operator, y, std = likelihood.operator, target.y, float(likelihood.std)
    denoiser = Exact(prior, VPSchedule())
    options = {"steps": steps, "silent": True, "dtype": target.space.dtype}
    noise = IsotropicCovariance(torch.tensor(std**2, dtype=target.space.dtype))
    if method == "DDIM":
        return DDIMSampler(denoiser, **options)
    if method == "DPS":
        return guidance.DPSSampler(denoiser, y, operator, **options)
    if method == "PGDM":
        return guidance.PGDMSampler(denoiser, y, operator, operator.pinv, **options)
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
        guided = guidance.MMPSDenoiser(denoiser, y, operator, cov_y=noise, iterations=iterations)
    else:
        law: Any = target.prior
        data = law.sample(DATA, torch.Generator().manual_seed(0))
        signal = FullCovariance.from_data(data)
        guided = guidance.JFPSDenoiser(denoiser, y, operator, cov_y=noise, cov_x=signal)
    return DDIMSampler(guided, eta=1.0, **options)


class Solver(Peer):
    """Its rules as they come; no parameter is tuned.

    - `DPS` takes the norm of the residual over the whole batch: its samples depend on how many are drawn
      at once, here all of them.
    - `PGDM` is the rule for measurements without noise; it is not given the noise level.
    - `DiffPIR` weighs the prior by `lmbda=10`.
    - `MMPS` and `JFPS` solve their linear system with one iteration; `JFPS` is given the covariance of 4096
      draws of the prior.
    - `TDS` is one population of all the samples, resampled at every step. Its twist is that of azula's
      tutorial: Gaussian, with the variance that noise of level sigma / alpha gives the measurement.
    - All take the signal to have zero mean and unit variance where they begin, at a level where it matters little.
    """

    name = "azula"
    requirements: ClassVar = ["pip::azula==0.11.1"]
    parameters: ClassVar = {"method": list(COSTS)}
    costs = COSTS
    # Given the matrix of the operator.
    linear: ClassVar = {"PGDM", "DiffPIR", "TDS"}

    @override
    def samples(
        self, target: Posterior, prior: Counted, seeds: Sequence[int], steps: int
    ) -> Tensor:
        torch.manual_seed(seeds[0])
        chosen, space = sampler(self.method, target, prior, steps), target.space
        drawn: Tensor = chosen(chosen.init((len(seeds), *space.shape), dtype=space.dtype))
        return drawn
