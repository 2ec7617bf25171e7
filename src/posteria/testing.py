"""The test battery: what every prior, operator, likelihood and sampler must satisfy, ours or a third party's.

Each function raises `AssertionError` with a sentence at the first property that does not hold.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from .analytic import GaussianMixture
from .core.errors import CapabilityError
from .core.space import Space
from .diffusion.denoiser import Counted, Denoiser
from .likelihood import GaussianLikelihood, Likelihood
from .operators import Function, LinearOperator, Matrix, Operator, SVDOperator
from .samplers import rebuild_sampler
from .samplers.base import Sampler
from .target import Posterior

BATCHES: tuple[tuple[int, ...], ...] = ((), (2,), (2, 3))


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise AssertionError(sentence)


def _same(a: Tensor, b: Tensor, tolerance: float, sentence: str) -> None:
    """Equal up to `tolerance` times the larger of 1 and the largest entry."""
    _require(a.shape == b.shape, f"{sentence} (shapes {tuple(a.shape)} and {tuple(b.shape)})")
    if a.numel():
        error = (a - b).abs().max().item()
        scale = max(1.0, b.abs().max().item())
        _require(error <= tolerance * scale, f"{sentence} (they differ by {error:.2e})")


def _normal(generator: torch.Generator, space: Space, *batch: int) -> Tensor:
    x = torch.randn(*batch, *space.shape, dtype=torch.float64, generator=generator)
    return x.to(space.device, space.dtype)


def _rows(
    f: Callable[[Tensor], Tensor], x: Tensor, space: Space, tolerance: float, who: str
) -> None:
    """A function of a batch is a function of each row."""
    y = f(x)
    for i in range(len(x)):
        _same(f(x[i]), y[i], tolerance, f"{who}: a sample alone and in a batch differ")


def _difference(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor, h: float = 1e-5) -> Tensor:
    """Central differences of fourth order."""
    near = (f(x + h * v) - f(x - h * v)) / (2 * h)
    far = (f(x + 2 * h * v) - f(x - 2 * h * v)) / (4 * h)
    return (4 * near - far) / 3


def check_operator(
    operator: Operator, *, scale: float = 0.4, tolerance: float = 1e-6, seed: int = 0
) -> None:
    """Check an operator in float64.

    Batches of any shape act row by row; derivatives agree with differences and with each other; a
    linear operator is linear, with its adjoint, solve and pseudo-inverse; a decomposition is
    orthonormal and rebuilds the operator.

    Args:
        operator: The operator.
        scale: Standard deviation of the signals it is tried on.
        tolerance: Relative error allowed in derivatives and iterative solves.
        seed: Seed of the trials.
    """
    a, name = operator.to(torch.float64, operator.domain.device), type(operator).__name__
    domain, codomain = a.domain, a.codomain
    generator = torch.Generator().manual_seed(seed)
    for batch in BATCHES:
        x = scale * _normal(generator, domain, *batch)
        y = a(x)
        expected = (*batch, *codomain.shape)
        _require(
            tuple(y.shape) == expected,
            f"{name}: {tuple(x.shape)} went to {tuple(y.shape)}, not {expected}",
        )
        _require(y.dtype == x.dtype, f"{name}: {x.dtype} went to {y.dtype}")
        if batch:
            _rows(a, x, domain, 1e-12, name)
    x, v = scale * _normal(generator, domain, 2), _normal(generator, domain, 2)
    u = _normal(generator, codomain, 2)
    value, pullback = a.vjp(x)
    _same(value, a(x), 1e-12, f"{name}: vjp and the operator give different values")
    forward, back = a.jvp(x, v), pullback(u)
    _same(_difference(a, x, v), forward, tolerance, f"{name}: jvp is not the derivative")
    _same(
        codomain.dot(forward, u).flatten(),
        domain.dot(v, back).flatten(),
        1e-9,
        f"{name}: jvp and vjp are not adjoint",
    )
    if isinstance(a, LinearOperator):
        _check_linear(a, name, x, v, u, tolerance)
    if isinstance(a, SVDOperator):
        _check_svd(a, name, x, u)


def _check_linear(
    a: LinearOperator, name: str, x: Tensor, v: Tensor, u: Tensor, tolerance: float
) -> None:
    _same(a(2 * x - 3 * v), 2 * a(x) - 3 * a(v), 1e-10, f"{name} is not linear")
    left, right = a.codomain.dot(a(x), u).flatten(), a.domain.dot(x, a.adjoint(u)).flatten()
    _same(left, right, 1e-10, f"{name}: <A x, u> is not <x, A^T u>")
    z = a.normal_solve(v, 0.3)
    _same(a.adjoint(a(z)) + 0.3 * z, v, tolerance, f"{name}: normal_solve does not solve")
    # Without a decomposition the pseudo-inverse of an ill-posed operator is the limit of a slow
    # iteration.
    loose = tolerance if isinstance(a, SVDOperator) else 1e-3
    _same(a(a.pinv(a(x))), a(x), loose, f"{name}: A pinv(A x) is not A x")


def _check_svd(a: SVDOperator, name: str, x: Tensor, u: Tensor) -> None:
    s = a.singular_values
    _require(bool((s >= 0).all()), f"{name} has a negative singular value")
    _same(a.v(a.vt(x)), x, 1e-10, f"{name}: V V^T is not the identity")
    _same(a.u(a.ut(u)), u, 1e-10, f"{name}: U U^T is not the identity")
    for c, z, space in ((a.vt(x), x, a.domain), (a.ut(u), u, a.codomain)):
        _same(
            (c**2).sum(-1),
            space.dot(z, z).flatten(),
            1e-10,
            f"{name}: a factor is not orthonormal",
        )
    rebuilt = torch.zeros(len(x), a.codomain.size, dtype=x.dtype, device=x.device)
    rebuilt[:, : len(s)] = s.to(x) * a.vt(x)[:, : len(s)]
    _same(a.u(rebuilt), a(x), 1e-9, f"{name}: U S V^T is not A")


def check_denoiser(
    prior: Denoiser,
    *,
    sigmas: tuple[float, ...] = (0.05, 0.5, 5.0),
    tolerance: float | None = None,
    seed: int = 0,
) -> None:
    """Check a prior.

    Batches act row by row, a noise level is a number or one a sample, the dtype is kept, and `vjp`
    is the transpose of the derivative.

    Args:
        prior: The prior.
        sigmas: Noise levels to try.
        tolerance: Relative error allowed; by default 1e-8 in float64 and 1e-3 in float32.
        seed: Seed of the trials.
    """
    space = prior.space
    tolerance = tolerance or (1e-8 if space.dtype == torch.float64 else 1e-3)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for sigma in sigmas:
            _check_level(prior, sigma, tolerance, generator)


def _check_level(
    prior: Denoiser, sigma: float, tolerance: float, generator: torch.Generator
) -> None:
    space, name = prior.space, f"{type(prior).__name__} at level {sigma}"

    def denoise(z: Tensor) -> Tensor:
        return prior(z, sigma)

    x = (1 + sigma) * _normal(generator, space, 3)
    v, u = _normal(generator, space, 3), _normal(generator, space, 3)
    x0, pullback = prior.vjp(x, sigma)
    _require(x0.shape == x.shape and x0.dtype == x.dtype, f"{name} changes shape or dtype")
    _same(denoise(x), x0, tolerance, f"{name}: vjp and the denoiser give different values")
    for i in range(3):
        alone = denoise(x[i : i + 1])[0]
        _same(alone, x0[i], tolerance, f"{name}: a sample alone and in a batch differ")
    levels = torch.full((3,), sigma, dtype=torch.float64, device=space.device)
    _same(prior(x, levels), x0, tolerance, f"{name}: a level a sample and one level differ")
    h = 1e-5 if space.dtype == torch.float64 else 1e-3 * (1 + sigma)
    slope = _difference(denoise, x, v, h)
    left, right = space.dot(slope, u).flatten(), space.dot(v, pullback(u)).flatten()
    _same(left, right, max(30 * tolerance, 1e-6), f"{name}: vjp is not the derivative")


def check_likelihood(
    likelihood: Likelihood, x: Tensor, y: Tensor, *, tolerance: float = 1e-6
) -> None:
    """Check a likelihood at signals `x` `[n, *event]` in float64 and a measurement `y`.

    The score is the gradient of the log-density, and both act row by row.
    """
    likelihood, name = likelihood.to(x.dtype, x.device), type(likelihood).__name__
    value, score = likelihood.log_prob(y, x), likelihood.score(y, x)
    _require(
        tuple(value.shape) == (len(x),),
        f"{name}: log_prob has shape {tuple(value.shape)}, not {(len(x),)}",
    )
    for i in range(len(x)):
        _same(
            likelihood.log_prob(y, x[i : i + 1])[0],
            value[i],
            1e-10,
            f"{name}: log_prob knows its batch",
        )
        _same(
            likelihood.score(y, x[i : i + 1])[0], score[i], 1e-10, f"{name}: score knows its batch"
        )
    v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0)).to(x)
    slope = _difference(lambda z: likelihood.log_prob(y, z), x, v)
    _same(
        slope,
        (score * v).flatten(1).sum(1),
        tolerance,
        f"{name}: score is not the gradient of log_prob",
    )


def example_posterior(kind: str = "linear", dtype: torch.dtype = torch.float64) -> Posterior:
    """A small posterior on events of shape (2, 3), for trying samplers: `linear` or `nonlinear`."""
    generator = torch.Generator().manual_seed(5)
    space = Space((2, 3), torch.float64)
    means = 2 * _normal(generator, space, 3)
    factors = torch.randn(3, 6, 6, dtype=torch.float64, generator=generator) / 3
    covariances = factors @ factors.mT + 0.1 * torch.eye(6, dtype=torch.float64)
    prior = GaussianMixture(torch.ones(3), means.to(dtype), covariances.to(dtype))
    matrix = torch.randn(4, 6, dtype=torch.float64, generator=generator)
    operator: Operator = Matrix(matrix, (2, 3))
    if kind == "nonlinear":
        operator = Function(lambda x: torch.tanh(x.flatten(1) @ matrix.to(x).mT), (2, 3))
    y = operator(prior.sample(1, generator))[0]
    return Posterior(prior, GaussianLikelihood(operator, std=0.3), y)


def check_sampler(
    sampler: Sampler[Any],
    target: Any = None,
    *,
    batches: tuple[int, ...] = (1, 16, 256),
    tolerance: float = 1e-10,
) -> None:
    """Check a sampler on `target`, by default a mixture seen through a matrix.

    Sample i is a function of seed i alone, whatever the batch and its order; a run stopped at any
    step and resumed is the same run; every sample costs the same whatever the batch; the caller's
    gradient mode is left alone; the `repr` rebuilds the sampler; a target of the wrong kind is
    refused by name.

    Args:
        sampler: The sampler.
        target: What it draws from.
        batches: Batch sizes to compare.
        tolerance: Largest difference, relative to the larger of 1 and the largest entry.
    """
    target, name = example_posterior() if target is None else target, type(sampler).__name__
    largest = max(batches)
    seeds = list(range(100, 100 + largest))
    everything = sampler.sample(target, seeds=seeds)
    _require(bool(everything.isfinite().all()), f"{name} returned values that are not finite")
    for size in batches:
        chosen = seeds[-size:][::-1]
        part = sampler.sample(target, seeds=chosen)
        _same(
            part,
            everything[-size:].flip(0),
            tolerance,
            f"{name}: a sample depends on its batch of {size}",
        )
    few = [3, 7, 11]
    three, one = sampler.sample(target, seeds=few), sampler.sample(target, seeds=[7])
    _same(
        three[1],
        one[0],
        tolerance,
        f"{name}: sample 1 of seeds [3, 7, 11] is not that of seed [7]",
    )
    # Two particles of a population may be copies of one another.
    different = len(torch.unique(everything, dim=0))
    _require(different > largest / 4, f"{name}: different seeds gave the same sample")
    _check_resume(sampler, target, few, three, name)
    _check_cost(sampler, target, name)
    rebuilt = rebuild_sampler(repr(sampler), *_kinds(sampler))
    _require(rebuilt == sampler, f"{name}: its repr does not rebuild it")
    try:
        sampler.sample(object(), seeds=[0])
    except CapabilityError:
        return
    raise AssertionError(
        f"{name} did not refuse a target of the wrong kind with a CapabilityError"
    )


def _kinds(thing: Any) -> list[type]:
    """The dataclasses of which a configuration is made."""
    if not is_dataclass(thing):
        return []
    inner = [_kinds(getattr(thing, field.name)) for field in fields(thing)]
    return [type(thing), *chain.from_iterable(inner)]


def _check_resume(
    sampler: Sampler[Any], target: Any, seeds: list[int], whole: Tensor, name: str
) -> None:
    steps = sampler.schedule.steps
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            for state, rng in islice(sampler.checkpoints(target, seeds), 1 + steps // 2):
                kept = torch.is_grad_enabled() == enabled
                _require(kept, f"{name} changes the caller's gradient mode")
                reached = (state, rng.state().clone())
    *_, last = sampler.iterate(target, seeds, resume=reached)
    drawn = sampler.draws(target, last, seeds)
    _require(torch.equal(drawn, whole), f"{name}: a resumed run is not the same run")


def _check_cost(sampler: Sampler[Any], target: Any, name: str) -> None:
    counts = set()
    for n in (1, 4):
        counted = Counted(target.prior if isinstance(target, Posterior) else target)
        measured = (
            Posterior(counted, target.likelihood, target.y)
            if isinstance(target, Posterior)
            else counted
        )
        sampler.sample(measured, seeds=range(n))
        counts.add((counted.forward, counted.backward))
    _require(
        len(counts) == 1, f"{name}: the cost of a sample depends on its batch: {sorted(counts)}"
    )


__all__ = [
    "check_denoiser",
    "check_likelihood",
    "check_operator",
    "check_sampler",
    "example_posterior",
]
