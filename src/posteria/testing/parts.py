"""What every prior, operator and likelihood must satisfy."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from ..core.errors import InputError, expect
from ..core.space import Space
from ..diffusion.denoiser import Denoiser
from ..diffusion.network import Network
from ..diffusion.reading import misfits
from ..likelihood import Likelihood
from ..operators import LinearOperator, Operator, SVDOperator

BATCHES: tuple[tuple[int, ...], ...] = ((), (2,), (2, 3))


def demand(condition: bool, sentence: str) -> None:
    """Raise `AssertionError` unless a condition holds."""
    if not condition:
        raise AssertionError(sentence)


def same(a: Tensor, b: Tensor, tolerance: float, sentence: str, unit: float = 1.0) -> None:
    """Equal up to `tolerance` times the larger of `unit` and the largest entry."""
    demand(a.shape == b.shape, f"{sentence} (shapes {tuple(a.shape)} and {tuple(b.shape)})")
    if a.numel():
        error = (a - b).abs().max().item()
        scale = max(unit, b.abs().max().item())
        demand(error <= tolerance * scale, f"{sentence} (they differ by {error:.2e})")


def normal(generator: torch.Generator, space: Space, *batch: int) -> Tensor:
    """Standard normal signals."""
    x = torch.randn((*batch, *space.shape), dtype=torch.float64, generator=generator)
    return x.to(space.device, space.dtype)


def _rows(f: Callable[[Tensor], Tensor], x: Tensor, tolerance: float, who: str) -> None:
    """A function of a batch is a function of each row."""
    y = f(x)
    for i in range(len(x)):
        same(f(x[i]), y[i], tolerance, f"{who}: a sample alone and in a batch differ", _largest(y))


def _difference(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor, h: float = 1e-5) -> Tensor:
    """Central differences of fourth order."""
    near = (f(x + h * v) - f(x - h * v)) / (2 * h)
    far = (f(x + 2 * h * v) - f(x - 2 * h * v)) / (4 * h)
    return (4 * near - far) / 3


def check_operator(
    operator: Operator, *, scale: float = 0.4, tolerance: float = 1e-6, seed: int = 0
) -> None:
    """Check an operator in float64, with a relative error allowed in derivatives and iterative solves.

    Batches of any shape act row by row; derivatives agree with differences and with each other; a
    linear operator is linear, with its adjoint, solves and pseudo-inverse; a decomposition is
    orthonormal and rebuilds the operator. `scale` is the standard deviation of the signals it is tried on.
    Errors are relative to what the operator gives, whatever its gain and size.

    A function that fails in float64, such as a layer of a network, is checked in its own float32, up to 1e-4, and 1e-3
    in solves and in 19 of 20 entries of derivatives; a warning says so.
    """
    expect(operator, Operator, by="check_operator")
    a, name = _in_double(operator), type(operator).__name__
    double = a.domain.dtype == torch.float64
    rounding, step = (0.0, 1e-5) if double else (1e-4, 1e-2)
    tolerance = max(tolerance, 10 * rounding)
    domain, codomain = a.domain, a.codomain
    generator = torch.Generator().manual_seed(seed)
    for batch in BATCHES:
        x = scale * normal(generator, domain, *batch)
        y, expected = a(x), (*batch, *codomain.shape)
        went = f"{name}: {tuple(x.shape)} went to {tuple(y.shape)}, not {expected}"
        demand(tuple(y.shape) == expected, went)
        demand(y.dtype == x.dtype, f"{name}: {x.dtype} went to {y.dtype}")
        if batch:
            _rows(a, x, max(1e-12, rounding), name)
    x, v = scale * normal(generator, domain, 2), normal(generator, domain, 2)
    u = normal(generator, codomain, 2)
    value, pullback = a.vjp(x)
    unit = _largest(value)
    same(
        value,
        a(x),
        max(1e-12, rounding),
        f"{name}: vjp and the operator give different values",
        unit,
    )
    forward, back = a.jvp(x, v), pullback(u)
    slope = _difference(a, x, v, step)
    if not double:
        # So long a step crosses kinks, such as those of clipping, in a few entries, which are left out.
        off = (slope - forward).abs()
        slope = torch.where(off > off.flatten().quantile(0.95), forward, slope)
    same(slope, forward, tolerance, f"{name}: jvp is not the derivative", unit)
    left, right = codomain.dot(forward, u).flatten(), domain.dot(v, back).flatten()
    lengths = _largest(codomain.norm(forward) * codomain.norm(u))
    same(left, right, max(1e-9, rounding), f"{name}: jvp and vjp are not adjoint", lengths)
    if isinstance(a, LinearOperator):
        _check_linear(a, name, x, v, u, tolerance, max(1e-10, rounding))
    if isinstance(a, SVDOperator):
        _check_svd(a, name, x, u, max(1e-10, rounding))


def _in_double(operator: Operator) -> Operator:
    """The operator in float64, or as it is if it fails there and not in its own dtype."""
    own, double = operator.domain, operator.to(torch.float64, operator.domain.device)
    try:
        double(double.domain.zeros())
    except (RuntimeError, InputError):
        if own.dtype == torch.float64:
            raise
        operator(own.zeros())
        message = f"{operator.label} takes no float64: it is checked in {own.dtype}, up to 1e-3."
        warnings.warn(message, stacklevel=3)
        return operator
    return double


def _largest(x: Tensor) -> float:
    return x.abs().max().item() if x.numel() else 0.0


def _squared_gain(a: LinearOperator, v: Tensor) -> float:
    """The largest eigenvalue of `A^T A`, roughly, by the power method; 1 if it is 0."""
    for _ in range(5):
        v = a.adjoint(a(a.domain.unit(v)))
    return _largest(a.domain.norm(v)) or 1.0


def _check_linear(
    a: LinearOperator, name: str, x: Tensor, v: Tensor, u: Tensor, tolerance: float, exact: float
) -> None:
    y = a(x)
    unit = _largest(y)
    same(a(2 * x - 3 * v), 2 * y - 3 * a(v), exact, f"{name} is not linear", unit)
    left, right = a.codomain.dot(y, u).flatten(), a.domain.dot(x, a.adjoint(u)).flatten()
    lengths = _largest(a.codomain.norm(y) * a.codomain.norm(u))
    same(left, right, exact, f"{name}: <A x, u> is not <x, A^T u>", lengths)
    # Of the norm of what is solved, and with a shift in units of the gain, or one would ask for the inverse of A^T A.
    stated, gain = max(tolerance, 10 * a.tolerance), _squared_gain(a, v)
    z, wrong = a.normal_solve(v, 0.3 * gain), f"{name}: normal_solve does not solve"
    same(a.adjoint(a(z)) + 0.3 * gain * z, v, stated, wrong, _largest(a.domain.norm(v)))
    z, wrong = a.innovation_solve(u, 0.3 * gain, 0.7), f"{name}: innovation_solve does not solve"
    left = 0.3 * gain * z + 0.7 * a(a.adjoint(z))
    same(left, u, stated, wrong, _largest(a.codomain.norm(u)))
    again, wrong = a(a.pinv(y)), f"{name}: A pinv(A x) is not A x"
    if isinstance(a, SVDOperator):
        same(again, y, tolerance, wrong, unit)
    else:
        # The limit of an iteration that is slow in directions that the operator hardly sees.
        y = a.adjoint(y)
        same(a.adjoint(again), y, 1e-3, wrong, _largest(y))


def _check_svd(a: SVDOperator, name: str, x: Tensor, u: Tensor, exact: float) -> None:
    s = a.singular_values
    demand(bool((s >= 0).all()), f"{name} has a negative singular value")
    same(a.v(a.vt(x)), x, exact, f"{name}: V V^T is not the identity")
    same(a.u(a.ut(u)), u, exact, f"{name}: U U^T is not the identity")
    for c, z, space in ((a.vt(x), x, a.domain), (a.ut(u), u, a.codomain)):
        length = space.dot(z, z).flatten()
        same((c**2).sum(-1), length, exact, f"{name}: a factor is not orthonormal")
    c = a.vt(x)[..., : len(s)]
    same(a.vt_seen(x), c, exact, f"{name}: vt_seen is not the first part of vt")
    filled = torch.nn.functional.pad(c, (0, a.domain.size - len(s)))
    same(a.v_seen(c), a.v(filled), exact, f"{name}: v_seen is not V of the first coefficients")
    rebuilt = torch.zeros(len(x), a.codomain.size, dtype=x.dtype, device=x.device)
    rebuilt[:, : len(s)] = s.to(x) * a.vt(x)[:, : len(s)]
    y = a(x)
    same(a.u(rebuilt), y, 10 * exact, f"{name}: U S V^T is not A", _largest(y))


# Relative errors allowed, by the precision in which a prior computes.
TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def check_denoiser(
    prior: Denoiser,
    *,
    sigmas: tuple[float, ...] = (0.05, 0.5, 5.0),
    tolerance: float | None = None,
    seed: int = 0,
) -> None:
    """Check a prior on what samplers ask of it.

    Batches of any shape act row by row; a noise level is a number, or a tensor with one for each
    sample in the dtype of the signals; the shape and the dtype are kept; and `vjp` is linear, whatever the size of
    what it is given, and the transpose of the derivative (which in half precision no difference can tell).

    Args:
        prior: The prior.
        sigmas: Noise levels to try.
        tolerance: Relative error allowed; by default 1e-8 in float64, 1e-3 in float32, and for a network in
            half precision 2e-2 (float16) or 1e-1 (bfloat16).
        seed: Seed of the trials.

    Raises:
        AssertionError: At the first property that does not hold, with a sentence that says which.
    """
    expect(prior, Denoiser, by="check_denoiser")
    precision = prior.dtype if isinstance(prior, Network) else prior.space.dtype
    tolerance = tolerance or TOLERANCES[precision]
    generator = torch.Generator().manual_seed(seed)
    # A GPU's convolutions in TF32 are too coarse for differences.
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for sigma in sigmas:
            _check_level(prior, sigma, tolerance, generator)
        _check_levels(prior, sigmas, tolerance, generator)
        if precision in {torch.float64, torch.float32}:
            for sigma in sigmas:
                _check_slope(prior, sigma, tolerance, generator)


def check_prior(prior: Denoiser, examples: Tensor) -> dict[float, float]:
    """Check that a network is read as what it is, by four evaluations of each of a few examples.

    A denoiser comes nearer to a clean signal than doing nothing, and than knowing the spread alone. Read as predicting
    something else, with the wrong sign or table, or of data of another range, a network does not, at some level.

    Args:
        prior: The prior, or a member of a family.
        examples: A few signals of the kind that it draws, `[n, *event]`; for a latent prior, encoded ones.

    Returns:
        By level, what `posteria.diffusion.misfits` says: at most 0.92 for the priors that ship, and at least 2.3 at
        some level where they are misread as predicting something else.

    Raises:
        AssertionError: If one of them is 1 or more.
    """
    found = misfits(prior, examples)
    numbers = ", ".join(f"{value:.2f} at level {sigma:.3g}" for sigma, value in found.items())
    demand(
        max(found.values()) < 1,
        f"{type(prior).__name__} does not denoise its examples: it leaves {numbers} of what knowing nothing leaves. "
        "Its parametrisation, noise table, or the range of its data is another",
    )
    return found


def _denoised(prior: Denoiser, x: Tensor, sigma: float | Tensor) -> Tensor:
    """What a prior makes of signals, with whatever it raises in a sentence."""
    level = str(sigma)
    if isinstance(sigma, Tensor):
        level = f"a tensor {tuple(sigma.shape)} in {sigma.dtype}"
    name = f"{type(prior).__name__} at x {tuple(x.shape)} in {x.dtype} with the level {level}"
    try:
        x0 = prior(x, sigma)
    except Exception as error:
        raise AssertionError(f"{name} fails: {type(error).__name__}: {error}") from error
    demand(isinstance(x0, Tensor), f"{name} gives a {type(x0).__name__}, not a tensor")
    demand(
        x0.shape == x.shape and x0.dtype == x.dtype,
        f"{name} changes shape or dtype: it gives {tuple(x0.shape)} in {x0.dtype}",
    )
    return x0


def _check_level(
    prior: Denoiser, sigma: float, tolerance: float, generator: torch.Generator
) -> None:
    """One level, as a number and as a tensor, and the map that `vjp` gives."""
    space, name = prior.space, f"{type(prior).__name__} at level {sigma}"
    x, u = (1 + sigma) * normal(generator, space, 3), normal(generator, space, 3)
    x0 = _denoised(prior, x, sigma)
    for i in range(3):
        alone = _denoised(prior, x[i : i + 1], sigma)[0]
        same(alone, x0[i], tolerance, f"{name}: a sample alone and in a batch differ")
    level = torch.full((3,), sigma, dtype=space.dtype, device=space.device)
    several = _denoised(prior, x, level)
    same(several, x0, tolerance, f"{name}: a level a sample and one level differ")
    value, pullback = prior.vjp(x, sigma)
    same(value, x0, tolerance, f"{name}: vjp and the denoiser give different values")
    large = 2.0**20
    back, scaled = pullback(u), pullback(large * u) / large
    same(scaled, back, tolerance, f"{name}: vjp of a large vector is not that of a small one")


def _check_levels(
    prior: Denoiser, sigmas: tuple[float, ...], tolerance: float, generator: torch.Generator
) -> None:
    """Several levels at once, and no batch or two axes of it."""
    space, name, n = prior.space, type(prior).__name__, len(sigmas)
    levels = torch.tensor(sigmas, dtype=space.dtype, device=space.device)
    x = normal(generator, space, 2, n)
    x0 = _denoised(prior, x, levels.expand(2, n))
    for i, sigma in enumerate(sigmas):
        one = _denoised(prior, x[0, i], levels[i])
        same(one, x0[0, i], tolerance, f"{name}: levels {sigmas} at once and level {sigma} differ")


def _check_slope(
    prior: Denoiser, sigma: float, tolerance: float, generator: torch.Generator
) -> None:
    """The map that `vjp` gives is the transpose of the derivative."""
    space, name = prior.space, f"{type(prior).__name__} at level {sigma}"
    x = (1 + sigma) * normal(generator, space, 3)
    v, u = normal(generator, space, 3), normal(generator, space, 3)
    back = prior.vjp(x, sigma)[1](u)
    h = 1e-5 if space.dtype == torch.float64 else 1e-3 * (1 + sigma)
    slope = _difference(lambda z: prior(z, sigma), x, v, h)
    left, right = space.dot(slope, u).flatten(), space.dot(v, back).flatten()
    same(left, right, max(30 * tolerance, 1e-6), f"{name}: vjp is not the derivative")


def check_likelihood(
    likelihood: Likelihood, x: Tensor, y: Tensor, *, tolerance: float = 1e-6
) -> None:
    """Check a likelihood at signals `x` `[n, *event]` in float64 and a measurement `y`.

    The score is the gradient of the log-density, and both act row by row.
    """
    expect(likelihood, Likelihood, by="check_likelihood")
    demand(
        x.dtype == torch.float64 and x.ndim > 0,
        f"Differences are taken of signals [n, *event] in float64; these are {tuple(x.shape)} in {x.dtype}",
    )
    likelihood, name = likelihood.to(x.dtype, x.device), type(likelihood).__name__
    value, score = likelihood.log_prob(y, x), likelihood.score(y, x)
    found = tuple(value.shape)
    demand(found == (len(x),), f"{name}: log_prob has shape {found}, not {(len(x),)}")
    for i, part in enumerate(torch.split(x, 1)):
        alone = likelihood.log_prob(y, part)[0], likelihood.score(y, part)[0]
        same(alone[0], value[i], 1e-10, f"{name}: log_prob knows its batch")
        same(alone[1], score[i], 1e-10, f"{name}: score knows its batch")
    v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0)).to(x)
    slope, along = _difference(lambda z: likelihood.log_prob(y, z), x, v), score * v
    words = f"{name}: score is not the gradient of log_prob"
    same(slope, along.flatten(1).sum(1), tolerance, words)
