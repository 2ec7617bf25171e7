"""Train `stems`, a prior of bass, drums, guitar and piano: `python training/stems.py --data SONGS --out DIR`.

SONGS is the folder that `songs.py` makes. It goes on from its last checkpoint, in pieces of any length: `pieces.py`.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.songs import HELD_OUT, STEMS, excerpt
from pieces import Draw, Measure, main
from posteria.priors.local import LocalUNet
from train import Recipe, denoised

RECIPE = Recipe(
    patch=16,
    channels=(96, 128, 192, 224, 240),
    batch=4,
    lr=8e-4,
    log_mean=-1.6,
    log_std=1.6,
    sigma_max=80.0,
)
BLOCKS, KERNEL = (1, 1, 1, 1, 2), 5
# Of a window to train on, in samples: 1.49 s.
LENGTH = 16_384
# In units of the signal: the levels at which denoising is reported.
LEVELS = (0.02, 0.1, 0.3, 1.0, 3.0)
# Spreads of the logarithm of the loudness of a window, and of each of its stems.
LOUDER, APART = 0.3, 0.2


class Songs:
    """Songs of integers, `[4, time]` each, of which those of high seeds are held out."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.npy"))
        self.train = [self._open(path) for path in paths if int(path.stem) < HELD_OUT]
        self.held_out = [self._open(path) for path in paths if int(path.stem) >= HELD_OUT]
        lengths = np.array([song.shape[1] for song in self.train], dtype=float)
        self.share = lengths / lengths.sum()

    @staticmethod
    def _open(path: Path) -> NDArray[np.int16]:
        song: NDArray[np.int16] = np.load(path, mmap_mode="r")
        return song

    def windows(self, n: int, rng: np.random.Generator) -> Tensor:
        """Random windows to train on, `[n, 4, LENGTH]`: louder and softer, half of them upside down."""
        rows = []
        for k in rng.choice(len(self.train), n, p=self.share):
            song = self.train[k]
            gain = np.exp(LOUDER * rng.normal() + APART * rng.normal(size=(len(STEMS), 1)))
            x = excerpt(song, rng.integers(song.shape[1] - LENGTH), LENGTH)
            rows.append(x * torch.from_numpy(gain * rng.choice([-1, 1])).float())
        return torch.stack(rows)


def build() -> LocalUNet:
    """The network."""
    return LocalUNet(
        len(STEMS), RECIPE.channels, BLOCKS, patch=RECIPE.patch, kernel=KERNEL, axes=1
    )


@torch.no_grad()
def left(net: LocalUNet, x: Tensor) -> dict[str, list[float]]:
    """Of each stem, at the reported levels: the squared error of denoising over the stem's power, in dB."""
    rows = []
    for level in LEVELS:
        error = denoised(net, RECIPE, x, level) - x
        power = error.square().mean((0, 2)) / x.square().mean((0, 2))
        rows.append(10 * power.log10())
    return dict(zip(STEMS, torch.stack(rows, 1).tolist(), strict=True))


def read(folder: Path) -> tuple[Draw, Measure]:
    """Windows to train on, and the denoising of a window of some held-out songs, a third of the way in."""
    songs = Songs(folder)
    x = torch.stack([excerpt(song, song.shape[1] // 3, LENGTH) for song in songs.held_out[:16]])
    return songs.windows, lambda net: {"held_out": left(net, x)}


if __name__ == "__main__":
    main(__doc__, RECIPE, build, read, warm=2_000, memory=10_000)
