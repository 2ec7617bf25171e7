"""Distances between two sets of samples."""

import torch
from torch import Tensor

from ..core.errors import ShapeError


def sliced_wasserstein(x: Tensor, y: Tensor, directions: int = 100, seed: int = 0) -> float:
    """The mean over random directions of the 1-D Wasserstein-1 distance, in data units (arXiv:1011.0435).

    Args:
        x: Samples, `[n, *event]`.
        y: As many samples, `[n, *event]`.
        directions: Unit directions, uniform on the sphere.
        seed: Seed of the directions.

    Raises:
        ShapeError: If the two sets differ in shape.
    """
    if x.shape != y.shape:
        raise ShapeError(
            f"Two sets of equal shape are compared; got {tuple(x.shape)} and {tuple(y.shape)}."
        )
    x, y = x.flatten(1).double(), y.flatten(1).double()
    generator = torch.Generator().manual_seed(seed)
    units = torch.randn(x.shape[1], directions, dtype=torch.float64, generator=generator)
    units = (units / units.norm(dim=0)).to(x.device)
    return float(((x @ units).sort(0).values - (y @ units).sort(0).values).abs().mean())
