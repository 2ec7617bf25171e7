"""The samplers of deepinv 0.5.0 (https://deepinv.github.io, BSD-3) on the problems of `benchmark_exact`.

benchopt run $PWD/benchmarks/benchmark_exact -s $PWD/benchmarks/peers/deepinv_samplers.py -d "toy[problem=banana]"
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from deepinv import optim, physics, sampling  # type: ignore[import-not-found]
from deepinv.models import Denoiser  # type: ignore[import-not-found]
from deepinv.optim.data_fidelity import L2  # type: ignore[import-not-found]
from torch import Tensor
from typing_extensions import override

from peers.peer import DATA, Peer, count_vjps
from posteria import GaussianLikelihood, Posterior
from posteria.core.errors import expect
from posteria.diffusion import Counted
from posteria.operators import LinearOperator

# Conjugate gradients may stop earlier.
COSTS = {"DPS": 2, "DPS annealed": 2, "PiGDM": 2, "MomentMatching": 6, "DiffPIR": 1}


class Units(NamedTuple):
    """A signal is `low + width * u`."""

    low: float
    width: float


PLAIN = Units(0.0, 1.0)


class Exact(Denoiser):
    """An exact prior as a denoiser of deepinv, which asks for float32."""

    def __init__(self, prior: Any, units: Units) -> None:
        super().__init__()
        self.prior, self.units = prior, units

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        """The estimate in deepinv's units; all of a batch have the same noise level."""
        low, width = self.units
        z: Any = x.to(self.prior.space.dtype)
        z = z if self.units == PLAIN else low + width * z
        count_vjps(z, self.prior)
        level = width * float(torch.as_tensor(sigma).flatten()[0])
        x0: Tensor = self.prior(z, level)
        return (x0 if self.units == PLAIN else (x0 - low) / width).to(x.dtype)


def sampler(
    method: str,
    target: Posterior,
    prior: Any,
    seeds: Sequence[int],
    steps: int,
    units: Units | None = None,
) -> Callable[[], Tensor]:
    """What draws samples `[n, *event]` by one of `COSTS`, or by `DDIM` from the prior, in so many steps.

    `units` are those in which `DiffPIR` gets the problem; None looks at draws of the prior. `DPIR` gives its one
    estimate, in its own eight steps; it takes the operator for one of pictures between 0 and 1.
    """
    n, space = len(seeds), target.space
    likelihood = expect(target.likelihood, GaussianLikelihood, by="deepinv")
    operator, std = likelihood.operator, float(torch.as_tensor(likelihood.std))
    units = units or PLAIN
    if method == "DiffPIR" and units == PLAIN:
        law: Any = target.prior
        data = law.sample(DATA, torch.Generator().manual_seed(0))
        units = Units(float(data.min()), float(data.max() - data.min()))
    denoiser = Exact(prior, units)
    shift = operator(torch.full(space.shape, units.low, dtype=space.dtype))
    # DPIR counts on the norm of the operator in pictures between 0 and 1; the others weigh it by the noise.
    gain, over = (1.0, units.width) if method == "DPIR" else (units.width, 1.0)
    y = ((target.y - shift) / over).expand(n, *operator.codomain.shape)

    def measure(u: Tensor, **kwargs: Any) -> Tensor:
        return operator(gain * u)

    noise = physics.GaussianNoise(std / over)
    if isinstance(operator, LinearOperator):
        adjoint = operator.adjoint
        world = physics.LinearPhysics(
            A=measure, A_adjoint=lambda v, **kwargs: gain * adjoint(v), noise_model=noise
        )
    else:
        world = physics.Physics(A=measure, noise_model=noise)
    torch.manual_seed(seeds[0])
    if method in {"DiffPIR", "DPIR"}:
        restore = (
            sampling.DiffPIR(denoiser, L2(), sigma=std, max_iter=steps)
            if method == "DiffPIR"
            else optim.DPIR(sigma=std / over, denoiser=denoiser)
        )
        return lambda: units.low + units.width * restore(y, world).to(space.dtype)
    fidelities = {
        "DPS": lambda: sampling.DPSDataFidelity(denoiser),
        "DPS annealed": lambda: sampling.DPSDataFidelity(denoiser, guidance="annealed"),
        "PiGDM": lambda: sampling.PiGDMDataFidelity(denoiser),
        "MomentMatching": lambda: sampling.MomentMatchingDataFidelity(denoiser),
    }
    fidelity = None if method == "DDIM" else fidelities[method]()
    solver = sampling.DDIMSolver if method == "DDIM" else sampling.DDPMSolver
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    model = sampling.PosteriorDiffusion(
        data_fidelity=fidelity,
        denoiser=denoiser,
        sde=sampling.VariancePreservingDiffusion(),
        solver=solver(times, rng=torch.Generator().manual_seed(seeds[0])),
        minus_one_one=False,
    )
    return lambda: model(y, world, x_init=(n, *space.shape)).to(space.dtype)


class Solver(Peer):
    """Its rules as they come, with the scheme of its DPS (variance preserving, DDPM); no parameter is tuned.

    - `DPS` has the weight 1 of its default, which its documentation says to be far too little for most
      problems; `DPS annealed` is the same with `guidance="annealed"`, whose natural weight is 1.
    - `PiGDM` takes the signal to have unit variance, as its paper does.
    - `PiGDM` and `MomentMatching` solve their linear system with 3 iterations of conjugate gradients, or
      fewer; each costs `MomentMatching` a vjp, so that it may spend less than its budget.
    - `DiffPIR` is for pictures between 0 and 1 and clips to that: it gets the problem in units in which 4096
      draws of the prior are.
    - The others get the problem in its own units, without the map from [0, 1] to [-1, 1] and without clipping.
    """

    name = "deepinv"
    requirements: ClassVar = ["pip::deepinv==0.5.0"]
    parameters: ClassVar = {"method": list(COSTS)}
    costs = COSTS
    linear: ClassVar = {"PiGDM", "MomentMatching", "DiffPIR"}

    @override
    def samples(
        self, target: Posterior, prior: Counted, seeds: Sequence[int], steps: int
    ) -> Tensor:
        return sampler(self.method, target, prior, seeds, steps)()
