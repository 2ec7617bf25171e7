"""A mixture of probabilistic principal component analysers: exact answers in as many dimensions as pictures have."""

import math

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import CapabilityError, InputError, ShapeError, expect, require
from ..core.linalg import LinearMap, rows_times
from ..core.space import Space, constant, finite, real
from ..diffusion.denoiser import Condition, Conditional, Label, Scale, as_condition
from ..likelihood import LOG_TWO_PI, Likelihood
from .low_rank_posterior import PPCAPosterior

# A component that is less probable given a signal is left out of its estimate.
NEGLIGIBLE = 1e-24


class PPCAMixture(Conditional):
    """The prior `sum_k weights_k N(means_k, factors_k diag(variances_k) factors_k^T + noise_k I)`, exact in everything.

    A mixture of probabilistic principal component analysers (Tipping and Bishop, 1999,
    doi:10.1162/089976699300016728). Nothing of size `[d, d]` is ever formed: an evaluation costs two products
    with a matrix `[d, K r]`, and one with its Jacobian two more.

    Args:
        weights: `[K]`, above 0; they are normalised.
        means: `[K, *event]`; dtype and device of the law.
        factors: Leading axes of each component, orthonormal columns `[K, d, r]` of the flattened event.
        variances: What these have beyond the others, `[K, r]`, above 0.
        noise: The variance in all other directions, `[K]`, above 0.
        classes: The class of each component, integers from 0 on, `[K]`; without it the law knows no labels.

    Raises:
        ShapeError: If they do not fit.
        InputError: If a weight or variance is not above 0, the columns of a factor are not orthonormal, or a class is
            no integer of at least 0.
    """

    def __init__(
        self,
        weights: Tensor,
        means: Tensor,
        factors: Tensor,
        variances: Tensor,
        noise: Tensor,
        classes: Tensor | None = None,
    ) -> None:
        factors = finite(factors, "A factor")
        means = constant(means, "An array of means", factors.dtype)
        weights, variances, noise = (
            real(part, f"An array of {name}")
            for name, part in (("weights", weights), ("variances", variances), ("noise", noise))
        )
        self.space = Space(tuple(means.shape[1:]), means.dtype, means.device)
        k, d, r = len(means), self.space.size, variances.shape[-1] if variances.ndim else 0
        require(k > 0 and r > 0, "A mixture has at least one component, and each one axis.")
        shapes = [tuple(t.shape) for t in (weights, factors, variances, noise)]
        if shapes != [(k,), (k, d, r), (k, r), (k,)]:
            raise ShapeError(
                f"{k} means of {d} entries need weights ({k},), factors ({k}, {d}, {r}), variances ({k}, {r}) and "
                f"noise ({k},); got {shapes[0]}, {shapes[1]}, {shapes[2]} and {shapes[3]}."
            )
        for name, t in (("weights", weights), ("variances", variances), ("noise", noise)):
            if not ((t > 0) & t.isfinite()).all():
                raise InputError(f"The {name} of a mixture are above 0; here one is not.")
        self.means, self.factors = means, factors.to(means)
        self.weights = weights.to(means) / weights.to(means).sum()
        self.variances, self.noise = variances.to(means), noise.to(means)
        gram = self.factors.mT @ self.factors
        if not (gram - torch.eye(r, dtype=gram.dtype, device=gram.device)).abs().max() < 1e-4:
            raise InputError("The columns of a factor are orthonormal; here they are not.")
        self.classes = None if classes is None else _classes(classes, k).to(means.device)
        self.labels = 0 if self.classes is None else int(self.classes.max()) + 1
        flat = means.reshape(k, d)
        # Signals are taken relative to this, or squares of the larger part of them would cancel.
        self._center = self.weights @ flat
        self._means = (flat - self._center).contiguous()
        self._wide = self.factors.permute(1, 0, 2).reshape(d, k * r).contiguous()
        self._along = torch.einsum("kd,kdr->kr", self._means, self.factors)
        apart = self._means.square().sum(1)
        total = self.weights @ (self.variances.sum(1) + d * self.noise + apart)
        self.scale = Scale(self.mean, math.sqrt(float(total) / d))

    @property
    def mean(self) -> Tensor:
        """The mean, `[*event]`."""
        return self._center.reshape(self.space.shape)

    @override
    def given(self, condition: Condition | int) -> "PPCAMixture":
        label = expect(as_condition(condition), Label, by=self).label
        if self.classes is None:
            raise CapabilityError("This mixture has no classes, and so no member for a label.")
        own = self.classes == label
        if not own.any():
            raise InputError(f"There is no class {label}; the labels are 0 to {self.labels - 1}.")
        parts = (self.weights, self.means, self.factors, self.variances, self.noise)
        return PPCAMixture(*(part[own] for part in parts))

    def _at(self, x: Tensor, sigma: float | Tensor) -> "_AtLevel":
        return _AtLevel(self, self.space.flatten(x) - self._center, sigma)

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self.space.unflatten(self._at(x, sigma).denoised() + self._center)

    @override
    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        at = self._at(x, sigma)

        def pullback(v: Tensor) -> Tensor:
            return self.space.unflatten(at.jacobian(self.space.flatten(v)))

        return self.space.unflatten(at.denoised() + self._center), pullback

    @override
    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The gradient of the log-density of `x = x_0 + sigma * noise`; of the law itself at level 0."""
        return self.space.unflatten(self._at(x, sigma).score())

    def log_prob(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        """The log-density of `x_0 + sigma * noise` at `x`, `[*batch, *event]` to `[*batch]`."""
        return self._at(self.space.check(x, "x"), sigma).log_joint.logsumexp(-1).to(x.dtype)

    def responsibilities(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        """The probability of each component given `x_0 + sigma * noise`, `[*batch, K]`.

        At level 0 it is so too given a measurement besides, which says nothing of the component that `x_0` does not.
        """
        return self._at(self.space.check(x, "x"), sigma).share

    def noised(self, sigma: float) -> "PPCAMixture":
        """The law of `x_0 + sigma * noise`."""
        noise = self.noise + sigma**2
        return PPCAMixture(
            self.weights, self.means, self.factors, self.variances, noise, self.classes
        )

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` independent draws, `[n, *event]`."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.sample_of(which, generator)

    def sample_of(self, which: Tensor, generator: torch.Generator) -> Tensor:
        """A draw of each of the components `which` `[n]`, `[n, *event]`."""
        z = self._normal((len(which), self.variances.shape[1]), generator)
        x = self._normal((len(which), self.space.size), generator)
        z, x = self.variances[which].sqrt() * z, self.noise[which, None].sqrt() * x
        for k in sorted({*which.tolist()}):
            x[which == k] += z[which == k] @ self.factors[k].mT
        return self.means[which] + self.space.unflatten(x)

    def _normal(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        dtype, device = self.space.dtype, self.space.device
        return torch.randn(shape, generator=generator, dtype=dtype, device=device)

    def posterior(self, likelihood: Likelihood, y: Tensor) -> PPCAPosterior:
        """The law of x given one measurement `y` `[*measurement]`, for a linear operator and Gaussian noise.

        Raises:
            CapabilityError: If the likelihood is another, or so large that its operator is not decomposed.
            ShapeError: If `y` is not one measurement.
        """
        return PPCAPosterior(self, likelihood, y)

    def log_evidence(self, likelihood: Likelihood, y: Tensor) -> Tensor:
        """Log p(y), a scalar in float64."""
        return self.posterior(likelihood, y).log_evidence

    def __repr__(self) -> str:
        if self.about:
            return f"PPCAMixture({self.about})"
        k, r = self.variances.shape
        return f"PPCAMixture({k} components of rank {r}, event {self.space.shape})"


def _classes(classes: Tensor, k: int) -> Tensor:
    """One integer of at least 0 for each of `k` components."""
    classes = real(classes, "An array of classes")
    if tuple(classes.shape) != (k,):
        raise ShapeError(f"{k} components have classes ({k},); got {tuple(classes.shape)}.")
    whole = not (classes.is_floating_point() or classes.dtype == torch.bool)
    require(
        whole and bool((classes >= 0).all()), "Classes are integers from 0 on; here they are not."
    )
    return classes


class _AtLevel:
    """What is known of centred signals `[*batch, d]` at a level, of each component: `[*batch, K]` and `[*batch, K, r]`.

    With `z = factors^T (x - mean)`, `total = noise + sigma^2` and `along = variances / (variances + total)`, the
    score of component k is `(mean - x + factors along z) / total`, and E[x_0 | x, k] is `x + sigma^2` times it.
    """

    def __init__(self, law: PPCAMixture, x: Tensor, sigma: float | Tensor) -> None:
        self.law, self.x = law, x
        squared = sigma[..., None].to(x) ** 2 if isinstance(sigma, Tensor) else sigma**2
        self.total = law.noise + squared
        self.rest, self.kept = squared / self.total, law.noise / self.total
        wide = self.total[..., None]
        self.along = law.variances / (law.variances + wide)
        self.z = self._inward(x) - law._along
        # In float64 because the expanded square cancels.
        cross = rows_times(x.double(), law._means.double().mT)
        square = x.double().square().sum(-1, keepdim=True) - 2 * cross
        square = square + law._means.double().square().sum(-1)
        square = (square - (self.along * self.z**2).sum(-1)) / self.total
        volume = (wide.double() + law.variances).log().sum(-1)
        volume = volume + (law.space.size - law.variances.shape[1]) * self.total.double().log()
        log_weights = law.weights.double().log() - law.space.size * LOG_TWO_PI / 2
        self.log_joint = log_weights - (square + volume) / 2
        share = self.log_joint.softmax(-1)
        # Products with numbers below the normal range take ten times as long.
        self.share = torch.where(share > NEGLIGIBLE, share, 0).to(x.dtype)

    def _inward(self, v: Tensor) -> Tensor:
        return rows_times(v, self.law._wide).reshape(*v.shape[:-1], *self.law.variances.shape)

    def _outward(self, z: Tensor) -> Tensor:
        return rows_times(z.flatten(-2), self.law._wide.mT)

    def denoised(self) -> Tensor:
        """E[x_0 | x]."""
        rest = self.share * self.rest
        inside = self._outward(rest[..., None] * self.along * self.z)
        kept = (self.share * self.kept).sum(-1, keepdim=True)
        return kept * self.x + rows_times(rest, self.law._means) + inside

    def score(self) -> Tensor:
        """The gradient of the log-density."""
        pull = self.share / self.total
        inside = self._outward(pull[..., None] * self.along * self.z)
        return rows_times(pull, self.law._means) - pull.sum(-1, keepdim=True) * self.x + inside

    def jacobian(self, v: Tensor) -> Tensor:
        """The product with the Jacobian of the denoiser, which is symmetric: the covariance given x over sigma^2.

        Within components it is `kept v + rest factors along factors^T v`; between them the covariance of
        their E[x_0 | x, k] and their scores.
        """
        law, zv = self.law, self._inward(v)
        along = self.along * self.z
        slope = rows_times(v, law._means.mT) - (self.x * v).sum(-1, keepdim=True)
        slope = self.share * (slope + (along * zv).sum(-1)) / self.total
        # The sum is 0 but for rounding, which would be as much of E[x_0 | x].
        slope = slope - self.share * slope.sum(-1, keepdim=True)
        kept = (self.share * self.kept).sum(-1, keepdim=True)
        rest = slope * self.rest
        inside = (self.share * self.rest)[..., None] * self.along * zv + rest[..., None] * along
        own = kept * v + (slope * (self.kept - kept)).sum(-1, keepdim=True) * self.x
        return own + rows_times(rest, law._means) + self._outward(inside)
