"""Train `ecg`, a prior of electrocardiograms of any length: `python training/ecg.py --data DIR --out DIR`.

It goes on from its last checkpoint, in pieces of any length: `pieces.py`.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.ecgs import CROPS, LEADS, ECGs
from pieces import Draw, Measure, main
from posteria.priors.local import LocalUNet
from train import Recipe, denoised

# The levels were first those of log_mean=-2 and log_std=1.4, after 22,272 examples those of log_mean=-0.2, and these
# after 125,312: a beat of 1 mV in eight leads is seen in noise of 1 mV, so that rhythm is decided there.
RECIPE = Recipe(
    patch=4, channels=(64, 128, 192), batch=16, sigma_data=0.25, log_mean=-0.2, log_std=1.2
)
BLOCKS, KERNEL, STRIDES = (1, 2, 4), 5, (2, 4)
# In mV: the levels at which denoising is reported.
LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5, 2.0)


def build() -> LocalUNet:
    """The network."""
    return LocalUNet(len(LEADS), RECIPE.channels, BLOCKS, RECIPE.patch, KERNEL, STRIDES, axes=1)


@torch.no_grad()
def errors(net: LocalUNet, x: Tensor) -> list[float]:
    """Root mean square errors of denoising in mV at the reported levels, with fixed noise."""
    clean = (denoised(net, RECIPE, x, sigma) for sigma in LEVELS)
    return [float((each - x).square().mean().sqrt()) for each in clean]


def read(folder: Path) -> tuple[Draw, Measure]:
    """Crops to train on, and the denoising of held-out patients beside that of some in training."""
    ecgs = ECGs(folder)
    length = CROPS[0][0]

    def measure(net: LocalUNet) -> dict[str, Any]:
        held_out = {
            each.source: errors(net, each.test[..., 16 : 16 + length]) for each in ecgs.real
        }
        return held_out | {"train": errors(net, ecgs.train[::4, :, 16 : 16 + length])}

    return ecgs.crops, measure


if __name__ == "__main__":
    main(__doc__, RECIPE, build, read)
