"""A picture file as it is, of every depth, and what was restored put back into it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.errors import InputError
from .containers import (
    COLOURS,
    ICC_TAG,
    INVERTED,
    chunks_of,
    opened,
    png_file,
    read_deep,
    tags_of,
    tiff_file,
    white_of,
)
from .heads import ORIENTATION, turn_of

LANCZOS = Image.Resampling.LANCZOS
# Modes of Pillow with transparency, and of colours that it converts to RGB.
TRANSPARENT = {"LA", "PA", "RGBA", "RGBa"}
COLOUR = {"RGB", "RGBX", "P", "CMYK", "YCbCr", "HSV"}
# Of the numbers of usual pictures, as PNG states it.
GAMMA = 1 / 2.2
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Original:
    """A picture file.

    Args:
        values: `[height, width, 1 or 3]`, upright: uint8, uint16, or float32 from 0 to 1.
        alpha: Opacity `[height, width]` in the same units, if it has any.
        suffix: Of the files that it is written to: `.png`, or `.tif`.
        turn: Its EXIF orientation; what is written is turned as the file was.
        chunks: What a PNG file holds beside the pixels.
        tags: The same of a TIFF file.
        said: What of the file is not kept, in sentences.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    suffix: str
    turn: int = 1
    chunks: tuple[bytes, ...] = ()
    tags: Mapping[int, tuple[int | None, Any]] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def white(self) -> int:
        """The value of white."""
        return white_of(self.values)

    @property
    def opacity(self) -> np.ndarray:
        """In bytes, `[height, width]`."""
        if self.alpha is None:
            return np.full(self.size, 255, dtype=np.uint8)
        return (self.alpha / (self.white / 255)).round().astype(np.uint8)

    def picture(self, channels: int, size: tuple[int, int], *, paper: bool) -> np.ndarray:
        """As bytes, or floats from 0 to 1, `[channels, height, width]`.

        Args:
            channels: 1 or 3; colours become grey, and grey is repeated.
            size: Height and width, to which the middle of it is resized.
            paper: Whether white paper shows through where it is transparent.
        """
        values = self.values
        if values.dtype == np.uint16:
            values = (values.astype(np.float64) / 65535).astype(np.float32)
        if paper and self.alpha is not None:
            values = _on_paper(values, self.opacity)
        if values.shape[2] > channels:
            values = _grey(values)
        top, left, bottom, right = middle(self.size, size)
        planes = [
            resized(plane, size) for plane in np.moveaxis(values, 2, 0)[:, top:bottom, left:right]
        ]
        return np.stack(planes * (channels // len(planes)))

    def put_back(self, x: Tensor, *, paper: bool, missing: np.ndarray | None = None) -> bytes:
        """The file with a restored picture in place.

        What is not missing, and what was not changed, is the file's to the last bit. A picture of another size than
        the part of the file that was read is resized to that; one that cannot be part of the file, since
        the measurement had another size or other channels, is a picture of its own.

        Args:
            x: `[1 or 3, height, width]` in [-1, 1].
            paper: See `picture`.
            missing: `[height, width]`, where it is to be put in; everywhere by default.
        """
        channels, height, width = x.shape
        top, left, bottom, right = middle(self.size, (height, width))
        within, size = np.s_[top:bottom, left:right], (bottom - top, right - left)
        level = ((x.double().clamp(-1, 1) + 1) / 2).numpy()
        place = np.ones((height, width), dtype=bool) if missing is None else missing
        if size == (height, width):
            read = to_tensor(self.picture(channels, size, paper=paper))
            place = place & (read != x).any(0).numpy()
        else:
            level = np.stack([resized(plane.astype(np.float32), size) for plane in level])
            place = resized(place.astype(np.uint8), size, Image.Resampling.NEAREST) > 0
        level = np.moveaxis(level, 0, 2)
        level = _grey(level) if self.values.shape[2] < channels else level
        alpha = None if self.alpha is None else self.alpha.copy()
        if alpha is not None and missing is not None:
            alpha[within][place] = self.white
        elif alpha is not None and paper:
            # The paper that showed through is taken off again.
            share = (self.opacity[within] / 255)[..., None]
            place &= share[..., 0] > 0
            level = (1 - (1 - level) / share.clip(1 / 255)).clip(0, 1)
        values = self.values.copy()
        part = values[within]
        part[place] = np.broadcast_to(self._units(level), part.shape)[place]
        return replace(self, values=values, alpha=alpha).encoded()

    def _units(self, level: np.ndarray) -> np.ndarray:
        """Levels from 0 to 1 in the units of the file."""
        units = level if self.white == 1 else (level * self.white).round()
        return units.astype(self.values.dtype)

    def developed(self, x: Tensor) -> bytes:
        """A restored picture `[1 or 3, height, width]` of another size or other channels, in the depth of the file."""
        values = self._units(((x.double().clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy())
        alpha = None if self.alpha is None else resized(self.alpha, (x.shape[1], x.shape[2]))
        made = replace(self, values=values, alpha=alpha)
        return (
            made if values.shape[2] == self.values.shape[2] else made.without_profile()
        ).encoded()

    def without_profile(self) -> "Original":
        """Without the colour profile, which is one of grey or of colours."""
        return replace(
            self,
            chunks=tuple(chunk for chunk in self.chunks if chunk[4:8] != b"iCCP"),
            tags={tag: value for tag, value in self.tags.items() if tag != ICC_TAG},
        )

    def encoded(self) -> bytes:
        """The file."""
        parts = self.values if self.alpha is None else np.dstack([self.values, self.alpha])
        array = turned(parts, {6: 8, 8: 6}.get(self.turn, self.turn))
        array = np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array)
        if self.suffix == ".tif":
            return tiff_file(array, self.tags)
        return png_file(array, self.chunks)


def turned(values: np.ndarray, turn: int) -> np.ndarray:
    """A picture `[height, width, ...]` turned and mirrored as an EXIF orientation asks for."""
    if turn in {5, 6, 7, 8}:
        values = values.swapaxes(0, 1)
    rows, columns = turn in {3, 4, 7, 8}, turn in {2, 3, 6, 7}
    return values[:: -1 if rows else 1, :: -1 if columns else 1]


def middle(own: tuple[int, int], size: tuple[int, int]) -> Box:
    """The middle of a picture with the ratio of another size's sides: top, left, bottom, right, in whole pixels."""
    scale = min(own[0] / size[0], own[1] / size[1])
    sides = [min(max(round(scale * n), 1), m) for n, m in zip(size, own, strict=True)]
    top, left = ((m - n) // 2 for n, m in zip(sides, own, strict=True))
    return top, left, top + sides[0], left + sides[1]


def resized(
    plane: np.ndarray, size: tuple[int, int], method: Image.Resampling = LANCZOS
) -> np.ndarray:
    """A plane `[height, width]` of bytes, 16 bits or floats at another size."""
    if plane.shape == size:
        return plane
    if plane.dtype == np.uint16:
        wide = resized(plane.astype(np.float32), size, method)
        return wide.round().clip(0, 65535).astype(np.uint16)
    plane = np.ascontiguousarray(plane)
    return np.asarray(Image.fromarray(plane).resize((size[1], size[0]), method))


def to_tensor(picture: np.ndarray) -> Tensor:
    """Bytes, or floats from 0 to 1, `[channels, height, width]`, in [-1, 1]."""
    array = picture.astype(np.float32)
    array = (
        2 * array.clip(0, 1) - 1 if picture.dtype.kind == "f" else array / np.float32(127.5) - 1
    )
    return torch.from_numpy(array)


def _grey(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return np.asarray(Image.fromarray(values).convert("L"))[..., None]
    weights = np.array([0.299, 0.587, 0.114], dtype=values.dtype)
    grey: np.ndarray = (values @ weights)[..., None]
    return grey


def _on_paper(values: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """The picture on white paper, which shows through where it is transparent: those pixels' colours nobody saw."""
    white = 1 if values.dtype.kind == "f" else 255
    share = opacity[..., None].astype(np.float32) / 255
    mixed = white - (white - values.astype(np.float32)) * share
    return mixed if white == 1 else mixed.round().astype(np.uint8)


def read_original(path: Path) -> Original:
    """Read a picture file.

    Raises:
        InputError: If there is none, it cannot be read, or its mode or range of values is not known.
    """
    image, deep, aside = opened(path)
    tiff = image.format == "TIFF"
    tags = tags_of(path) if tiff else {}
    if deep:
        values, alpha, aside = read_deep(path, image.format)
        values = _known(path, values)
    else:
        values, alpha = _pixels(path, image)
    # Pillow turns a TIFF file as it loads it, and forgets that.
    turn = tags.get(ORIENTATION, (None, 1))[1] if tiff else turn_of(path, image)
    upright = values if values.ndim == 3 else values[..., None]
    if deep or not tiff:
        upright, alpha = turned(upright, turn), None if alpha is None else turned(alpha, turn)
    suffix = ".tif" if tiff or values.dtype.kind == "f" else ".png"
    said = [*aside, *said_of_depth(values, path.name)]
    gamma = float(image.info.get("gamma") or GAMMA)
    if abs(gamma - GAMMA) > 0.1:
        said.append(
            f"{path.name} says a gamma of {gamma:.2g}, and is taken as it is: pictures of the prior have {GAMMA:.2g}."
        )
    if not tiff and image.format != "PNG":
        said.append(
            f"{path.name} is a {image.format} file; what is restored is written as {suffix}."
        )
    kept = {"1", "L", "LA", "RGB", "RGBA"}
    if values.dtype == np.uint8 and image.mode not in kept:
        said.append(f"The colours of {path.name} ({image.mode}) become RGB.")
    made = Original(
        upright,
        alpha,
        suffix,
        turn,
        () if suffix == ".tif" else chunks_of(path, image),
        tags,
        tuple(said),
    )
    # The profile of inks is none of RGB.
    return made.without_profile() if image.mode == "CMYK" else made


def said_of_depth(values: np.ndarray, name: str) -> tuple[str, ...]:
    """A sentence on values of 16 bits that use few of them, and so are nearly black; none for others."""
    bits = int(values.max()).bit_length() if values.dtype == np.uint16 and values.size else 16
    if not 0 < bits < 15:
        return ()
    most = values.max()
    return (
        f"{name} has 16 bits, and no value above {most}, {most / 655.35:.2g} % of white. If its numbers have {bits} "
        f"bits, it is taken as too dark: multiply them by {2 ** (16 - bits)}.",
    )


def _pixels(path: Path, image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Values and opacity of a picture of Pillow's, in one depth."""
    hidden = image.info.get("transparency")
    if image.mode == "F" or image.mode[0] == "I":
        values = _known(path, np.asarray(image), image.mode, image.format)
        white = white_of(values)
        alpha = (
            None if hidden is None else np.where(values == hidden, 0, white).astype(values.dtype)
        )
        tags = getattr(image, "tag_v2", {})
        return white - values if tags.get(COLOURS) == INVERTED else values, alpha
    if image.mode not in {"1", "L", *TRANSPARENT, *COLOUR}:
        raise InputError(f"{path} is a picture of mode {image.mode}; save it as grey or RGB.")
    alpha, kind = None, "L" if image.mode in {"1", "L", "LA"} else "RGB"
    if hidden is not None or image.mode in TRANSPARENT:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        image = image.getchannel("R") if kind == "L" else image
    return np.asarray(image.convert(kind)), alpha


def _known(
    path: Path, values: np.ndarray, mode: str = "", format: str | None = None
) -> np.ndarray:
    """Pixels of a depth and in a range that are known."""
    if values.dtype.kind == "f" and values.itemsize == 4:
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
    if values.dtype == np.uint8:
        return values
    # Pillow gives PGM and PNG files of 16 bits as 32-bit integers; those of a TIFF are of any range.
    wide = mode == "I" and format != "TIFF" and values.min() >= 0 and values.max() <= 65535
    if not wide and (values.dtype.kind != "u" or values.itemsize > 2):
        what = "floats" if values.dtype.kind == "f" else "integers, whose range is not known"
        raise InputError(
            f"{path} holds {8 * values.itemsize}-bit {what}; save it with 8 or 16 bits, or with 32-bit floats from 0 "
            "to 1."
        )
    return values.astype(np.uint16)
