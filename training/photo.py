"""Train `photo`, a prior of photographs of any size: `python training/photo.py --data DIR --out DIR`.

It goes on from its last checkpoint, in pieces of any length: `pieces.py`.
"""

from pathlib import Path

import torch
from torch import Tensor

from data.photographs import photographs
from pieces import Draw, Measure, main
from posteria.priors.local import LocalUNet
from train import Recipe, denoised

RECIPE = Recipe(patch=2, channels=(64, 128, 192), batch=16, lr=5e-4, log_mean=-1.2)
BLOCKS = (2, 2, 3)
SIDE = 96
# Of 255, and in units of [-1, 1]: the levels at which denoising is reported.
LEVELS = (10, 25, 50, 100)


def build() -> LocalUNet:
    """The network."""
    return LocalUNet(3, RECIPE.channels, BLOCKS, RECIPE.patch)


@torch.no_grad()
def psnr(net: LocalUNet, x: Tensor) -> list[float]:
    """Of denoised pictures, in dB, averaged over them, at the reported levels and with fixed noise."""
    found = []
    for level in LEVELS:
        clean = denoised(net, RECIPE, x, 2 * level / 255)
        error = (clean.clamp(-1, 1) - x).square().mean((1, 2, 3))
        found.append(float((10 * (4 / error).log10()).mean()))
    return found


def read(folder: Path) -> tuple[Draw, Measure]:
    """Crops to train on, and the denoising of held-out flowers."""
    data = photographs(folder, SIDE)
    held_out = data.middle(128)[::8]
    return (
        lambda n, rng: data.crops(n, SIDE, rng),
        lambda net: {"psnr": psnr(net, held_out)},
    )


if __name__ == "__main__":
    main(__doc__, RECIPE, build, read)
