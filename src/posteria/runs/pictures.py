"""Pictures in and out: files to tensors in [-1, 1], tensors to PNG."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..core.errors import InputError

Shape = tuple[int, ...]
KINDS = {1: "grey", 3: "colour"}
# A perceptually even ramp from black over violet and orange to pale yellow, for maps of one number
# a pixel.
HEAT = np.array(
    [(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)],
    dtype=np.float64,
)


def read_image(path: Path) -> Image.Image:
    """Open a picture as grey or colour.

    Raises:
        InputError: If there is none, or it cannot be read.
    """
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    try:
        with path.open("rb") as file:
            opened = Image.open(file)
            opened.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as a picture; give a PNG or JPEG file."
        ) from error
    image: Image.Image = ImageOps.exif_transpose(opened)
    if "A" in image.mode or "transparency" in image.info:
        # Transparent pixels have colours of their own that nobody ever saw; white paper shows
        # through instead.
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    return image.convert("L" if image.mode in {"1", "L", "I", "I;16", "F"} else "RGB")


def to_tensor(image: Image.Image) -> Tensor:
    """A picture as `[channels, height, width]` in [-1, 1]."""
    array = np.asarray(image, dtype=np.float32) / 127.5 - 1
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def read_picture(path: Path, shape: Shape, prior: str, fit: bool) -> Tensor:
    """Read a picture for a prior that takes `[channels, height, width]`.

    Raises:
        InputError: If it has another size or colours and `fit` is false.
    """
    channels, height, width = shape
    image = read_image(path)
    kind = "grey" if image.mode == "L" else "colour"
    if fit:
        image = image.convert("L" if channels == 1 else "RGB")
        return to_tensor(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS))
    if (image.height, image.width) != (height, width) or kind != KINDS.get(channels):
        raise InputError(
            f"{path.name} is {image.height} x {image.width} pixels in {kind}; the prior {prior!r} takes "
            f"{height} x {width} in {KINDS.get(channels, f'{channels} channels')}. "
            "Add --fit to crop, resize and convert it."
        )
    return to_tensor(image)


def read_mask(path: Path, height: int, width: int) -> Tensor:
    """Read a mask: white (or 1) where the picture is seen, black (or 0) where it is missing.

    Raises:
        InputError: If it cannot be read, or has another size.
    """
    if path.suffix == ".npy":
        mask = torch.from_numpy(read_array(path, "mask"))
    else:
        mask = torch.from_numpy(np.asarray(read_image(path).convert("L")) > 127)
    mask = mask.reshape(mask.shape[-2:]) if mask.ndim == 3 and mask.shape[0] == 1 else mask
    if tuple(mask.shape) != (height, width):
        raise InputError(
            f"The mask {path.name} is {' x '.join(map(str, mask.shape))}; the picture is {height} x {width}."
        )
    return mask


def read_array(path: Path, name: str) -> np.ndarray:
    """Read one array from an .npy or .npz file; runs no code from it.

    Raises:
        InputError: If there is none, or not exactly one, or it holds no numbers.
    """
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            array = loaded
        else:
            names = loaded.files
            key = name if name in names else names[0] if len(names) == 1 else None
            if key is None:
                raise InputError(
                    f"{path} holds the arrays {', '.join(names)}; name the one to use {name!r}."
                )
            array = loaded[key]
    except (ValueError, OSError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as an array; save it with numpy.save.") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{path} holds {array.dtype} values; numbers are needed.")
    return array


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


def grid(pictures: list[np.ndarray], columns: int, gap: int = 2) -> np.ndarray:
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
