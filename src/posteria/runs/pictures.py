"""Pictures under their former names; see `posteria.modalities.image`."""

from pathlib import Path

from torch import Tensor

from ..modalities.arrays import read_array
from ..modalities.image import Image
from ..modalities.image.files import read_mask, to_tensor
from ..modalities.image.pixels import grid, heat, png, to_bytes

__all__ = [
    "grid",
    "heat",
    "png",
    "read_array",
    "read_mask",
    "read_picture",
    "to_bytes",
    "to_tensor",
]


def read_picture(path: Path, shape: tuple[int, ...], prior: str, fit: bool) -> Tensor:
    """A picture for a prior."""
    return Image().read(path, shape, taker=f"the prior {prior!r} takes", fit=fit).x
