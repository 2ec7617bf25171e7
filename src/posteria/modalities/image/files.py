"""Files to pictures in [-1, 1]."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...core.errors import InputError
from ..arrays import existing, is_array, read_array
from ..base import Signal

Shape = tuple[int, ...]
LANCZOS = Image.Resampling.LANCZOS
KINDS = {1: "grey", 3: "colour"}
# Modes of Pillow with more than 8 bits, with transparency, and of colours that it converts to RGB.
DEEP = {"I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
TRANSPARENT = {"LA", "PA", "RGBA", "RGBa"}
COLOUR = {"RGB", "RGBX", "P", "CMYK", "YCbCr", "HSV"}
# Above this share of pixels that are neither black nor white, a picture is no mask.
GREY_SHARE = 0.25


def open_picture(path: Path) -> Image.Image:
    """Open a picture of one frame, rotated by its EXIF orientation.

    Raises:
        InputError: If there is none, or it cannot be read.
    """
    existing(path)
    try:
        # Up to twice the size at which it warns Pillow reads a picture.
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            opened = Image.open(file)
            frames = getattr(opened, "n_frames", 1)
            opened.load()
            image: Image.Image = ImageOps.exif_transpose(opened)
            image.format = opened.format
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels; cut out or reduce the part to use."
        ) from error
    # A damaged file can fail in any way.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as a picture; give a PNG or JPEG file."
        ) from error
    # A camera's MPO file holds the picture first and then its own previews of it.
    if frames > 1 and image.format != "MPO":
        raise InputError(f"{path} holds {frames} pictures; save the one to use by itself.")
    return image


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture, or of an array of one, with the errors of `open_picture` and `read_array`."""
    if not is_array(path):
        image = open_picture(path)
        return image.height, image.width
    shape = read_array(path, "measurement").shape
    if len(shape) not in {2, 3}:
        raise InputError(
            f"{path.name} has shape {shape}, which is no picture's; say by --size of which size that is."
        )
    height, width = shape[:2] if len(shape) == 2 or shape[2] in KINDS else shape[1:]
    return height, width


def split_alpha(path: Path, image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """The picture without transparency, as `L`, `F` (from 0 to 1) or `RGB`, and its opacity in bytes if it has any.

    Raises:
        InputError: For a mode or a range of values that is not known.
    """
    alpha, hidden = None, image.info.get("transparency")
    if image.mode in DEEP:
        if hidden is not None:
            alpha = np.where(np.asarray(image) == hidden, 0, 255).astype(np.uint8)
        return Image.fromarray(_fractions(path, image)), alpha
    kind = "L" if image.mode in {"1", "L", "LA"} else "RGB"
    if hidden is not None or image.mode in TRANSPARENT:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        image = image.getchannel("R") if kind == "L" else image
    elif image.mode not in {"1", "L", *COLOUR}:
        raise InputError(f"{path} is a picture of mode {image.mode}; save it as grey or RGB.")
    return image.convert(kind), alpha


def _fractions(path: Path, image: Image.Image) -> np.ndarray:
    """Pixels of more than 8 bits as float32 from 0 to 1."""
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise InputError(
                f"{path} holds values that are NaN or infinite; mark what is missing by a mask (--mask), or save an "
                "array with NaN there and give it as a measurement."
            )
        if not (values.min() >= 0 and values.max() <= 1):
            raise InputError(
                f"{path} holds floats from {values.min():g} to {values.max():g}; a picture of floats is read where "
                "0 is black and 1 is white. Scale it, or save an array in [-1, 1] with numpy.save."
            )
        return values.astype(np.float32)
    # Pillow gives PGM and PNG files of 16 bits as 32-bit integers; those of a TIFF are of any range.
    if image.mode == "I" and (image.format == "TIFF" or values.min() < 0 or values.max() > 65535):
        raise InputError(
            f"{path} holds 32-bit integers, whose range is not known; save it with 8 or 16 bits."
        )
    return (values.astype(np.float64) / 65535).astype(np.float32)


def to_tensor(image: Image.Image) -> Tensor:
    """A picture of mode `L`, `F` or `RGB` as `[channels, height, width]` in [-1, 1]."""
    array = np.asarray(image, dtype=np.float32)
    array = 2 * array.clip(0, 1) - 1 if image.mode == "F" else array / 127.5 - 1
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


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
    channels, height, width = shape
    image, alpha = split_alpha(path, open_picture(path))
    meta = {"size": (image.height, image.width)}
    kind = "colour" if image.mode == "RGB" else "grey"
    if alpha is not None and not holes:
        # Transparent pixels have colours of their own that nobody ever saw.
        image = _on_paper(image, alpha)
    opacity = Image.fromarray(alpha if alpha is not None and holes else _opaque(image))
    # What is resized is seen where nothing that is missing comes in.
    least = 128
    if fit:
        least = 254
        image = ImageOps.fit(_recoloured(image, channels), (width, height), LANCZOS)
        opacity = ImageOps.fit(opacity, (width, height), LANCZOS)
    elif (image.height, image.width) != (height, width) or kind != KINDS.get(channels):
        raise InputError(
            f"{path.name} is {image.height} x {image.width} pixels in {kind}; {taker} {height} x {width} in "
            f"{KINDS.get(channels, f'{channels} channels')}. Add --fit to crop, resize and convert it."
        )
    seen = torch.from_numpy(np.asarray(opacity) >= least)
    return Signal(to_tensor(image).masked_fill(~seen, torch.nan), path.name, meta)


def _opaque(image: Image.Image) -> np.ndarray:
    return np.full((image.height, image.width), 255, dtype=np.uint8)


def _on_paper(image: Image.Image, alpha: np.ndarray) -> Image.Image:
    """The picture on white paper, which shows through where it is transparent."""
    values, white = np.asarray(image), 1 if image.mode == "F" else 255
    share = (alpha if values.ndim == 2 else alpha[..., None]).astype(np.float32) / 255
    mixed = white - (white - values.astype(np.float32)) * share
    return Image.fromarray(mixed if white == 1 else mixed.round().astype(np.uint8))


def _recoloured(image: Image.Image, channels: int) -> Image.Image:
    if channels == 1:
        return image if image.mode == "F" else image.convert("L")
    if image.mode == "F":
        image = Image.fromarray((np.asarray(image) * 255).round().astype(np.uint8))
    return image.convert("RGB")


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
        fitted = ImageOps.fit(Image.fromarray(mask), (width, height), Image.Resampling.NEAREST)
        mask = np.asarray(fitted)
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
    image, alpha = split_alpha(path, open_picture(path))
    level = np.asarray(_recoloured(image, 1), dtype=np.float32) / (1 if image.mode == "F" else 255)
    opaque = np.ones(level.shape, dtype=bool) if alpha is None else alpha > 127
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
    return white & opaque


def read_kernel(path: Path) -> Tensor:
    """Read a kernel `[height, width]` from an array or a grey picture, scaled so that its entries sum to 1.

    Raises:
        InputError: If it cannot be read, has other axes, or has no finite sum above 0.
    """
    if is_array(path):
        values = read_array(path, "kernel").astype(np.float64)
    else:
        x = to_tensor(_recoloured(split_alpha(path, open_picture(path))[0], 1))[0]
        values = (x.double().numpy() + 1) / 2
    if values.ndim != 2 or not 0 < values.sum() < np.inf:
        raise InputError(
            f"The kernel {path.name} has shape {values.shape} and sum {values.sum():g}; it is (height, width), with a "
            "finite sum above 0."
        )
    return torch.from_numpy(values / values.sum())
