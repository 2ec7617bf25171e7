"""Errors of signals in time, in their own units."""

from torch import Tensor


def mae(x: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error of signals `[n, *event]`, each by itself, `[n]`."""
    return (x - truth).abs().flatten(1).mean(1)


def rmse(x: Tensor, truth: Tensor) -> Tensor:
    """Root mean square error, likewise."""
    return (x - truth).square().flatten(1).mean(1).sqrt()
