"""The data of `photo`: crops of photographs, and whole ones by photographers that it never sees."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.pictures import opened


@dataclass(frozen=True)
class Photographs:
    """Photographs as bytes, `[3, height, width]` each: sharp large ones and small ones, and held-out small ones."""

    large: list[Tensor]
    small: list[Tensor]
    held_out: list[Tensor]
    credits: list[str]

    def crops(self, n: int, side: int, rng: np.random.Generator) -> Tensor:
        """Random crops in [-1, 1], `[n, 3, side, side]`: scaled down by up to 3, flipped, turned, one in ten grey."""
        rows = []
        for _ in range(n):
            pool = self.large if rng.random() < 0.4 else self.small
            picture = pool[rng.integers(len(pool))]
            most = min(3.0, min(picture.shape[1:]) / side)
            factor = most ** rng.random() if rng.random() < 0.7 else 1.0
            edge = max(int(side * factor), side)
            top, left = (rng.integers(0, m - edge + 1) for m in picture.shape[1:])
            crop = picture[None, :, top : top + edge, left : left + edge].float() / 127.5 - 1
            if edge != side:
                crop = torch.nn.functional.interpolate(
                    crop, (side, side), mode="bicubic", antialias=True
                )
            crop = torch.rot90(crop, int(rng.integers(4)), (2, 3))
            if rng.random() < 0.5:
                crop = crop.flip(3)
            if rng.random() < 0.1:
                crop = grey(crop).expand_as(crop)
            rows.append(crop.clamp(-1, 1))
        return torch.cat(rows)

    def middle(self, side: int) -> Tensor:
        """The middle of each held-out picture that is large enough, in [-1, 1]."""
        rows = []
        for picture in self.held_out:
            height, width = picture.shape[1:]
            if min(height, width) >= side:
                top, left = (height - side) // 2, (width - side) // 2
                rows.append(picture[:, top : top + side, left : left + side].float() / 127.5 - 1)
        return torch.stack(rows)


def grey(x: Tensor) -> Tensor:
    """The luma of pictures `[n, 3, height, width]` (ITU-R BT.601), `[n, 1, height, width]`."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def photographs(folder: Path, side: int) -> Photographs:
    """Flowers of nine tenths of the photographers and scenes that are not share-alike, of at least `side` pixels."""
    flowers, scenes = np.load(folder / "flowers_240px.npz"), np.load(folder / "scenes_1024px.npz")
    out, parts = (
        flowers["held_out"],
        [list(map(channels_first, opened(x))) for x in (flowers, scenes)],
    )
    free = [not share_alike(licence) for licence in scenes["licence"]]
    known = zip(*(scenes[key] for key in ("name", "author", "licence", "source")), strict=True)
    small = [picture for picture, held in zip(parts[0], out, strict=True) if not held]
    return Photographs(
        large=[picture for picture, ok in zip(parts[1], free, strict=True) if ok],
        small=[picture for picture in small if min(picture.shape[1:]) >= side],
        held_out=[picture for picture, held in zip(parts[0], out, strict=True) if held],
        credits=[
            f"{n}: {a} ({t}), {s}" for (n, a, t, s), ok in zip(known, free, strict=True) if ok
        ],
    )


def share_alike(licence: object) -> bool:
    """Whether a licence asks for itself in what is made of a work."""
    return "sa" in str(licence).lower().replace("-", " ").split()


def channels_first(picture: Image.Image) -> Tensor:
    """Bytes, `[3, height, width]`."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
