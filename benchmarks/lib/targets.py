"""Targets whose law is known exactly: priors of several spectra, operators of several spectra, noise, curves."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

import posteria as po
from posteria.problems.pictures import pictures_exact
from posteria.problems.toy import F64, PROBLEMS, Problem

Prior = po.Gaussian | po.GaussianMixture


def _cosines(d: int) -> Tensor:
    """The orthonormal cosines of d points, one a column, from slow to fast."""
    k, x = torch.arange(d, dtype=F64), torch.arange(d, dtype=F64) + 0.5
    basis = torch.cos(math.pi * x[:, None] * k / d)
    return basis / basis.norm(dim=0)


def _covariance(kind: str, d: int) -> Tensor:
    """Of mean variance 1: white, or falling as 1 / k or k^-1.5 along ever faster cosines, as smooth signals do."""
    power = {"white": 0, "smooth": 1, "steep": 1.5}[kind]
    std = torch.arange(1, d + 1, dtype=F64) ** -power
    basis = _cosines(d)
    covariance = (basis * (std**2 / (std**2).mean())) @ basis.mT
    return (covariance + covariance.mT) / 2


def _prior(kind: str, d: int, scale: float, generator: torch.Generator) -> Prior:
    """A Gaussian, or `classes`: five smooth Gaussians about smooth means, three times as far apart as they are wide."""
    if kind != "classes":
        return po.Gaussian(torch.zeros(d, dtype=F64), scale**2 * _covariance(kind, d))
    covariance = _covariance("smooth", d)
    means = po.Gaussian(torch.zeros(d, dtype=F64), 0.9 * covariance).sample(5, generator)
    weights = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05], dtype=F64)
    return po.GaussianMixture(weights, scale * means, scale**2 * 0.1 * covariance.expand(5, d, d))


def _matrix(kind: str, d: int, generator: torch.Generator) -> Tensor:
    eye, t = torch.eye(d, dtype=F64), torch.arange(d)
    if kind == "mask":
        return eye[torch.randperm(d, generator=generator)[: d // 2].sort().values]
    if kind == "average":
        return eye.reshape(d // 4, 4, d).mean(1)
    if kind == "blur":
        circular = (t[:, None] - t).remainder(d)
        kernel = torch.exp(-(torch.minimum(circular, d - circular) ** 2) / (2 * 1.5**2)).to(F64)
        return kernel / kernel.sum(1, keepdim=True)
    if kind == "few":
        return torch.randn(4, d, dtype=F64, generator=generator) / math.sqrt(d)
    sums = torch.ones_like(eye).tril()[: 3 * d // 4]
    return {"identity": eye, "sums": sums, "differences": eye[1:] - eye[:-1]}[kind]


def linear(
    prior: str, operator: str, d: int, noise: float, scale: float = 1.0, *, seed: int
) -> Problem:
    """A linear measurement whose noise is a share of the standard deviation of what is measured."""
    generator = torch.Generator().manual_seed(seed)
    law = _prior(prior, d, scale, generator)
    a = _matrix(operator, d, generator)
    std = noise * float((a @ law.sample(4096, generator).mT).var(1).mean().sqrt())
    likelihood = po.GaussianLikelihood(po.operators.Matrix(a), std)
    truth = law.sample(1, generator)[0]
    y = a @ truth + std * torch.randn(len(a), dtype=F64, generator=generator)
    posterior = law.posterior(likelihood, y)
    return Problem(
        po.Posterior(law, likelihood, y), posterior, truth, float(law.log_evidence(likelihood, y))
    )


CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda z: (2 * z).tanh(),
    "square": lambda z: z**2,
    "counts": torch.exp,
    "laplace": lambda z: z,
}


class Curved:
    """Independent one-dimensional laws along `axes` `[d, d]`, columns of the length of the prior's standard deviation.

    `log_density` takes coordinates `[cells, d]` in units of these to the log-density of each, on a grid.
    """

    def __init__(self, axes: Tensor, log_density: Callable[[Tensor], Tensor]) -> None:
        self.axes = axes
        self.grid = torch.linspace(-6, 6, 4001, dtype=F64)
        values = log_density(self.grid[:, None].expand(-1, len(axes)))
        self.values, self.mass = values, (values - values.logsumexp(0)).exp().mT.contiguous()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws by inversion, `[n, d]`."""
        index = torch.multinomial(self.mass, n, replacement=True, generator=generator)
        jitter = torch.rand(index.shape, dtype=F64, generator=generator) - 0.5
        return (self.grid[index] + jitter * (self.grid[1] - self.grid[0])).mT @ self.axes.mT

    def log_prob(self, x: Tensor) -> Tensor:
        """Not normalised, at the nearest points of the grid."""
        z = torch.linalg.solve(self.axes, x.mT).mT
        index = torch.searchsorted(self.grid, z).clamp(max=len(self.grid) - 1)
        return self.values.gather(0, index).sum(-1)


def curved(curve: str, prior: str, d: int, noise: float, *, seed: int) -> Problem:
    """Curves of a Gaussian's principal components, or counts of their exponentials (noise is then 1 / peak)."""
    generator = torch.Generator().manual_seed(seed)
    covariance = _covariance(prior, d)
    values, basis = torch.linalg.eigh(covariance)
    law, axes = po.Gaussian(torch.zeros(d, dtype=F64), covariance), basis * values.sqrt()
    truth, function = law.sample(1, generator)[0], CURVES[curve]
    operator = po.operators.Function(lambda x: function(x @ (basis / values.sqrt())), law.space)
    clean = operator(truth[None])[0]
    likelihood: po.likelihood.Likelihood = po.GaussianLikelihood(operator, noise)
    if curve == "counts":
        likelihood, y = po.PoissonLikelihood(operator, 1 / noise), clean / noise
        y = torch.poisson(y, generator)
    elif curve == "laplace":
        likelihood = po.FunctionLikelihood(
            lambda y, x: -(y - operator(x)).abs().sum(-1) / noise, (d,)
        )
        u = torch.rand(d, dtype=F64, generator=generator) - 0.5
        y = clean - noise * u.sign() * (-2 * u.abs()).log1p()
    else:
        y = clean + noise * torch.randn(d, dtype=F64, generator=generator)

    def log_density(z: Tensor) -> Tensor:
        if curve == "counts":
            seen = y * z - z.exp() / noise
        elif curve == "laplace":
            seen = -(y - z).abs() / noise
        else:
            seen = -((y - function(z)) ** 2) / (2 * noise**2)
        return seen - z**2 / 2

    exact = Curved(axes, log_density)
    return Problem(po.Posterior(law, likelihood, y), exact, truth, math.nan)


@dataclass(frozen=True)
class Cell:
    """A kind of target: `build` makes one instance a seed; one that is held out only judges the advice."""

    name: str
    build: Callable[..., Problem]
    held_out: bool = False
    samples: int = 256


# Problems of `problems.toy`, in the table and held out of it.
IN = ("gaussian-half", "gaussian-correlated", "gmm25-8-1", "gmm25-8-4", "gmm25-80-4", "product")
OUT = ("gaussian-half-small", "gmm25-8-2", "banana", "radius")
# Linear measurements by prior, operators, size, noise and scale.
FIRST, LAST = "identity mask average sums differences blur few", "identity mask sums blur few"
LINEAR = (
    *((prior, FIRST, 32, 0.05, 1.0) for prior in ("smooth", "classes")),
    ("white", LAST, 32, 0.05, 1.0),
    *((prior, "mask sums", 32, 0.3, 1.0) for prior in ("smooth", "classes")),
    ("steep", "mask sums", 32, 0.1, 1.0),
    *((prior, "mask sums", 8, 0.1, 1.0) for prior in ("white", "classes")),
    *((prior, "mask sums", 32, 0.1, 0.2) for prior in ("smooth", "classes")),
)
LINEAR_OUT = (
    *((prior, "mask average sums blur", 48, 0.1, 1.0) for prior in ("smooth", "classes")),
    ("white", "sums", 16, 0.15, 1.0),
    ("steep", "blur", 16, 0.15, 1.0),
    ("classes", "average few", 24, 0.03, 2.0),
)
# Curves by prior, size and noise.
CURVED = (
    *((curve, "smooth", 24, 0.1) for curve in CURVES),
    ("tanh", "white", 8, 0.3),
    ("counts", "white", 2, 0.2),
)
CURVED_OUT = tuple((curve, "smooth", 40, 0.2) for curve in ("tanh", "counts", "laplace"))


def cells() -> dict[str, Cell]:
    """All of them by name."""
    found = [
        *_cells(LINEAR, IN, CURVED, ("box", "sr4"), held_out=False),
        *_cells(LINEAR_OUT, OUT, CURVED_OUT, ("random5",), held_out=True),
    ]
    return {cell.name: cell for cell in found}


def _cells(
    of_matrices: Iterable[tuple[str, str, int, float, float]],
    toys: Iterable[str],
    of_curves: Iterable[tuple[str, str, int, float]],
    tasks: Iterable[str],
    *,
    held_out: bool,
) -> Iterator[Cell]:
    for prior, operators, d, noise, scale in of_matrices:
        for operator in operators.split():
            name = f"{prior}-{operator}-{d}-{noise:g}" + f"-scale-{scale:g}" * (scale != 1)
            yield Cell(name, partial(linear, prior, operator, d, noise, scale), held_out)
    for name in toys:
        yield Cell(name, PROBLEMS[name], held_out)
    for curve, prior, d, noise in of_curves:
        name = f"{curve}-{prior}-{d}-{noise:g}"
        yield Cell(name, partial(curved, curve, prior, d, noise), held_out)
    for task in tasks:
        yield Cell(f"{task}-digits-784-0.1", partial(pictures_exact, task), held_out, samples=64)
