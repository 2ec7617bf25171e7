"""Denoising networks whose answer at a pixel depends on a bounded neighbourhood alone, for pictures of any size."""

import itertools

import torch
from torch import Tensor, nn
from typing_extensions import override


class Block(nn.Module):
    """Two convolutions around which the input goes on; the noise level scales and shifts channels between them."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.level = nn.Linear(embedding, 2 * width)
        nn.init.zeros_(self.second.weight)

    @override
    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.level(level)[:, :, None, None].chunk(2, 1)
        inner = self.first(nn.functional.silu(x)) * (1 + scale) + shift
        out: Tensor = x + self.second(nn.functional.silu(inner))
        return out


class LocalUNet(nn.Module):
    """A U-Net without attention and without normalisation over space, so that windows can be cut out of a picture.

    Args:
        channels: Of a picture.
        widths: Channels of each level, of which each has half the sides of the one before.
        blocks: Residual blocks of each level on the way down (the last level: in all), and again on the way up.
        patch: So many pixels, squared, are folded to channels.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: tuple[int, ...] = (64, 128, 192),
        blocks: tuple[int, ...] = (2, 2, 3),
        patch: int = 2,
    ) -> None:
        super().__init__()
        self.patch, self.apart = patch, False
        self.widths, self.blocks = tuple(widths), tuple(blocks)
        folded, embedding = channels * patch**2, 2 * widths[0]
        self.level = nn.Sequential(
            nn.Linear(32, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.enter = nn.Conv2d(folded, widths[0], 3, padding=1)
        self.leave = nn.Conv2d(widths[0], folded, 3, padding=1)
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(
            self._row(w, n, embedding) for w, n in zip(widths, blocks, strict=True)
        )
        self.up = nn.ModuleList(
            self._row(w, n, embedding) for w, n in zip(widths[:-1], blocks, strict=False)
        )
        self.narrow = nn.ModuleList(nn.Conv2d(4 * a, b, 1) for a, b in pairs)
        self.widen = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairs)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    @staticmethod
    def _row(width: int, blocks: int, embedding: int) -> nn.ModuleList:
        return nn.ModuleList(Block(width, embedding) for _ in range(blocks))

    @property
    def stride(self) -> int:
        """Sides of a picture, and offsets of a window, are multiples of this."""
        return self.patch << (len(self.widths) - 1)

    @property
    def reach(self) -> int:
        """So many pixels from a pixel, in rows or columns, its answer cannot depend on any other."""
        rows = [
            2 * n * (2 if i < len(self.widths) - 1 else 1) << i for i, n in enumerate(self.blocks)
        ]
        # The first and the last convolution, and the pixels that are folded together at the coarsest level.
        return self.patch * (sum(rows) + 2) + self.stride

    @property
    def footprint(self) -> int:
        """Numbers that a derivative keeps for each pixel: six a channel and block."""
        last = len(self.widths) - 1
        return sum(
            6 * width * blocks * (1 if i == last else 2) // (self.patch << i) ** 2 + 1
            for i, (width, blocks) in enumerate(zip(self.widths, self.blocks, strict=True))
        )

    @override
    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """The network's output, `[n, channels, height, width]`, of pictures and log sigma / 4, `[n]`."""
        frequencies = torch.exp2(torch.linspace(-2, 4, 16, dtype=time.dtype, device=time.device))
        angles = time[:, None] * frequencies
        # The time is exact where the network is in half precision.
        level = self.level(torch.cat([angles.cos(), angles.sin()], 1).to(x.dtype))
        x = self.enter(nn.functional.pixel_unshuffle(x, self.patch))
        kept = []
        for i, row in enumerate(self.down):
            for block in row:  # type: ignore[attr-defined]
                x = block(x, level)
            if i < len(self.up):
                kept.append(x)
                x = self.narrow[i](nn.functional.pixel_unshuffle(x, 2))
        for i in reversed(range(len(self.up))):
            x = kept[i] + nn.functional.pixel_shuffle(self.widen[i](x), 2)
            for block in self.up[i]:  # type: ignore[attr-defined]
                x = block(x, level)
        return nn.functional.pixel_shuffle(self.leave(x), self.patch)


class BiasFree(nn.Module):
    """A denoiser of convolutions without bias, which scales with its input and is not conditioned on the noise level.

    Mohan, Kadkhodaie, Simoncelli, Fernandez-Granda, 2020, arXiv:1906.05478. It was trained on grey pictures in
    [0, 1]; each channel of a picture in [-1, 1] is denoised by itself.

    Args:
        layers: Convolutions.
        width: Channels between them.
    """

    def __init__(self, layers: int = 20, width: int = 64) -> None:
        super().__init__()
        channels = [1, *(width,) * (layers - 1), 1]
        for i, (a, b) in enumerate(itertools.pairwise(channels)):
            self.add_module(f"conv{i}", nn.Conv2d(a, b, 3, padding=1, bias=False))
        self.reach, self.stride = layers, 1
        self.footprint, self.apart = layers * width, True

    @override
    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """The clean pictures, `[n, channels, height, width]`; `time` is not looked at."""
        noisy = (x.reshape(-1, 1, *x.shape[-2:]) + 1) / 2
        noise = noisy
        for i, layer in enumerate(self.children()):
            noise = layer(nn.functional.relu(noise) if i else noise)
        return (2 * (noisy - noise) - 1).reshape(x.shape)
