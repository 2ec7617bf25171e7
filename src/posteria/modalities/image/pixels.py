"""Tensors in [-1, 1] as pixels: bytes, colours for maps, sheets, PNG files."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

# A perceptually even ramp from black over violet and orange to pale yellow, for maps of one number
# a pixel.
HEAT = np.array(
    [(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)],
    dtype=np.float64,
)


def to_bytes(x: Tensor) -> np.ndarray:
    """`[channels, height, width]` in [-1, 1] to bytes `[height, width]` or `[height, width, 3]`."""
    array = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()
    return array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)


def heat(values: Tensor, top: float) -> np.ndarray:
    """One number a pixel `[height, width]`, from 0 (black) to `top` (pale yellow), as colours."""
    level = (values.double().cpu().numpy() / max(top, 1e-12)).clip(0, 1) * (len(HEAT) - 1)
    knots = np.arange(len(HEAT))
    return np.stack([np.interp(level, knots, HEAT[:, c]) for c in range(3)], -1).astype(np.uint8)


def png(array: np.ndarray, scale: int = 1) -> bytes:
    """Bytes of a PNG file, each pixel shown `scale` times."""
    image = Image.fromarray(array)
    if scale > 1:
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def grid(pictures: Sequence[np.ndarray], columns: int, gap: int = 2) -> np.ndarray:
    """Pictures of one size side by side on white."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, *pictures[0].shape[2:])
    sheet = np.full(shape, 255, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def side_by_side(rows: Mapping[str, Tensor]) -> np.ndarray:
    """Pictures `[n, channels, height, width]` in rows, each with its name in front, on white."""
    first = next(iter(rows.values()))
    large = max(1, round(56 / first.shape[-1]))
    font = ImageFont.load_default()
    strips = {}
    for name, x in rows.items():
        strip = Image.fromarray(grid([to_bytes(picture) for picture in x], columns=len(x)))
        size = (strip.width * large, strip.height * large)
        strips[name] = strip.resize(size, Image.Resampling.NEAREST)
    margin = 12 + max(round(font.getlength(name)) for name in strips)
    strip = next(iter(strips.values()))
    sheet = Image.new(
        strip.mode, (margin + strip.width, len(strips) * (strip.height + 4) - 4), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for i, (name, strip) in enumerate(strips.items()):
        top = i * (strip.height + 4)
        draw.text((6, top + strip.height // 2 - 6), name, fill="black", font=font)
        sheet.paste(strip, (margin, top))
    return np.asarray(sheet)
