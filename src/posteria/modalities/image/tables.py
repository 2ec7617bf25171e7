"""What a JPEG file says of its own compression."""

from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, JpegImagePlugin

from ...operators.nonlinear import jpeg_tables

# By the numbers that Pillow gives them.
SAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


class Compression(NamedTuple):
    """How a JPEG file was made.

    Attributes:
        quality: Whose standard tables are nearest to its own.
        sampling: Of its colours, in `SAMPLINGS`; that of most files where it has none, or another one.
        exact: Whether its tables are those.
    """

    quality: int
    sampling: str
    exact: bool


def compression_of(path: Path) -> Compression | None:
    """What a file says of its compression, from its head alone; None if it is no JPEG file."""
    try:
        with Image.open(path) as image:
            tables = getattr(image, "quantization", None)
            sampling = JpegImagePlugin.get_sampling(image) if tables else -1
    # A file that cannot be read is refused where its pixels are read.
    except Exception:
        return None
    if not tables:
        return None
    own = torch.tensor([tables[key] for key in sorted(tables)][:2], dtype=torch.float64)
    away = [
        float((jpeg_tables(quality).flatten(1)[: len(own)] - own).abs().sum())
        for quality in range(1, 101)
    ]
    nearest = min(range(100), key=away.__getitem__)
    return Compression(nearest + 1, SAMPLINGS.get(sampling, "4:2:0"), away[nearest] == 0)
