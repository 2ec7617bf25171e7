"""The data of `photo`: crops of photographs, and whole ones by photographers that it never sees."""

import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SHARE_ALIKE = "sa"


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
    held_out = flowers["held_out"]

    free = [
        SHARE_ALIKE not in str(text).lower().replace("-", " ").split()
        for text in scenes["licence"]
    ]
    small = [picture for picture, out in zip(_pictures(flowers), held_out, strict=True) if not out]
    credit = [
        f"{n}: {a} ({t}), {s}" for n, a, t, s, ok in
        zip(*(scenes[key] for key in ("name", "author", "licence", "source")), free, strict=True) if ok
    ]  # fmt: skip
    return Photographs(
        large=[picture for picture, ok in zip(_pictures(scenes), free, strict=True) if ok],
        small=[picture for picture in small if min(picture.shape[1:]) >= side],
        held_out=[
            picture for picture, out in zip(_pictures(flowers), held_out, strict=True) if out
        ],
        credits=credit,
    )


def _pictures(data: "np.lib.npyio.NpzFile") -> list[Tensor]:
    content, ends = data["webp"].tobytes(), data["offset"]
    files = [io.BytesIO(content[a:b]) for a, b in itertools.pairwise(ends)]
    return [
        torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)
        for file in files
    ]
