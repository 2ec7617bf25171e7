"""Files to pictures in [-1, 1]."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...core.errors import InputError
from ..arrays import existing, is_array, read_array
from ..base import Signal
from .heads import size_of
from .original import middle, read_original, resized, said_of_depth, to_tensor

Shape = tuple[int, ...]
KINDS = {1: "grey", 3: "colour"}


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture, or of an array of one, with the errors of `read_original` and `read_array`."""
    if not is_array(path):
        return size_of(existing(path)) or read_original(path).size
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
        fit: Crop and resize it.
        holes: Transparent pixels are missing, that is NaN; or else white paper shows through them.

    Raises:
        InputError: If it cannot be read, or has another size and `fit` is false.
    """
    channels, *wanted = shape
    original, size = read_original(path), (wanted[0], wanted[1])
    own, kind = original.size, KINDS[original.values.shape[2]]
    if not fit and own != size:
        raise InputError(
            f"{path.name} is {own[0]} x {own[1]} pixels; {taker} {size[0]} x {size[1]}. Add --fit to resize it."
        )
    top, left, bottom, right = middle(own, size)
    x = to_tensor(original.picture(channels, size, paper=not holes))
    if holes and original.alpha is not None:
        opacity = resized(original.opacity[top:bottom, left:right], size)
        # What is resized is seen where nothing that is missing comes in.
        x = x.masked_fill(torch.from_numpy(opacity < (254 if fit else 128)), torch.nan)
    said = list(original.said)
    if not holes and (clear := float((original.opacity < 255).mean())):
        said.append(
            f"{path.name} is transparent in {100 * clear:.3g} % of its pixels, through which white paper is seen."
        )
    if kind != KINDS[channels]:
        said.append(f"{path.name} is in {kind} and is taken in {KINDS[channels]}: {taker} that.")
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
    path: Path,
    shape: Shape,
    *,
    name: str,
    taker: str,
    also: Shape | None = None,
    most: float | None = 1.0,
) -> Signal:
    """Read an array as `shape`, where unsigned integers are scaled by their depth to [-1, 1].

    A picture may lack its one channel, or have its channels last.

    Args:
        path: The file.
        shape: What is taken.
        name: Which array of several.
        taker: Who takes it, for errors.
        also: Another shape that is taken as it is.
        most: The largest absolute value that is taken, of pictures; None for what is none.

    Raises:
        InputError: If it cannot be read, has another shape, integers of no known range, or values beyond `most` or
            that seem to be in [0, 1].
    """
    array = read_array(path, name)
    said = said_of_depth(array, path.name)
    if array.dtype.kind in "biu" and array.dtype not in {np.dtype("u1"), np.dtype("u2")}:
        raise InputError(
            f"{path.name} holds {array.dtype} values, whose range is not known; give floats in [-1, 1], "
            "uint8 or uint16."
        )
    scaled = array.dtype.kind == "u"
    if scaled:
        array = array / (np.iinfo(array.dtype).max / 2) - 1
    x = torch.from_numpy(np.ascontiguousarray(array)).float()
    layouts = [x]
    if len(shape) == 3 and x.ndim == 2:
        layouts.append(x[None])
    if len(shape) == 3 and x.ndim == 3:
        layouts.append(x.movedim(-1, 0).contiguous())
    found = [layout for layout in layouts if tuple(layout.shape) == shape]
    if not found and (also is None or tuple(x.shape) != also):
        raise InputError(f"{path.name} has shape {tuple(x.shape)}; {taker} {shape}.")
    said += () if scaled or most is None else _said_of_range(x, path.name, most)
    return Signal(found[0] if found else x, path.name, said=said)


def _said_of_range(x: Tensor, name: str, most: float) -> tuple[str, ...]:
    """A sentence on pictures that may be in [0, 1]; raise unless their values, but for NaN, are within `most` of 0."""
    known = x[~x.isnan()]
    if not known.numel():
        return ()
    low, high = float(known.min()), float(known.max())
    if low < -most * (1 + 1e-6) or high > most * (1 + 1e-6):
        raise InputError(
            f"{name} holds values from {low:g} to {high:g}; black is -1 and white is 1. Scale or clip it to that range."
        )
    zero_to_one = "is it in [0, 1]? Black is -1 and white is 1: give 2 * x - 1, or a picture file."
    if low == 0 and high > 0:
        raise InputError(f"{name} holds values from 0 to {high:g}; {zero_to_one}")
    pale = f"{name} holds values from {low:.3g} to {high:.3g}, and is taken as a pale picture; {zero_to_one}"
    return (pale,) if low > 0 and high > low else ()
