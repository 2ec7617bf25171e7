"""Tensors in [-1, 1] as pixels: bytes, colours for maps, sheets, PNG files."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from ..base import Scale

# The grey levels of 255 from which on a map has its lightest colour; below, the root of a level gives the colour.
TOP = 128
# A perceptually even ramp from black over violet and orange to pale yellow, for maps of one number
# a pixel.
HEAT = np.array(
    [(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)],
    dtype=np.float64,
)


SCALE = Scale(
    tuple(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in HEAT.astype(int)),
    ("0", "8", "32", "72", "128+"),
    "grey levels of 255",
)


def to_bytes(x: Tensor) -> np.ndarray:
    """`[channels, height, width]` in [-1, 1] to bytes `[height, width]` or `[height, width, 3]`."""
    array = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()
    return array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)


def heat(std: Tensor, hole: Tensor | None = None) -> np.ndarray:
    """Standard deviations, or differences, `[height, width]` in data units as colours of `SCALE`.

    Where no hole is they are transparent.
    """
    level = (std.double().cpu().numpy() * 127.5 / TOP).clip(0, 1) ** 0.5 * (len(HEAT) - 1)
    knots = np.arange(len(HEAT))
    colours = [np.interp(level, knots, HEAT[:, c]) for c in range(3)]
    if hole is not None:
        colours.append(255.0 * hole.cpu().numpy())
    return np.stack(colours, -1).astype(np.uint8)


def png(array: np.ndarray, scale: float = 1, format: str = "PNG") -> bytes:
    """Bytes of a picture file; enlarged with hard pixels, or reduced."""
    image = Image.fromarray(array)
    if scale != 1:
        size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        image = image.resize(size, method)
    buffer = io.BytesIO()
    image.save(buffer, format, **({"quality": 90, "subsampling": 0} if format == "JPEG" else {}))
    return buffer.getvalue()


def grid(pictures: Sequence[np.ndarray], columns: int, gap: int = 2) -> np.ndarray:
    """Pictures of one size side by side on grey, which is seen on light and on dark."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, *pictures[0].shape[2:])
    sheet = np.full(shape, 136, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet
