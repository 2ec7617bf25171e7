"""Derivatives and linear solves. `requires_grad` appears here and nowhere else in the package."""

from collections.abc import Callable

import torch
from torch import Tensor

from .space import Space

LinearMap = Callable[[Tensor], Tensor]


def vjp(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, LinearMap]:
    """The value `f(x)` and the map `v -> J^T v`, where `f` acts on every sample of `x` by itself.

    The map may be called more than once. It holds the graph of `f` until it is dropped, so keep it
    local.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = f(x)

    def pullback(v: Tensor) -> Tensor:
        if not y.requires_grad:
            return torch.zeros_like(x)
        (g,) = torch.autograd.grad(y, x, v.expand_as(y), retain_graph=True, allow_unused=True)
        return torch.zeros_like(x) if g is None else g

    return y.detach(), pullback


def jvp(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    """The directional derivative `J v` at `x`, as the derivative of `u -> J^T u` (two backward passes)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = f(x)
        if not y.requires_grad:
            return torch.zeros_like(y)
        u = torch.zeros_like(y, requires_grad=True)
        (g,) = torch.autograd.grad(y, x, u, create_graph=True)
        if not g.requires_grad:
            return torch.zeros_like(y)
        (out,) = torch.autograd.grad(g, u, v, allow_unused=True)
    return torch.zeros_like(y) if out is None else out


def score(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of a function `[*batch, *event] -> [*batch]` that acts on every sample by itself."""
    value, pullback = vjp(log_prob, x)
    return pullback(torch.ones_like(value))


def rows_times(x: Tensor, matrix: Tensor) -> Tensor:
    """`x @ matrix` for `[*batch, n]` and `[n, m]`, where a row's result does not depend on how many rows there are.

    A plain product takes another algorithm for another number of rows, and the last bits differ. A
    chaotic sampler (DPS with few measurements) makes another sample of that.
    """
    flat = x.reshape(-1, 1, x.shape[-1])
    product = torch.bmm(flat, matrix.expand(len(flat), *matrix.shape))
    return product.reshape(*x.shape[:-1], matrix.shape[-1])


def conjugate_gradient(
    matvec: LinearMap, b: Tensor, space: Space, *, iterations: int, tolerance: float = 0.0
) -> Tensor:
    """Solve `M z = b` for a positive definite `M`, each sample by itself.

    Args:
        matvec: `z -> M z` on `[*batch, *event]`.
        b: Right-hand sides, `[*batch, *event]`.
        space: The event space of `b`.
        iterations: At most so many products with `M`.
        tolerance: A sample is left alone once its residual is below `tolerance * |b|`; the others
            go on, so that no sample's answer depends on its batch.
    """
    z, r = torch.zeros_like(b), b
    p, rr = r, space.dot(r, r)
    # Rounding never takes the residual to exactly 0; below this floor a further step would divide
    # noise by noise.
    floor = rr * max(tolerance, torch.finfo(b.dtype).eps) ** 2
    for _ in range(iterations):
        active = rr > floor
        if not active.any():
            break
        mp = matvec(p)
        curvature = space.dot(p, mp)
        step = torch.where(active, rr / torch.where(active, curvature, 1), 0)
        z = z + step * p
        r = r - step * mp
        rr_next = space.dot(r, r)
        p = r + torch.where(active, rr_next / torch.where(active, rr, 1), 0) * p
        rr = torch.where(active, rr_next, rr)
    return z
