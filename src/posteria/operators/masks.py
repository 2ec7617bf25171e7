"""The usual masks, `[height, width]`: true where the picture is seen."""

import torch
from torch import Tensor

from ..core.errors import InputError
from ..core.rng import checked

# The papers' geometry at 256 pixels: a missing box of 150 from 50 on, and a seen square of 78 from
# 89 on.
BOX = (50 / 256, 200 / 256)
SQUARE = (89 / 256, 167 / 256)


def _square(height: int, width: int, span: tuple[float, float]) -> Tensor:
    inside = torch.zeros(height, width, dtype=torch.bool)
    rows = slice(round(span[0] * height), round(span[1] * height))
    inside[rows, round(span[0] * width) : round(span[1] * width)] = True
    return inside


def box_mask(height: int, width: int) -> Tensor:
    """A missing box in the middle, of 150/256 of each side."""
    return ~_square(height, width, BOX)


def expand_mask(height: int, width: int) -> Tensor:
    """All but a square in the middle is missing, of 78/256 of each side."""
    return _square(height, width, SQUARE)


def half_mask(height: int, width: int) -> Tensor:
    """The right half is missing."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[:, : width // 2] = True
    return mask


def random_mask(height: int, width: int, share: float, seed: int) -> Tensor:
    """A random `share` of the pixels is seen, rounded to a whole number of them, drawn once from `seed`."""
    if not 0 < share <= 1:
        raise InputError(f"The share of seen pixels is above 0 and at most 1; {share} is not.")
    order = torch.randperm(height * width, generator=torch.Generator().manual_seed(checked(seed)))
    mask = torch.zeros(height * width, dtype=torch.bool)
    mask[order[: max(1, round(share * height * width))]] = True
    return mask.reshape(height, width)
