"""The posterior of a `PPCAMixture` under a linear measurement with Gaussian noise."""

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..core.errors import CapabilityError, require
from ..core.space import Space
from ..likelihood import LOG_TWO_PI, Likelihood
from ..operators.base import LinearOperator, SVDOperator
from .gaussian import measured

if TYPE_CHECKING:
    from .low_rank import PPCAMixture

F64 = torch.float64
# Most entries of a measurement for which an operator is decomposed.
LARGEST = 4096
# Components of a smaller weight are in the weights, and not in moments.
NEGLIGIBLE = 1e-14


class Whitened:
    """A measurement in a basis in which `A A^T` is diagonal and the noise white: `y ~ N(A x, I)`, in float64.

    Attributes:
        y: `[m]`.
        values: The diagonal of `A A^T`, `[m]`.
        log_scale: What the change of units adds to minus the log-density of y.
    """

    def __init__(self, likelihood: Likelihood, y: Tensor, space: Space, by: object) -> None:
        space = Space(space.shape, F64, space.device)
        self.operator, std, y = measured(likelihood, y, space, by)
        self.space, self._std = space, std
        m = self.operator.codomain.size
        self._basis: Tensor | None = None
        if isinstance(self.operator, SVDOperator) and bool((std == std.flatten()[0]).all()):
            values = self.operator.singular_values.to(space.device, F64)[:m]
            values = torch.nn.functional.pad(values, (0, m - len(values)))
            self.values = values**2 / std.flatten()[0] ** 2
        else:
            self.values, self._basis = _decomposed(self.operator, std, by)
        self.log_scale = float(std.log().sum()) + m * LOG_TWO_PI / 2
        self.y = self._turned(y)

    def _turned(self, y: Tensor) -> Tensor:
        if self._basis is None:
            return _svd(self.operator).ut(y) / self._std.flatten()[0]
        return self.operator.codomain.flatten(y / self._std) @ self._basis

    def __call__(self, x: Tensor) -> Tensor:
        """`A x`, `[n, d]` to `[n, m]`."""
        return self._turned(self.operator.apply(self.space.unflatten(x)))

    def adjoint(self, w: Tensor) -> Tensor:
        """`A^T w`, `[n, m]` to `[n, d]`."""
        if self._basis is None:
            y = _svd(self.operator).u(w) / self._std.flatten()[0]
        else:
            y = self.operator.codomain.unflatten(w @ self._basis.mT) / self._std
        return self.space.flatten(self.operator.apply_adjoint(y))


def _svd(operator: LinearOperator) -> SVDOperator:
    if not isinstance(operator, SVDOperator):
        raise TypeError(operator)
    return operator


def _decomposed(operator: LinearOperator, std: Tensor, by: object) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of `A A^T` in units of the noise."""
    space = operator.codomain
    if space.size > LARGEST:
        raise CapabilityError(
            f"{type(by).__name__} decomposes measurements of at most {LARGEST} entries, or those by an SVDOperator "
            f"with one noise level; {operator!r} has {space.size}."
        )
    eye = torch.eye(space.size, dtype=F64, device=std.device)
    rows = [
        operator.apply(operator.apply_adjoint(space.unflatten(part) / std)) / std
        for part in torch.split(eye, 64)
    ]
    square = space.flatten(torch.cat(rows))
    values, vectors = torch.linalg.eigh((square + square.mT) / 2)
    return values.clamp(min=0), vectors


class Axes(NamedTuple):
    """Leading principal axes of a law.

    Attributes:
        directions: Orthonormal, `[n, d]` of the flattened event in float64.
        variances: The law's variance along each, `[n]`, falling.
    """

    directions: Tensor
    variances: Tensor


class PPCAPosterior:
    """The law of x given one measurement of a `PPCAMixture`, in closed form.

    With the measurement in units of its noise and in a basis in which `A A^T` is diagonal, the covariance of y given a
    component is diagonal plus low rank, and so its inverse and determinant need matrices `[r, r]` alone.

    Args:
        prior: The mixture.
        likelihood: A linear operator with Gaussian noise, of which levels may differ from entry to entry.
        y: One measurement.

    Attributes:
        weights: Of the components given y, `[K]` in float64.
        log_evidence: Log p(y), a scalar in float64.
        space: Of its draws.

    Raises:
        CapabilityError: If the likelihood is another, or an operator without a decomposition is too large for one.
        ShapeError: If `y` is not one measurement.
    """

    weights: Tensor
    log_evidence: Tensor
    _means: Tensor
    _mean: Tensor

    def __init__(self, prior: "PPCAMixture", likelihood: Likelihood, y: Tensor) -> None:
        self.prior, self.likelihood, self.y, self.space = prior, likelihood, y, prior.space
        self._seen = seen = Whitened(likelihood, y, prior.space, prior)
        k, d, r = prior.factors.shape
        factors = prior.factors.mT.reshape(k * r, d)
        inside = torch.cat([seen(part.double()) for part in torch.split(factors, 512)])
        self._variances, self._noise = prior.variances.double(), prior.noise.double()
        # Of the measured factors [K, m, r], and of the diagonal part of the covariance of y [K, m].
        self._inside = inside.reshape(k, r, -1).mT
        self._diagonal = self._noise[:, None] * seen.values + 1
        self._weighted = self._inside / self._diagonal[..., None]
        small = self._inside.mT @ self._weighted + torch.diag_embed(1 / self._variances)
        self._root = torch.linalg.cholesky(small)
        flat = prior.space.flatten(prior.means).double()
        residual = seen.y - seen(flat)
        square = (residual * self._solve(slice(None), residual[:, None])[:, 0]).sum(-1)
        volume = self._diagonal.log().sum(-1) + self._variances.log().sum(-1)
        volume = volume + 2 * self._root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_joint = prior.weights.double().log() - (square + volume) / 2 - seen.log_scale
        self.log_evidence = log_joint.logsumexp(-1)
        self.weights = log_joint.softmax(-1)
        active = (self.weights > NEGLIGIBLE).nonzero()[:, 0]
        self._active, self._share = active, self.weights[active] / self.weights[active].sum()
        w = self._solve(active, residual[active, None])[:, 0]
        within = torch.einsum("kmr,km->kr", self._inside[active], w) * self._variances[active]
        self._factors = prior.factors[active].double()
        shift = torch.einsum("kdr,kr->kd", self._factors, within)
        self._means = flat[active] + shift + self._noise[active, None] * seen.adjoint(w)
        self._mean = self._share @ self._means

    def _solve(self, which: Tensor | slice, v: Tensor) -> Tensor:
        """The inverse covariance of y given components, by Woodbury's identity: `[k, n, m]` to itself."""
        diagonal, weighted = self._diagonal[which, None], self._weighted[which]
        inner = torch.cholesky_solve((v @ weighted).mT, self._root[which])
        return v / diagonal - (weighted @ inner).mT

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` independent draws, `[n, *event]`, by Matheron's rule."""
        return self.sample_with_components(n, generator)[0]

    def sample_with_components(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`n` independent draws, `[n, *event]`, and the component of each, `[n]`."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        x = self.space.flatten(self.prior.sample_of(which, generator)).double()
        seen, shape = self._seen, (n, len(self._seen.y))
        noise = torch.randn(shape, generator=generator, dtype=F64, device=self.space.device)
        residual, w = seen.y - seen(x) - noise, torch.empty_like(noise)
        for k in sorted({*which.tolist()}):
            own = which == k
            w[own] = self._solve(slice(k, k + 1), residual[own][None])[0]
            inner = (w[own] @ self._inside[k]) * self._variances[k]
            x[own] += inner @ self.prior.factors[k].mT.double()
        x = x + self._noise[which, None] * seen.adjoint(w)
        return self.space.unflatten(x).to(self.space.dtype), which

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density, `[*batch, *event]` to `[*batch]`."""
        joint = self.prior.log_prob(x) + self.likelihood.log_prob(self.y, x)
        return joint - self.log_evidence.to(joint)

    @property
    def mean(self) -> Tensor:
        """The mean, `[*event]`."""
        return self.space.unflatten(self._mean).to(self.space.dtype)

    def covariance_times(self, v: Tensor) -> Tensor:
        """The product of the covariance with flattened signals, `[n, d]` to `[n, d]` in float64."""
        v, active, share = v.double(), self._active, self._share
        inside, noise = self._inside[active], self._noise[active]
        variances = self._variances[active, None]
        along = torch.einsum("nd,kdr->knr", v, self._factors) * variances
        w = self._solve(active, along @ inside.mT + noise[:, None, None] * self._seen(v))
        along = share[:, None, None] * (along - (w @ inside) * variances)
        within = torch.einsum("knr,kdr->nd", along, self._factors) + (share @ noise) * v
        within = within - self._seen.adjoint(torch.einsum("k,knm->nm", share * noise, w))
        apart = self._means - self._mean
        return within + ((v @ apart.mT) * share) @ apart

    def axes(self, n: int = 20, iterations: int = 12, seed: int = 0) -> Axes:
        """The `n` leading principal axes, by subspace iteration from random directions.

        Variances are the law's along the directions that are given, however far the iteration has come.
        """
        d = self.space.size
        require(1 <= n <= d, f"A law of {d} entries has 1 to {d} axes; n={n} is not.")
        generator = torch.Generator().manual_seed(seed)
        block = torch.randn(d, min(d, n + 10), dtype=F64, generator=generator)
        block = block.to(self.space.device)
        for _ in range(iterations):
            block = torch.linalg.qr(self.covariance_times(block.mT).mT).Q
        matrix = block.mT @ self.covariance_times(block.mT).mT
        values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
        turned = (block @ vectors).mT.flip(0)[:n]
        return Axes(turned.contiguous(), values.flip(0)[:n])

    @cached_property
    def std(self) -> Tensor:
        """Standard deviation of each entry, `[*event]`."""
        eye = torch.eye(self.space.size, dtype=F64, device=self.space.device)
        rows = [(self.covariance_times(part) * part).sum(1) for part in torch.split(eye, 64)]
        return self.space.unflatten(torch.cat(rows).sqrt()).to(self.space.dtype)

    def __repr__(self) -> str:
        return f"PPCAPosterior({len(self._active)} components of weight, event {self.space.shape})"
