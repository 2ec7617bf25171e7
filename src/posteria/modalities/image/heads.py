"""What a picture file says in its head, before anything is decoded: its size, and how it was compressed."""

from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, JpegImagePlugin

from ...operators.nonlinear import jpeg_tables

# By the numbers that Pillow gives them.
SAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


def size_of(path: Path) -> tuple[int, int] | None:
    """Height and width as it is shown; None if Pillow does not find it in the head."""
    most = Image.MAX_IMAGE_PIXELS
    try:
        # Nothing is decoded, so that there is no bomb to fear.
        Image.MAX_IMAGE_PIXELS = None
        with Image.open(path) as image:
            # Pillow decodes a PNG file to look for an orientation behind its pixels.
            told = image.format != "PNG" or "exif" in image.info
            turned = told and image.getexif().get(274, 1) in {5, 6, 7, 8}
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:
        return None
    finally:
        Image.MAX_IMAGE_PIXELS = most


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
