"""Files to pictures in [-1, 1]."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.errors import InputError
from ..arrays import is_array, read_array
from ..base import Signal
from .original import middle, read_original, resized, to_tensor

Shape = tuple[int, ...]
KINDS = {1: "grey", 3: "colour"}
# Above this share of pixels that are neither black nor white, a picture is no mask.
GREY_SHARE = 0.25


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture, or of an array of one, with the errors of `read_original` and `read_array`."""
    if not is_array(path):
        return read_original(path).size
    shape = read_array(path, "measurement").shape
    if len(shape) not in {2, 3}:
        raise InputError(
            f"{path.name} has shape {shape}, which is no picture's; say by --size of which size that is."
        )
    height, width = shape[:2] if len(shape) == 2 or shape[2] in KINDS else shape[1:]
    return height, width


def read_picture(path: Path, shape: Shape, *, taker: str, fit: bool, holes: bool) -> Signal:
    """Read a picture as `[channels, height, width]` in [-1, 1].

    Args:
        path: The file.
        shape: What is taken.
        taker: Who takes it, for errors.
        fit: Crop, resize and convert it.
        holes: Transparent pixels are missing, that is NaN; or else white paper shows through them.

    Raises:
        InputError: If it cannot be read, or has another size or colours and `fit` is false.
    """
    channels, *wanted = shape
    original, size = read_original(path), (wanted[0], wanted[1])
    own, kind = original.size, KINDS[original.values.shape[2]]
    if not fit and (own != size or kind != KINDS.get(channels)):
        raise InputError(
            f"{path.name} is {own[0]} x {own[1]} pixels in {kind}; {taker} {size[0]} x {size[1]} in "
            f"{KINDS.get(channels, f'{channels} channels')}. Add --fit to crop, resize and convert it."
        )
    top, left, bottom, right = middle(own, size)
    x = to_tensor(original.picture(channels, size, paper=not holes))
    if holes and original.alpha is not None:
        opacity = resized(original.opacity[top:bottom, left:right], size)
        # What is resized is seen where nothing that is missing comes in.
        x = x.masked_fill(torch.from_numpy(opacity < (254 if fit else 128)), torch.nan)
    said = list(original.said)
    part = (bottom - top, right - left)
    if own != size:
        how = "" if part == size else f", resized to {size[0]} x {size[1]},"
        said.append(
            f"{path.name} has {own[0]} x {own[1]} pixels; its middle of {part[0]} x {part[1]}{how} is taken, and the "
            "rest of the file stays as it is."
        )
    meta = {"size": own, "original": original, "paper": not holes, "shape": shape}
    return Signal(x, path.name, meta, tuple(said))


def read_values(
    path: Path, shape: Shape, *, name: str, taker: str, also: Shape | None = None
) -> Tensor:
    """Read an array as `shape`, where unsigned integers are scaled by their depth to [-1, 1].

    A picture may lack its one channel, or have its channels last.

    Args:
        path: The file.
        shape: What is taken.
        name: Which array of several.
        taker: Who takes it, for errors.
        also: Another shape that is taken as it is.

    Raises:
        InputError: If it cannot be read, has another shape, or integers of no known range.
    """
    array = read_array(path, name)
    if array.dtype.kind in "biu" and array.dtype not in {np.dtype("u1"), np.dtype("u2")}:
        raise InputError(
            f"{path.name} holds {array.dtype} values, whose range is not known; give floats in [-1, 1], "
            "uint8 or uint16."
        )
    if array.dtype.kind == "u":
        array = array / (np.iinfo(array.dtype).max / 2) - 1
    x = torch.from_numpy(np.ascontiguousarray(array)).float()
    layouts = [x]
    if len(shape) == 3 and x.ndim == 2:
        layouts.append(x[None])
    if len(shape) == 3 and x.ndim == 3:
        layouts.append(x.movedim(-1, 0).contiguous())
    for layout in layouts:
        if tuple(layout.shape) == shape:
            return layout
    if also is not None and tuple(x.shape) == also:
        return x
    raise InputError(f"{path.name} has shape {tuple(x.shape)}; {taker} {shape}.")


def check_range(x: Tensor, name: str, most: float = 1.0) -> Tensor:
    """Return pictures whose values, but for NaN, are within `most` of 0.

    Raises:
        InputError: If they are not, or seem to be in [0, 1].
    """
    known = x[~x.isnan()]
    if not known.numel():
        return x
    low, high = float(known.min()), float(known.max())
    if low < -most * (1 + 1e-6) or high > most * (1 + 1e-6):
        raise InputError(
            f"{name} holds values from {low:g} to {high:g}; black is -1 and white is 1. Scale or clip it to that range."
        )
    if low == 0 and high > 0:
        raise InputError(
            f"{name} holds values from 0 to {high:g}; is it in [0, 1]? Black is -1 and white is 1: give 2 * x - 1, "
            "or a picture file."
        )
    return x


def read_mask(path: Path, height: int, width: int, like: Signal | None = None) -> Tensor:
    """Read a mask `[height, width]`: true where the picture is seen.

    White (or 1) is seen; black (or 0), and what is transparent, is missing. Where all that is not
    transparent has one colour, or is no black and white, the transparency alone decides; so a
    measurement with holes, transparent or NaN, is its own mask.

    Args:
        path: The file.
        height: Rows of the picture.
        width: Columns.
        like: The picture, if that was fitted: a mask of its size is cropped and resized alike.

    Raises:
        InputError: If it cannot be read, has another size, is no mask, or has no hole.
    """
    mask = _mask_of_array(path) if is_array(path) else _mask_of_picture(path)
    if like is not None and mask.shape == like.meta.get("size"):
        top, left, bottom, right = middle(mask.shape, (height, width))
        part = 255 * mask[top:bottom, left:right].astype(np.uint8)
        # A pixel is missing where a part of it is.
        mask = resized(part, (height, width), Image.Resampling.BOX) == 255
    if mask.shape != (height, width):
        raise InputError(
            f"The mask {path.name} is {' x '.join(map(str, mask.shape))}; the picture is {height} x {width}."
        )
    if mask.all():
        raise InputError(
            f"The mask {path.name} has no hole: all of it is seen. Missing pixels are black (or 0) or transparent."
        )
    return torch.from_numpy(mask.copy())


def _mask_of_array(path: Path) -> np.ndarray:
    mask = read_array(path, "mask")
    mask = mask[0] if mask.ndim == 3 and mask.shape[0] == 1 else mask
    if mask.dtype.kind == "f":
        missing = np.isnan(mask)
        if missing.any() and not np.isin(mask[~missing], (0, 1)).all():
            measured: np.ndarray = ~missing if missing.ndim == 2 else ~missing.any(0)
            return measured
    top = 255 if mask.dtype == np.uint8 and mask.size and mask.max() > 1 else 1
    if not np.isin(mask, (0, top)).all():
        raise InputError(f"The mask {path.name} holds other values than 0 (missing) and 1 (seen).")
    seen: np.ndarray = mask == top
    return seen


def _mask_of_picture(path: Path) -> np.ndarray:
    original = read_original(path)
    grey = original.picture(1, original.size, paper=False)[0]
    level = grey.astype(np.float32) / (255 if grey.dtype == np.uint8 else 1)
    opaque = original.opacity > 127
    between = ((level > 0.2) & (level < 0.8) & opaque).mean()
    if between > GREY_SHARE and not opaque.all():
        return opaque
    if between > GREY_SHARE:
        raise InputError(
            f"The mask {path.name} is grey in {between:.0%} of its pixels; white is seen and black is missing."
        )
    white = level > 0.5
    if not opaque.all() and opaque.any() and len(np.unique(white[opaque])) == 1:
        return opaque
    seen: np.ndarray = white & opaque
    return seen


def read_kernel(path: Path) -> Tensor:
    """Read a kernel `[height, width]` from an array or a grey picture, scaled so that its entries sum to 1.

    Raises:
        InputError: If it cannot be read, has other axes, or has no finite sum above 0.
    """
    if is_array(path):
        values = read_array(path, "kernel").astype(np.float64)
    else:
        original = read_original(path)
        x = to_tensor(original.picture(1, original.size, paper=False))[0]
        values = (x.double().numpy() + 1) / 2
    if values.ndim != 2 or not 0 < values.sum() < np.inf:
        raise InputError(
            f"The kernel {path.name} has shape {values.shape} and sum {values.sum():g}; it is (height, width), with a "
            "finite sum above 0."
        )
    return torch.from_numpy(values / values.sum())
