"""What a picture file says in its head, before anything is decoded: its size, and how it was compressed."""

from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from ...operators.nonlinear import jpeg_tables

# The rows and columns of pixels that share one colour, by the names of JPEG's samplings of colours.
SAMPLINGS = {
    **{"4:4:4": (1, 1), "4:2:2": (1, 2), "4:4:0": (2, 1)},
    **{"4:2:0": (2, 2), "4:1:1": (1, 4)},
}
ORIENTATION, SIDEWAYS = 274, {5, 6, 7, 8}


def turn_of(path: Path, image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, of a picture that Pillow opened; that of a TIFF file before it is loaded.

    What XMP says of it, few viewers follow.
    """
    own, content = getattr(image, "tag_v2", None), image.info.get("exif", b"")
    if own is None:
        if image.format == "PNG" and not content:
            # It may stand behind the pixels, which Pillow would have to decode first.
            file = path.read_bytes()
            at = file.find(b"eXIf")
            content = file[at + 4 : at + 4 + int.from_bytes(file[at - 4 : at], "big")]
            content = content if at > 0 else b""
        own = Image.Exif()
        own.load(content)
    turn = own.get(ORIENTATION, 1)
    return turn if turn in range(1, 9) else 1


def size_of(path: Path) -> tuple[int, int] | None:
    """Height and width as it is shown; None if Pillow does not find it in the head."""
    most = Image.MAX_IMAGE_PIXELS
    try:
        # Nothing is decoded, so that there is no bomb to fear.
        Image.MAX_IMAGE_PIXELS = None
        with Image.open(path) as image:
            shown = image.width, image.height
            return shown if turn_of(path, image) in SIDEWAYS else shown[::-1]
    except Exception:
        return None
    finally:
        Image.MAX_IMAGE_PIXELS = most


class Compression(NamedTuple):
    """How a JPEG file was made.

    Attributes:
        quality: Whose standard tables are nearest to its own.
        sampling: Of its colours as it is shown, in `SAMPLINGS`; that of most files where it has none, and empty where
            it is another one.
        exact: Whether its tables are those.
        turned: Whether it is shown in another orientation than it was compressed in.
    """

    quality: int
    sampling: str
    exact: bool
    turned: bool


def compression_of(path: Path) -> Compression | None:
    """What a file says of its compression, from its head alone; None if it is no JPEG file."""
    try:
        with Image.open(path) as image:
            tables, layers = getattr(image, "quantization", None), getattr(image, "layer", ())
            turn = turn_of(path, image)
    # A file that cannot be read is refused where its pixels are read.
    except Exception:
        return None
    if not tables:
        return None
    own = torch.tensor([tables[key] for key in sorted(tables)][:2], dtype=torch.float64)
    away = [
        float((jpeg_tables(quality).flatten(1)[: len(own)] - own).abs().sum())
        for quality in range(1, 101)
    ]
    nearest = min(range(100), key=away.__getitem__)
    sampling = _sampling([layer[2:0:-1] for layer in layers], turn in SIDEWAYS)
    return Compression(nearest + 1, sampling, away[nearest] == 0, turn > 1)


def _sampling(each: list[tuple[int, int]], sideways: bool) -> str:
    """The name of the samples of each layer in a block, down and across."""
    if len(each) == 1:
        return "4:2:0"
    names = {size: name for name, size in SAMPLINGS.items()}
    if len(each) != 3 or each[1] != each[2]:
        return ""
    rows, columns = (a / b for a, b in zip(*each[:2], strict=True))
    return names.get((int(columns), int(rows)) if sideways else (int(rows), int(columns)), "")
