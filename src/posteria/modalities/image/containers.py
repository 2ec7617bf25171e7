"""PNG and TIFF files of every depth, with what a file holds beside its pixels."""

import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from ...core.errors import InputError
from ..arrays import existing

# Chunks of a PNG file that say how its pixels are kept, which may change.
OF_PIXELS = {b"tRNS", b"bKGD", b"hIST", b"sBIT", b"sPLT", b"acTL", b"fcTL", b"fdAT"}
# Tags of a TIFF file of the same kind.
TAGS_OF_PIXELS = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 288, 289, 292, 293, 297),
    *(317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 338, 339, 340, 341, 347, *range(512, 522)),
    *(529, 530, 531, 532),
}
ICC_TAG, EXIF_TAGS = 34675, (34665, 34853)
# Tags that say what the numbers of a TIFF file are, and what its colours are by the second of them.
BITS, COLOURS, CHANNELS, PLANES, EXTRA, KIND = 258, 262, 277, 284, 338, 339
INVERTED, GREY, RGB = 0, 1, 2
TIFF_HEADS = (b"II*\0", b"MM\0*")


class Opened(NamedTuple):
    """A picture of one frame, not turned.

    Attributes:
        image: As Pillow reads it.
        deep: Whether that has fewer bits than the file, or is nothing.
        said: What Pillow leaves out, in sentences.
    """

    image: Image.Image
    deep: bool
    said: tuple[str, ...] = ()


def opened(path: Path) -> Opened:
    """Open a picture file.

    Raises:
        InputError: If there is none, it cannot be read, holds several pictures, or numbers of no known range.
    """
    existing(path)
    try:
        # Up to twice the size at which it warns Pillow reads a picture.
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            try:
                image: Image.Image = Image.open(file)
            except UnidentifiedImageError:
                file.seek(0)
                if file.read(4) not in TIFF_HEADS:
                    raise
                image = Image.new("RGB", (1, 1))
                image.format = "TIFF"
                return Opened(image, True)
            frames = getattr(image, "n_frames", 1)
            raw = [
                a
                for t in getattr(image, "tile", ())
                for a in (t[3] if isinstance(t[3], tuple) else (t[3],))
            ]
            tags = getattr(image, "tag_v2", {})
            # Of planes of 16 bits Pillow reads each byte as a pixel, or nothing.
            deep = max(tags.get(BITS, (1,))) > 8 and tags.get(CHANNELS, 1) > 1
            deep = deep and not (image.mode == "CMYK" and tags.get(PLANES, 1) == 1)
            if not deep:
                image.load()
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels; cut out or reduce the part to use."
        ) from error
    # A damaged file can fail in any way.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as a picture; give a PNG or JPEG file, or an array as .npy."
        ) from error
    # A camera's MPO file holds the picture first and then its own previews of it.
    _expect_one(path, 1 if image.format == "MPO" else frames)
    if image.format == "TIFF":
        return Opened(image, deep, _checked(path, tags, deep))
    bytewise = image.mode[0] in "RL"
    if image.format == "JPEG2000" and bytewise and (bits := _bits_of_jp2(path)) > 8:
        raise InputError(
            f"{path.name} has {bits} bits in each of several channels, which JPEG 2000 is not read with; save it as "
            "PNG or TIFF."
        )
    if (
        image.format == "PPM"
        and bytewise
        and max((n for n in raw if isinstance(n, int)), default=0) > 255
    ):
        return Opened(image, False, (_narrowed(path),))
    return Opened(image, bytewise and any(";16" in str(part) for part in raw))


def _expect_one(path: Path, frames: int) -> None:
    if frames > 1:
        raise InputError(f"{path} holds {frames} pictures; save the one to use by itself.")


def _narrowed(path: Path) -> str:
    return f"Of the 16 bits of {path.name} 8 are read; save it in RGB as PNG or TIFF to keep them."


def _left_aside(path: Path, count: int) -> tuple[str, ...]:
    """A sentence on channels that are neither colours nor opacity; none if there is none."""
    many = f"{count} channels that are" if count > 1 else "a channel that is"
    how = f"{path.name} has {many} neither colour nor opacity: left aside, and not in what is written."
    return (how,) if count else ()


def _bits_of_jp2(path: Path) -> int:
    """The bits of a channel, from the first segment (SIZ) of a JPEG 2000 codestream."""
    content = path.read_bytes()
    at = content.index(b"\xff\x4f\xff\x51")
    return (content[at + 42] & 127) + 1


def _checked(path: Path, tags: Mapping[int, Any], deep: bool) -> tuple[str, ...]:
    """What Pillow leaves out of a TIFF file, in sentences; raise where its numbers have no range that is known."""
    bits, signed = max(tags.get(BITS, (1,))), 2 in tags.get(KIND, ())
    if signed or bits not in {1, 2, 4, 8, 16, 32, 64}:
        raise InputError(
            f"{path} holds {bits}-bit {'signed ' if signed else ''}integers, whose range is not known; save it with 8 "
            "or 16 bits."
        )
    if deep:
        return ()
    narrow = (_narrowed(path),) if bits > 8 and tags.get(CHANNELS, 1) > 1 else ()
    return (*narrow, *_left_aside(path, tags.get(EXTRA, ()).count(0)))


def _chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def chunks_of(path: Path, image: Image.Image) -> tuple[bytes, ...]:
    """What a file holds beside its pixels, as chunks of a PNG file; of other files EXIF and the colour profile."""
    if image.format == "PNG":
        content, at, found = path.read_bytes(), 8, []
        while at + 12 <= len(content):
            end = at + 12 + int.from_bytes(content[at : at + 4], "big")
            kind = content[at + 4 : at + 8]
            # Those that a viewer may leave out begin with a small letter.
            if kind[:1].islower() and kind not in OF_PIXELS:
                found.append(content[at:end])
            at = end
        return tuple(found)
    exif, profile = image.info.get("exif"), image.info.get("icc_profile")
    found = [_chunk(b"iCCP", b"ICC\0\0" + zlib.compress(profile))] if profile else []
    found += [_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))] if exif else []
    return tuple(found)


def tags_of(path: Path) -> dict[int, tuple[int | None, Any]]:
    """What a TIFF file holds beside its pixels: type and value by tag; a directory is a dictionary."""
    exif = Image.Exif()
    with path.open("rb") as file:
        exif.load_from_fp(file)
    types = getattr(exif._info, "tagtype", {})
    return {
        tag: (None, dict(exif.get_ifd(tag))) if tag in EXIF_TAGS else (types[tag], value)
        for tag, value in exif.items()
        if tag not in TAGS_OF_PIXELS
    }


def read_deep(
    path: Path, format: str | None
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """A picture that Pillow reads with fewer bits, or not at all.

    Returns:
        Colours `[height, width, 1 or 3]`, where 0 is black; opacity `[height, width]`, if it has any; and what is left
        aside, in sentences.

    Raises:
        InputError: If the extra that reads it is not installed, or it cannot be read, holds several pictures, or
            colours that are neither grey nor RGB.
    """
    try:
        import imagecodecs
        import tifffile
    except ImportError as error:
        raise InputError(
            f"{path.name} has more than 8 bits a channel and several channels, which only the extra `deep` reads: "
            "pip install 'posteria[deep]'. Or save it with 8 bits, or in grey."
        ) from error
    try:
        if format == "PNG":
            array, pages, extra = imagecodecs.png_decode(path.read_bytes()), 1, list[int]()
            colours = RGB if array.ndim == 3 and array.shape[2] > 2 else GREY
        else:
            with tifffile.TiffFile(path) as file:
                page, pages = file.pages[0], len(file.pages)
                array, colours = np.asarray(page.asarray()), int(page.photometric)
                extra = [int(kind) for kind in page.extrasamples]
                if int(page.planarconfig) == 2 and array.ndim == 3:
                    array = array.transpose(1, 2, 0)
    # A damaged file can fail in any way.
    except Exception as error:
        raise InputError(f"{path} cannot be read as a picture: {error}.") from error
    _expect_one(path, pages)
    if colours not in {INVERTED, GREY, RGB}:
        raise InputError(
            f"{path} has colours that are neither grey nor RGB (TIFF's kind {colours}); save it as grey or RGB."
        )
    array = array[..., None] if array.ndim == 2 else array
    own = 3 if colours == RGB else 1
    # One more channel of which nothing is said is opacity.
    extra = extra or [2] * (array.shape[2] == own + 1)
    at = next((i for i, kind in enumerate(extra) if kind), None)
    values, alpha = array[..., :own], None if at is None else array[..., own + at]
    if alpha is not None and extra[at or 0] == 1:
        values = _divided(values, alpha)
    values = white_of(values) - values if colours == INVERTED else values
    return values, alpha, _left_aside(path, array.shape[2] - own - (alpha is not None))


def white_of(values: np.ndarray) -> int:
    """The value of white, and of what is opaque."""
    return 1 if values.dtype.kind == "f" else int(np.iinfo(values.dtype).max)


def _divided(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours `[height, width, k]` that were multiplied by the opacity, as they were."""
    whole, white = values.dtype.kind != "f", white_of(values)
    made = values * (white / np.maximum(alpha, 1 if whole else 1e-6))[..., None]
    clipped: np.ndarray = np.clip(made.round() if whole else made, 0, white)
    return clipped.astype(values.dtype)


def png_file(array: np.ndarray, chunks: tuple[bytes, ...] = ()) -> bytes:
    """A PNG file of bytes or of 16 bits, `[height, width]` or `[height, width, 2 to 4]`, with further chunks."""
    if array.dtype == np.uint16 and array.ndim == 3:
        import imagecodecs

        content = bytes(imagecodecs.png_encode(np.ascontiguousarray(array)))
    else:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        content = buffer.getvalue()
    # Behind the signature and the header.
    return content[:33] + b"".join(chunks) + content[33:]


def tiff_file(array: np.ndarray, tags: Mapping[int, tuple[int | None, Any]]) -> bytes:
    """A TIFF file, not compressed, of any depth, `[height, width]` or `[height, width, 2 to 4]`, with further tags."""
    planes = array[..., None] if array.ndim == 2 else array
    height, width, channels = planes.shape
    content = planes.astype(planes.dtype.newbyteorder("<")).tobytes()
    directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
    for tag, (kind, value) in tags.items():
        if kind is not None:
            directory.tagtype[tag] = kind
        directory[tag] = value
    layout = {
        256: width,
        257: height,
        258: (8 * planes.dtype.itemsize,) * channels,
        259: 1,
        262: 2 if channels > 2 else 1,
        273: 0,
        277: channels,
        278: height,
        279: len(content),
        284: 1,
        339: (3 if planes.dtype.kind == "f" else 1,) * channels,
    }
    directory.tagtype.update({273: 4, 279: 4})
    for tag, value in layout.items():
        directory[tag] = value
    if channels in {2, 4}:
        # Opacity, by which the colours were not multiplied.
        directory[338] = 2
    buffer = io.BytesIO()
    directory.save(buffer)
    return buffer.getvalue() + content
