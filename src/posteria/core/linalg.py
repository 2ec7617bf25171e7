"""Derivatives and linear solves. Samplers, rules and operators never use `requires_grad` themselves."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .errors import CapabilityError, NoDerivativeError
from .space import Space

try:
    # What `torch.autograd.grad` calls after it has compared shapes as symbols, for which it imports SymPy: a third of
    # a second and 30 MiB in every process, and ten microseconds a call. It is no public name, and may go.
    from torch.autograd.graph import _engine_run_backward as _engine
except ImportError:  # pragma: no cover
    _engine = None  # type: ignore[assignment]

LinearMap = Callable[[Tensor], Tensor]

_HERE = nullcontext()
ONCE = ContextVar("once", default=False)


def outside_inference() -> AbstractContextManager[Any]:
    """A block that is not in inference mode, even where the caller is; gradients may be on in it."""
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else _HERE


class called_once:
    """A block in which maps of `vjp` are made that are called once; each frees its graph while it goes back.

    That is a sixth of the peak memory of a gradient sampler. What is evaluated to make such a map is not
    in the block.
    """

    def __enter__(self) -> None:
        self._token = ONCE.set(True)

    def __exit__(self, *_: object) -> None:
        ONCE.reset(self._token)


def _graph(f: Callable[[Tensor], Tensor], x: Tensor, what: object) -> tuple[Tensor, Tensor]:
    """The values of `x` as an input to differentiate by, and `f` of it."""
    x = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
    try:
        return x, f(x)
    except RuntimeError as error:
        # What NumPy's functions, and numpy() without detach(), raise.
        if "Can't call numpy()" in str(error):
            raise NoDerivativeError(what) from error
        if "Inference tensor" not in str(error):
            raise
        raise CapabilityError(
            f"{what} holds tensors that were made inside torch.inference_mode() and cannot be "
            "differentiated; build or load it outside (sampling inside is fine)."
        ) from error


def _pulled(y: Tensor, x: Tensor, v: Tensor, keep: bool, twice: bool) -> Tensor | None:
    """`J^T v` with `v` of the shape of `y`; None where `y` does not depend on `x`."""
    if _engine is None:
        return torch.autograd.grad(y, x, v, keep, twice, allow_unused=True)[0]
    found: tuple[Any, ...] = _engine(
        (y,), (v,), keep, twice, (x,), allow_unreachable=True, accumulate_grad=False
    )
    out: Tensor | None = found[0]
    return out


def gradient(
    y: Tensor, x: Tensor, v: Tensor, what: object, *, keep: bool = True, twice: bool = False
) -> Tensor:
    """`J^T v` of `y`, which was made of `x`; not even a zero stands in for a derivative that is not there."""
    if not y.requires_grad:
        raise NoDerivativeError(what)
    g = _pulled(y, x, v.expand_as(y), keep, twice)
    if g is None:
        raise NoDerivativeError(what)
    return g


def vjp(
    f: Callable[[Tensor], Tensor], x: Tensor, what: object = "This map"
) -> tuple[Tensor, LinearMap]:
    """The value `f(x)` and the map `v -> J^T v`, where `f` acts on every sample of `x` by itself.

    The map may be called more than once, unless it is made in a block of `called_once`. It holds the
    graph of `f` until it is dropped, so keep it local. `what` is the name of `f` in errors.

    Raises:
        NoDerivativeError: If the output is not connected to `x`; from the map if other inputs hide it.
        CapabilityError: If `f` holds tensors that autograd cannot use.
    """
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            return vjp(f, x, what)
    keep = not ONCE.get()
    token = None if keep else ONCE.set(False)
    try:
        with torch.enable_grad():
            x, y = _graph(f, x, what)
    finally:
        if token is not None:
            ONCE.reset(token)
    if not y.requires_grad:
        raise NoDerivativeError(what)

    def pullback(v: Tensor) -> Tensor:
        # Without a block of its own, which would take a twentieth of the time of a small map.
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False):
                return gradient(y, x, v, what, keep=keep)
        return gradient(y, x, v, what, keep=keep)

    return y.detach(), pullback


def jvp(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor, what: object = "This map") -> Tensor:
    """The directional derivative `J v` at `x`, as the derivative of `u -> J^T u` (two backward passes).

    Raises:
        NoDerivativeError: As `vjp`.
    """
    # Fused attention cannot be differentiated twice.
    with outside_inference(), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        x, y = _graph(f, x, what)
        # Of `u`, J^T u is a linear function whose derivative along v is what is wanted.
        u = torch.zeros_like(y, requires_grad=True)
        g = gradient(y, x, u, what, twice=True)
        if not g.requires_grad:
            # A piecewise constant map, such as rounding: its derivative is there, and is 0.
            return torch.zeros_like(y)
        out = _pulled(g, u, v, False, False)
    return torch.zeros_like(y) if out is None else out


def connected(y: Tensor, x: Tensor, what: object) -> Tensor:
    """`y`, which `what` has made of `x`.

    Raises:
        NoDerivativeError: If autograd follows `x` and has lost it on the way.
    """
    if torch.is_grad_enabled() and x.requires_grad and not y.requires_grad:
        raise NoDerivativeError(what)
    return y


def score(
    log_prob: Callable[[Tensor], Tensor], x: Tensor, what: object = "This log-density"
) -> Tensor:
    """The gradient of a function `[*batch, *event] -> [*batch]` that acts on every sample by itself."""
    with called_once():
        value, pullback = vjp(log_prob, x, what)
    return pullback(torch.ones_like(value))


# Rows of one product in `rows_times`: more than a processor works on at once, so that a matrix is read once for them.
_TILE = 16


def rows_times(x: Tensor, matrix: Tensor) -> Tensor:
    """`x @ matrix` for `[*batch, n]` and `[n, m]`, where a row's result does not depend on how many rows there are.

    A plain product takes another algorithm for another number of rows, and the last bits differ. A
    chaotic sampler (DPS with few measurements) makes another sample of that. So all products are of
    tiles of one size, the last one filled up with zeros.
    """
    flat = x.reshape(-1, x.shape[-1])
    rows, tiles = len(flat), -(-len(flat) // _TILE)
    if rows % _TILE:
        flat = torch.nn.functional.pad(flat, (0, 0, 0, tiles * _TILE - rows))
    tiled = flat.reshape(tiles, _TILE, x.shape[-1])
    product = torch.bmm(tiled, matrix.expand(tiles, *matrix.shape)).flatten(0, 1)
    return product[:rows].reshape(*x.shape[:-1], matrix.shape[-1])


def lanczos(
    matvec: LinearMap, v: Tensor, space: Space, *, iterations: int
) -> tuple[Tensor, Tensor]:
    """A symmetric M on the span of `v, M v, M^2 v, ...`, each sample by itself (Lanczos, 1950).

    Every direction is made orthogonal to all before it, twice. Where the span ends early, the directions
    and the entries of the matrix are 0.

    Returns:
        Orthonormal rows `[*batch, iterations, size]` of which the first is along `v`, and M between them
        `[*batch, iterations, iterations]`.
    """
    rows, products = [], []
    direction = space.flatten(v)
    scale = direction.norm(dim=-1, keepdim=True)
    for _ in range(iterations):
        size = direction.norm(dim=-1, keepdim=True)
        ends = size <= 100 * torch.finfo(v.dtype).eps * scale
        rows.append(torch.where(ends, 0, direction / torch.where(ends, 1, size)))
        direction = space.flatten(matvec(space.unflatten(rows[-1])))
        scale = direction.norm(dim=-1, keepdim=True)
        products.append(direction)
        basis = torch.stack(rows, -2)
        for _ in range(2):
            inner = (basis * direction[..., None, :]).sum(-1, keepdim=True)
            direction = direction - (basis * inner).sum(-2)
    matrix = basis @ torch.stack(products, -2).mT
    return basis, (matrix + matrix.mT) / 2


def function_times(
    f: Callable[[Tensor], Tensor], matvec: LinearMap, v: Tensor, space: Space, *, iterations: int
) -> Tensor:
    """`f(M) v` for a positive semidefinite M on the span of `lanczos`; a negative part of M counts as 0.

    Exact where M has at most as many different eigenvalues as there are iterations, however small they are.
    """
    basis, matrix = lanczos(matvec, v, space, iterations=iterations)
    values, vectors = torch.linalg.eigh(matrix)
    values = f(values.clamp(min=0).maximum(torch.finfo(v.dtype).tiny + 0 * values))
    along = vectors @ (values * vectors[..., 0, :])[..., None]
    norm = space.flatten(v).norm(dim=-1, keepdim=True)
    return space.unflatten(norm * (basis * along).sum(-2))


def conjugate_gradient(
    matvec: LinearMap,
    b: Tensor,
    space: Space,
    *,
    iterations: int,
    tolerance: float = 0.0,
    precondition: LinearMap | None = None,
) -> Tensor:
    """Solve `M z = b` for a positive definite `M`, each sample by itself.

    Args:
        matvec: `z -> M z` on `[*batch, *event]`.
        b: Right-hand sides, `[*batch, *event]`.
        space: The event space of `b`.
        iterations: At most so many products with `M`.
        tolerance: A sample is left alone once its residual is below `tolerance * |b|`; the others
            go on, so that no sample's answer depends on its batch.
        precondition: A symmetric positive definite approximation of the inverse of `M`.
    """
    z, r = torch.zeros_like(b), b
    p = r if precondition is None else precondition(r)
    rr = space.dot(r, r)
    rp = rr if precondition is None else space.dot(r, p)
    # Rounding never takes the residual to exactly 0; below this floor a further step would divide
    # noise by noise.
    floor = rr * max(tolerance, torch.finfo(b.dtype).eps) ** 2
    # A look at the residuals stops an accelerator; what has converged stays as it is in between.
    every = 1 if b.device.type == "cpu" else 8
    for count in range(iterations):
        # Not `rr > floor`, with which what is nan would count as solved, by 0.
        active = ~(rr <= floor)
        if count % every == 0 and not active.any():
            break
        mp = matvec(p)
        curvature = space.dot(p, mp)
        step = torch.where(active, rp / torch.where(active, curvature, 1), 0)
        z = z + step * p
        r = r - step * mp
        s = r if precondition is None else precondition(r)
        rr_next = space.dot(r, r)
        rp_next = rr_next if precondition is None else space.dot(r, s)
        p = s + torch.where(active, rp_next / torch.where(active, rp, 1), 0) * p
        rr, rp = torch.where(active, rr_next, rr), torch.where(active, rp_next, rp)
    return z
