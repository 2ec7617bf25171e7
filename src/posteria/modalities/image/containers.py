"""PNG and TIFF files of every depth, with what a file holds beside its pixels."""

import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


TIFF_HEADS = (b"II*\0", b"MM\0*")


def opened(path: Path) -> tuple[Image.Image, bool]:
    """A picture of one frame, not turned, and whether Pillow reads it with fewer bits than it has, or not at all.

    Raises:
        InputError: If there is none, or it cannot be read.
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
                return image, True
            frames = getattr(image, "n_frames", 1)
            raw = [
                a
                for tile in getattr(image, "tile", ())
                for a in (tile[3] if isinstance(tile[3], tuple) else (tile[3],))
            ]
            image.load()
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
    return image, image.mode[0] in "RL" and any(";16" in str(part) for part in raw)


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


def read_deep(path: Path, format: str | None) -> np.ndarray:
    """The pixels `[height, width, channels]` of a picture that Pillow reads with fewer bits, or not at all.

    Raises:
        InputError: If the extra that reads it is not installed, or it cannot be read.
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
            return np.asarray(imagecodecs.png_decode(path.read_bytes()))
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            array = np.asarray(page.asarray())
            planes = int(page.planarconfig) == 2 and array.ndim == 3
    # A damaged file can fail in any way.
    except Exception as error:
        raise InputError(f"{path} cannot be read as a picture: {error}.") from error
    return array.transpose(1, 2, 0) if planes else array


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
