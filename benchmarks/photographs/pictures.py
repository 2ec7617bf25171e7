"""The photographs of the study."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.photographs import channels_first, share_alike
from data.pictures import opened

SIDE = 256
SINGLE = ("astronaut.png", "chelsea.png", "coffee.png", "china.jpg", "flower.jpg", "rocket.jpg")


def photographs(data: Path) -> dict[str, Tensor]:
    """48 photographs in [-1, 1], `[3, 256, 256]`, by name: no recipe in training/ sees them.

    Two parts of each of the 21 share-alike scenes at half their size, and six of scikit-image's and scikit-learn's.
    """
    scenes, found = np.load(data / "scenes_1024px.npz"), {}
    for name, licence, scene in zip(
        scenes["name"], scenes["licence"], opened(scenes), strict=True
    ):
        if share_alike(licence):
            half = scene.reduce(2)
            found[f"{name}, left"] = part(half, 0)
            found[f"{name}, right"] = part(half, half.width - SIDE)
    for name in SINGLE:
        picture = Image.open(data / "images" / name).convert("RGB")
        found[name] = part(picture, (picture.width - SIDE) // 2)
    # Spread over the scenes, so that the first few are of many.
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0)).tolist()
    names = list(found)
    return {names[i]: found[names[i]] for i in order}


def part(picture: Image.Image, left: int) -> Tensor:
    """A square of the middle rows, from a column on, in [-1, 1]."""
    top = (picture.height - SIDE) // 2
    square = picture.crop((left, top, left + SIDE, top + SIDE))
    return channels_first(square).float() / 127.5 - 1
