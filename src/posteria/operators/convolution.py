"""Blurs: with wrap-around edges and an exact decomposition, or with the usual padding."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import InputError, ShapeError
from ..core.space import Space
from .base import LinearOperator, SVDOperator, picture_shape


def gaussian_kernel(size: int, std: float) -> Tensor:
    """A Gaussian `[size, size]` in float64 whose entries sum to 1, `std` in pixels.

    Raises:
        InputError: If `size` is even or less than 1, or `std` is not above 0.
    """
    if size < 1 or size % 2 == 0 or not std > 0:
        raise InputError(
            f"A blur needs an odd kernel size and a std above 0; got size {size} and std {std}."
        )
    t = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.exp(-(t**2) / (2 * std**2))
    kernel = torch.outer(line, line)
    return kernel / kernel.sum()


def motion_kernel(size: int, seed: int, intensity: float = 0.5) -> Tensor:
    """The path of a shaking camera, `[size, size]` in float64 whose entries sum to 1.

    The path is a random walk in velocity, drawn once from `seed`: the same seed is the same
    kernel, whatever calls it.

    Args:
        size: Odd side of the kernel in pixels.
        seed: Seed of the path.
        intensity: 0 is a straight line; 1 turns at random at every step.
    """
    if size < 3 or size % 2 == 0 or not 0 <= intensity <= 1:
        raise InputError(
            f"A motion kernel needs an odd size above 1 and intensity in [0, 1]; got {size} and {intensity}."
        )
    steps = 16 * size
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(steps, dtype=torch.float64, generator=generator)
    angle = 2 * math.pi * torch.rand((), dtype=torch.float64, generator=generator)
    heading = angle + intensity * 8 / math.sqrt(steps) * noise.cumsum(0)
    path = torch.stack([heading.sin(), heading.cos()]).cumsum(1)
    path = path - (path.amax(1, keepdim=True) + path.amin(1, keepdim=True)) / 2
    path = path / path.abs().max() * (size // 2 - 1) * 0.75 + size // 2
    kernel = torch.zeros(size, size, dtype=torch.float64)
    # Each point of the path gives its weight to the four pixels around it.
    low = path.floor().long()
    high = path - low
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (high[0] if dy else 1 - high[0]) * (high[1] if dx else 1 - high[1])
            kernel.index_put_((low[0] + dy, low[1] + dx), weight, accumulate=True)
    return kernel / kernel.sum()


def _check_kernel(kernel: Tensor, shape: Sequence[int], operator: str) -> tuple[int, ...]:
    """The shape of a picture that a kernel can blur."""
    shape = picture_shape(shape, operator)
    if kernel.ndim != 2 or kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise ShapeError(f"A kernel has two odd sides; this one has shape {tuple(kernel.shape)}.")
    if not kernel.isfinite().all():
        raise InputError("A kernel holds finite numbers; this one does not.")
    if kernel.shape[0] > shape[-2] or kernel.shape[1] > shape[-1]:
        raise ShapeError(
            f"A kernel of {tuple(kernel.shape)} is larger than a signal of shape {shape}."
        )
    return shape


class CircularBlur(SVDOperator):
    """Convolution of the last two axes with wrap-around edges.

    Args:
        kernel: `[height, width]` with odd sides, its centre at the middle.
        shape: Event shape, `(..., channels, height, width)`.

    Raises:
        ShapeError: If a side of the kernel is even or longer than the picture's, or the shape is no picture's.
    """

    shown = ("kernel_size",)

    def __init__(self, kernel: Tensor, shape: Sequence[int]) -> None:
        shape = _check_kernel(kernel, shape, "CircularBlur")
        space = Space(shape, device=kernel.device)
        super().__init__(space, space)
        full = torch.zeros(shape[-2:], dtype=torch.float64, device=kernel.device)
        full[: kernel.shape[0], : kernel.shape[1]] = kernel.double()
        full = full.roll((-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1))
        self._transfer = torch.fft.fft2(full)
        gain = self._transfer.abs()
        # A is the symmetric map with gains |k| followed by the rotation of each frequency by its
        # phase. The first has the Hartley functions as its eigenvectors, since |k| is the same at
        # opposite frequencies.
        self.kernel_size = tuple(kernel.shape)
        self._phase = torch.where(gain > 0, self._transfer / gain.clamp(min=1e-300), 1)
        self.singular_values = gain.expand(shape).reshape(-1).clone()

    def _hartley(self, x: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.fft2(x, norm="ortho")
        return spectrum.real - spectrum.imag

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        transfer = transfer.to(x.device, x.dtype.to_complex())
        filtered: Tensor = torch.fft.ifft2(torch.fft.fft2(x) * transfer)
        return filtered.real

    @override
    def v(self, coefficients: Tensor) -> Tensor:
        return self._hartley(self.domain.unflatten(coefficients))

    @override
    def vt(self, x: Tensor) -> Tensor:
        return self.domain.flatten(self._hartley(x))

    @override
    def u(self, coefficients: Tensor) -> Tensor:
        return self._filter(self.v(coefficients), self._phase)

    @override
    def ut(self, y: Tensor) -> Tensor:
        return self.vt(self._filter(y, self._phase.conj()))

    @override
    def apply(self, x: Tensor) -> Tensor:
        return self._filter(x, self._transfer)

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        return self._filter(y, self._transfer.conj())


class Blur(LinearOperator):
    """Convolution of the last two axes, the signal padded at its edges.

    Args:
        kernel: `[height, width]` with odd sides, its centre at the middle.
        shape: Event shape, `(..., channels, height, width)`.
        padding: What lies beyond the edges: the mirrored signal, its last pixel, or nothing.

    Raises:
        ShapeError: If a side of the kernel is even or longer than the picture's, or the shape is no picture's.
    """

    shown = ("kernel_size", "padding")

    def __init__(
        self,
        kernel: Tensor,
        shape: Sequence[int],
        padding: Literal["reflect", "replicate", "zeros"] = "reflect",
    ) -> None:
        shape = _check_kernel(kernel, shape, "Blur")
        super().__init__(Space(shape, device=kernel.device), Space(shape, device=kernel.device))
        self.kernel_size = tuple(kernel.shape)
        self.padding = padding
        # torch's convolution is a correlation.
        self._weight = kernel.double().flip(0, 1)[None, None]

    @override
    def apply(self, x: Tensor) -> Tensor:
        planes = x.reshape(-1, 1, *self.domain.shape[-2:])
        h, w = (side // 2 for side in self._weight.shape[-2:])
        mode = "constant" if self.padding == "zeros" else self.padding
        planes = torch.nn.functional.pad(planes, (w, w, h, h), mode=mode)
        return torch.nn.functional.conv2d(planes, self._weight.to(x)).reshape(x.shape)
