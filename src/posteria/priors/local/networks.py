"""Denoising networks whose answer depends on a bounded neighbourhood alone: pictures and signals of any size."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import mul

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from ...core.errors import require

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}


def fold(x: Tensor, side: int) -> Tensor:
    """So many neighbours along each axis to channels, `[n, c, *sides]` to `[n, c * side^axes, *sides / side]`."""
    if x.ndim == 4:
        return nn.functional.pixel_unshuffle(x, side)
    n, channels, steps = x.shape
    return x.reshape(n, channels, -1, side).transpose(2, 3).reshape(n, -1, steps // side)


def unfold(x: Tensor, side: int) -> Tensor:
    """The inverse of `fold`."""
    if x.ndim == 4:
        return nn.functional.pixel_shuffle(x, side)
    n, _, steps = x.shape
    return x.reshape(n, -1, side, steps).transpose(2, 3).reshape(n, -1, steps * side)


class Block(nn.Module):
    """Two convolutions around which the input goes on; the noise level scales and shifts channels between them."""

    def __init__(self, width: int, embedding: int, kernel: int, axes: int) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[axes]
        self.first = convolution(width, width, kernel, padding=kernel // 2)
        self.second = convolution(width, width, kernel, padding=kernel // 2)
        self.level = nn.Linear(embedding, 2 * width)
        nn.init.zeros_(self.second.weight)

    @override
    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        at = self.level(level)
        scale, shift = at.reshape(*at.shape, *(1,) * (x.ndim - 2)).chunk(2, 1)
        inner = self.first(nn.functional.silu(x)) * (1 + scale) + shift
        out: Tensor = x + self.second(nn.functional.silu(inner))
        return out


class LocalUNet(nn.Module):
    """A U-Net without attention and without normalisation over space or time, so that windows can be cut out.

    Args:
        channels: Of a picture or signal.
        widths: Channels of each level.
        blocks: Residual blocks of each level on the way down (the last level: in all), and again on the way up.
        patch: So many neighbours along each axis are folded to channels.
        kernel: Of the convolutions, odd.
        strides: By how much each level is coarser than the one before; 2 unless they are given.
        axes: 2 for pictures, 1 for signals in time.

    Raises:
        InputError: If the kernel is even, or the lengths of widths, blocks and strides do not fit.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (64, 128, 192),
        blocks: Sequence[int] = (2, 2, 3),
        patch: int = 2,
        kernel: int = 3,
        strides: Sequence[int] | None = None,
        axes: int = 2,
    ) -> None:
        super().__init__()
        strides = (2,) * (len(widths) - 1) if strides is None else strides
        require(
            kernel % 2 == 1 and len(widths) == len(blocks) == len(strides) + 1,
            "A local U-Net has an odd kernel, as many blocks as widths and a stride less; "
            f"kernel={kernel}, widths={widths}, blocks={blocks} and strides={strides} are not.",
        )
        self.patch, self.kernel, self.axes, self.apart = patch, kernel, axes, False
        self.widths, self.blocks, self.strides = tuple(widths), tuple(blocks), tuple(strides)
        convolution = CONVOLUTIONS[axes]
        folded, embedding = channels * patch**axes, 2 * widths[0]
        self.level = nn.Sequential(
            nn.Linear(32, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.enter = convolution(folded, widths[0], kernel, padding=kernel // 2)
        self.leave = convolution(widths[0], folded, kernel, padding=kernel // 2)
        rows = [
            nn.ModuleList(Block(w, embedding, kernel, axes) for _ in range(n))
            for w, n in [
                *zip(widths, blocks, strict=True),
                *zip(widths[:-1], blocks, strict=False),
            ]
        ]
        self.down, self.up = (
            nn.ModuleList(part) for part in (rows[: len(widths)], rows[len(widths) :])
        )
        steps = [(a, b, s**axes) for (a, b), s in zip(pairwise(widths), strides, strict=True)]
        self.narrow = nn.ModuleList(convolution(s * a, b, 1) for a, b, s in steps)
        self.widen = nn.ModuleList(convolution(b, s * a, 1) for a, b, s in steps)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    @property
    def coarseness(self) -> tuple[int, ...]:
        """Pixels along an axis to one of each level."""
        return tuple(accumulate(self.strides, mul, initial=self.patch))

    @property
    def stride(self) -> int:
        """Sides of a picture, and offsets of a window, are multiples of this."""
        return self.coarseness[-1]

    @property
    def rows(self) -> list[int]:
        """Blocks of each level, on both ways."""
        return [*(2 * n for n in self.blocks[:-1]), self.blocks[-1]]

    @property
    def reach(self) -> int:
        """So many pixels from a pixel, along an axis, its answer cannot depend on any other."""
        half = self.kernel // 2
        inner = sum(
            2 * half * n * side for n, side in zip(self.rows, self.coarseness, strict=True)
        )
        # The first and the last convolution, and the pixels that are folded together at the coarsest level.
        return inner + 2 * half * self.patch + self.stride

    @property
    def footprint(self) -> int:
        """Numbers that a derivative keeps for each pixel: six a channel and block."""
        return sum(
            6 * width * n // side**self.axes + 1
            for width, n, side in zip(self.widths, self.rows, self.coarseness, strict=True)
        )

    @property
    def lean(self) -> int:
        """Numbers that it keeps where blocks are computed again: one a channel and block, and one block at a time."""
        each: list[float] = [
            w / side**self.axes for w, side in zip(self.widths, self.coarseness, strict=True)
        ]
        kept = sum(e * n for e, n in zip(each, self.rows, strict=True))
        return math.ceil(kept + 8 * max(each))

    @override
    def forward(self, x: Tensor, time: Tensor, again: bool = False) -> Tensor:
        """The network's output, `[n, channels, *sides]`, of pictures or signals and log sigma / 4, `[n]`.

        Args:
            x: Pictures or signals.
            time: log sigma / 4.
            again: Compute blocks again for a derivative, which then keeps `lean` numbers a pixel.
        """
        frequencies = torch.exp2(torch.linspace(-2, 4, 16, dtype=time.dtype, device=time.device))
        angles = time[:, None] * frequencies
        # The time is exact where the network is in half precision.
        level = self.level(torch.cat([angles.cos(), angles.sin()], 1).to(x.dtype))
        x = self.enter(fold(x, self.patch))

        def through(block: Block, x: Tensor) -> Tensor:
            if not again:
                return block(x, level)  # type: ignore[no-any-return]
            out: Tensor = checkpoint(
                block, x, level, use_reentrant=False, preserve_rng_state=False
            )
            return out

        kept = []
        for i, row in enumerate(self.down):
            for block in row:  # type: ignore[attr-defined]
                x = through(block, x)
            if i < len(self.up):
                kept.append(x)
                x = self.narrow[i](fold(x, self.strides[i]))
        for i in reversed(range(len(self.up))):
            x = kept[i] + unfold(self.widen[i](x), self.strides[i])
            for block in self.up[i]:  # type: ignore[attr-defined]
                x = through(block, x)
        return unfold(self.leave(x), self.patch)


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
        for i, (a, b) in enumerate(pairwise(channels)):
            self.add_module(f"conv{i}", nn.Conv2d(a, b, 3, padding=1, bias=False))
        self.reach, self.stride, self.axes = layers, 1, 2
        self.footprint = self.lean = layers * width
        self.apart = True

    @override
    def forward(self, x: Tensor, time: Tensor, again: bool = False) -> Tensor:
        """The clean pictures, `[n, channels, height, width]`; neither `time` nor `again` is looked at."""
        noisy = (x.reshape(-1, 1, *x.shape[-2:]) + 1) / 2
        noise = noisy
        for i, layer in enumerate(self.children()):
            noise = layer(nn.functional.relu(noise) if i else noise)
        return (2 * (noisy - noise) - 1).reshape(x.shape)
