"""Files to masks: what is missing of a picture."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor

from ...core.errors import InputError
from ..arrays import is_array, read_array
from ..tasks import Source
from .files import KINDS, picture_size
from .heads import compression_of
from .original import LANCZOS, Original, middle, read_original, resized

# Levels of 255 by which a JPEG file changes a colour, a vivid one and any other, and pixels into which it bleeds.
VIVID, DULL, BLEEDS = 64, 16, 3
# Above this share of pixels that are neither black nor white, a picture is no mask.
GREY_SHARE = 0.25


def read_mask(
    path: Path, size: tuple[int, int], hole: str = "black", source: Source | None = None
) -> tuple[Tensor, str]:
    """Read a mask `[height, width]`, true where the picture is seen, and what is missing in words.

    The hole is black (or 0) and what is transparent. Where all that is not transparent has one colour,
    or is no black and white, the transparency alone decides; so a measurement with holes, transparent or
    NaN, is its own mask.

    Args:
        path: The file.
        size: Height and width of the picture.
        hole: `black` or `white` (0 or 1, of an array), `transparent` (or NaN), or a colour that marks the hole where a
            picture has exactly that; of a JPEG file nearly that, and the pixels around, into which it bleeds.
        source: What is restored; if that is fitted, a mask of its size is cropped and resized alike.

    Raises:
        InputError: If it cannot be read, has another size, is no mask, or has no hole.
    """
    own = source is not None and path == source.path
    mask, what = _of_array(path, hole) if is_array(path) else _of_picture(path, hole, own)
    drawn_on = picture_size(source.path) if source is not None and source.fit else size
    if mask.shape == drawn_on != size:
        mask = _fitted(mask, size, whole=source is None or source.simulate)
    elif mask.shape != size and not (own and mask.all()):
        has, wanted = (" x ".join(map(str, shape)) for shape in (mask.shape, drawn_on))
        if own:
            fault = f"{path.name} is {has} pixels; {wanted} are taken. Add --fit to resize it."
        elif source is not None and mask.shape == picture_size(source.path):
            fault = f"{source.path.name} and its mask are {has} pixels; {wanted} are taken. Add --fit to resize both."
        else:
            fault = f"The mask {path.name} is {has}; the picture is {wanted}."
        raise InputError(fault)
    if mask.all():
        raise InputError(
            f"{path.name} has no hole: nothing in it is {what}. Say by --mask FILE where the hole is, or by --hole "
            "which colour it has: black, white, transparent, or one such as '#ff00ff'."
        )
    if not mask.any():
        raise InputError(
            f"{path.name} is all hole: everything in it is {what}, and the picture is nowhere seen. Say by --hole "
            "which colour the hole has: black, white, transparent, or one such as '#ff00ff'."
        )
    other = {"black": "white", "white": "black"}.get(what)
    doubt = f"; if the hole is {other}, say --hole {other}" if other else ""
    share = 100 * (1 - mask.mean())
    sentence = f"Missing is what is {what} in {path.name}, {share:.1f} % of the picture{doubt}."
    return torch.from_numpy(mask.copy()), sentence


def _fitted(mask: np.ndarray, size: tuple[int, int], whole: bool) -> np.ndarray:
    """The mask cropped and resized like its picture.

    A pixel is seen where no part of it is missing; or, unless the picture is whole, where nothing that is missing
    comes in when that is resized.
    """
    top, left, bottom, right = middle(mask.shape, size)
    levels = 255 * mask[top:bottom, left:right].astype(np.uint8)
    seen: np.ndarray = resized(levels, size, Image.Resampling.BOX if whole else LANCZOS) >= 254
    return seen


def _of_array(path: Path, hole: str) -> tuple[np.ndarray, str]:
    mask: np.ndarray = read_array(path, "mask")
    sides = mask.shape[1:] if mask.shape[:1] == (1,) else mask.shape[:2]
    # One channel, first or last, is none.
    mask = mask.reshape(sides) if mask.ndim == 3 and mask.size == np.prod(sides) else mask
    missing: np.ndarray = np.isnan(mask) if mask.dtype.kind == "f" else np.zeros_like(mask, bool)
    if hole == "transparent" or (missing.any() and not np.isin(mask[~missing], (0, 1)).all()):
        # Channels are first, or last.
        axis = 2 if missing.ndim == 3 and missing.shape[-1] in KINDS else 0
        return np.logical_not(missing if missing.ndim == 2 else missing.any(axis)), "NaN"
    top = 255 if mask.dtype == np.uint8 and mask.size and mask.max() > 1 else 1
    if not np.isin(mask, (0, top)).all():
        raise InputError(f"The mask {path.name} holds other values than 0 (missing) and 1 (seen).")
    if hole not in {"black", "white"}:
        raise InputError(
            f"The mask {path.name} is an array, whose --hole is black (0) or white (1)."
        )
    seen: np.ndarray = (mask == top) if hole == "black" else (mask == 0)
    return seen, "0" if hole == "black" else str(top)


def _of_picture(path: Path, hole: str, own: bool) -> tuple[np.ndarray, str]:
    original = read_original(path)
    opaque: np.ndarray = original.opacity > 127
    if hole == "transparent":
        return opaque, hole
    if own or hole not in {"black", "white"}:
        seen, about = _but(_levels(original, 3), hole, jpeg=compression_of(path) is not None)
        return seen & opaque, hole + about
    level = _levels(original, 1)[0]
    if opaque.all() and original.white > 1 and original.values.max() == 1:
        raise InputError(
            f"The mask {path.name} holds the levels 0 and 1 of {original.white}, which are both black; write 0 and "
            f"{original.white}, such as {original.white} * mask."
        )
    between = ((level > 0.2) & (level < 0.8) & opaque).mean()
    seen = (level > 0.5) if hole == "black" else (level <= 0.5)
    if not opaque.all() and (between > GREY_SHARE or len(np.unique(seen[opaque])) == 1):
        return opaque, "transparent"
    if between > GREY_SHARE:
        raise InputError(
            f"The mask {path.name} is grey in {between:.0%} of its pixels; it is to be black and white, or transparent "
            "in the hole, or say by --hole which colour that has."
        )
    return seen & opaque, hole


def _levels(original: Original, channels: int) -> np.ndarray:
    """The picture from 0 to 1, `[channels, height, width]`."""
    picture = original.picture(channels, original.size, paper=False)
    return picture.astype(np.float32) / np.float32(255 if picture.dtype == np.uint8 else 1)


def _but(levels: np.ndarray, colour: str, jpeg: bool) -> tuple[np.ndarray, str]:
    """Where a picture `[3, height, width]` has not a colour, and how near to that is near enough, in words."""
    try:
        wanted = np.array(ImageColor.getrgb(colour)[:3])[:, None, None]
    except ValueError as error:
        raise InputError(
            f"--hole is a colour, such as black, white, magenta or '#ff00ff'; {colour!r} is not."
        ) from error
    if not jpeg:
        return (levels * 255 != wanted).any(0), ""
    near = VIVID if np.ptp(wanted) > 127 else DULL
    marked = (np.abs(levels * 255 - wanted) <= near).all(0)
    around = torch.from_numpy(marked)[None, None].float()
    around = torch.nn.functional.max_pool2d(around, 2 * BLEEDS + 1, 1, BLEEDS)
    about = f" (within {near} of 255, and {BLEEDS} pixels around, since JPEG changes colours)"
    return around[0, 0].numpy() == 0, about


def read_kernel(path: Path) -> tuple[Tensor, str]:
    """Read a kernel `[height, width]` from an array or a grey picture, scaled so that its entries sum to 1.

    The centre of an even side n is entry n // 2, as in FFTs; it gets zeros at its end, which a sentence says.

    Raises:
        InputError: If it cannot be read, has other axes, or has no finite sum above 0.
    """
    if is_array(path):
        values = read_array(path, "kernel").astype(np.float64)
    else:
        values = _levels(read_original(path), 1)[0].astype(np.float64)
    if values.ndim != 2 or not 0 < values.sum() < np.inf:
        raise InputError(
            f"The kernel {path.name} has shape {values.shape} and sum {values.sum():g}; it is (height, width), with a "
            "finite sum above 0."
        )
    even = [1 - side % 2 for side in values.shape]
    kernel = torch.from_numpy(np.pad(values / values.sum(), [(0, more) for more in even]))
    height, width = values.shape
    sentence = (
        f"The kernel {path.name} is {height} x {width}: the centre of its even sides is entry n // 2, counted from 0, "
        "as in FFTs."
    )
    return kernel, sentence if any(even) else ""
