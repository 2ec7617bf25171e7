"""Blurs: with wrap-around edges and an exact decomposition, or with the usual padding."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, Self, get_args

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import InputError, ShapeError, require, unknown
from ..core.level import several, typical
from ..core.linalg import LinearMap
from ..core.rng import checked
from ..core.space import Space, finite
from .base import LinearComposed, LinearOperator, SVDOperator
from .pixel import SuperResolution
from .separable import Factor, Separable
from .shapes import picture_shape


def gaussian_kernel(size: int, std: float) -> Tensor:
    """A Gaussian `[size, size]` in float64 whose entries sum to 1, `std` in pixels.

    Raises:
        InputError: If `size` is not odd or less than 1, or `std` is not above 0 and finite.
    """
    # Of a std whose square is 0 or infinite the entries would be NaN or alike.
    if size < 1 or size % 2 != 1 or not 0 < std * std < math.inf:
        raise InputError(
            f"A blur needs an odd kernel size and a std above 0; got size {size} and std {std}."
        )
    t = torch.arange(int(size), dtype=torch.float64) - size // 2
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

    Raises:
        InputError: If the size is not odd or less than 5, or the intensity not in [0, 1].
    """
    # In 3 pixels there is no room for a path.
    if size < 5 or size % 2 != 1 or not 0 <= intensity <= 1:
        raise InputError(
            f"A motion kernel needs an odd size above 3 and intensity in [0, 1]; got {size} and {intensity}."
        )
    size = int(size)
    steps = 16 * size
    generator = torch.Generator().manual_seed(checked(seed))
    noise = torch.randn(steps, dtype=torch.float64, generator=generator)
    angle = 2 * math.pi * torch.rand((), dtype=torch.float64, generator=generator)
    heading = angle + intensity * 8 / math.sqrt(steps) * noise.cumsum(0)
    path = torch.stack([heading.sin(), heading.cos()]).cumsum(1)
    path = path - (path.amax(1, keepdim=True) + path.amin(1, keepdim=True)) / 2
    return _along(path / path.abs().max() * (size // 2 - 1) * 0.75 + size // 2, size)


def line_kernel(length: float, angle: float = 0.0) -> Tensor:
    """A straight motion, `[size, size]` in float64 whose entries sum to 1, `size` the least odd one that holds it.

    Args:
        length: Of the path in pixels, above 0.
        angle: In degrees, counter-clockwise from the direction of rows to the right.

    Raises:
        InputError: If one of them is not finite, or the length is not above 0.
    """
    if not 0 < length < math.inf or not math.isfinite(angle):
        raise InputError(
            f"A motion needs a length above 0 and an angle in degrees; got {length} and {angle}."
        )
    size, steps = 2 * math.ceil(length / 2) + 3, 64 * math.ceil(length)
    along = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps - 0.5) * length
    turn = math.radians(angle)
    return _along(torch.stack([-math.sin(turn) * along, math.cos(turn) * along]) + size // 2, size)


def _along(path: Tensor, size: int) -> Tensor:
    """The kernel `[size, size]` of a path through rows and columns, `[2, points]`."""
    kernel = torch.zeros(size, size, dtype=torch.float64)
    # Each point of the path gives its weight to the four pixels around it.
    low = path.floor().long()
    high = path - low
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (high[0] if dy else 1 - high[0]) * (high[1] if dx else 1 - high[1])
            kernel.index_put_((low[0] + dy, low[1] + dx), weight, accumulate=True)
    return kernel / kernel.sum()


def _checked(
    kernel: Tensor, shape: Sequence[int], operator: str
) -> tuple[Tensor, tuple[int, ...]]:
    kernel, shape = finite(kernel, "A kernel"), picture_shape(shape, operator)
    if kernel.ndim != 2 or kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise ShapeError(
            f"A kernel has two odd sides, its centre in the middle; this one has shape {tuple(kernel.shape)}. Where "
            "the centre of an even side n is entry n // 2, as in FFTs, add zeros at its end: "
            f"torch.nn.functional.pad(kernel, (0, {1 - kernel.shape[-1] % 2}, 0, {1 - kernel.shape[0] % 2}))."
            if kernel.ndim == 2
            else f"A kernel is (height, width); this one has shape {tuple(kernel.shape)}."
        )
    if kernel.shape[0] > shape[-2] or kernel.shape[1] > shape[-1]:
        raise ShapeError(
            f"A kernel of {tuple(kernel.shape)} is larger than a signal of shape {shape}."
        )
    require(bool(kernel.any()), "A kernel holds numbers that are not all 0.")
    return kernel, shape


class CircularBlur(SVDOperator):
    """Convolution of the last two axes with wrap-around edges.

    Args:
        kernel: `[height, width]` with odd sides, its centre at the middle.
        shape: Event shape, `(..., channels, height, width)`.

    Raises:
        ShapeError: If a side of the kernel is even or longer than the picture's, or the shape is no picture's.
        InputError: If the kernel is not finite, or 0.
    """

    shown = ("kernel_size",)

    def __init__(self, kernel: Tensor, shape: Sequence[int]) -> None:
        kernel, shape = _checked(kernel, shape, "CircularBlur")
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
        spectrum = torch.fft.rfft2(x)
        # Of a real map: the other half is its conjugate.
        half = transfer[..., : spectrum.shape[-1]].to(spectrum)
        filtered: Tensor = torch.fft.irfft2(spectrum * half, s=x.shape[-2:])
        return filtered

    @property
    @override
    def summed(self) -> int:
        return max(*self.domain.shape, *self.codomain.shape)

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

    @override
    def innovation_solve(self, r: Tensor, noise: float | Tensor, signal: float | Tensor) -> Tensor:
        if several(noise, signal):
            return super().innovation_solve(r, noise, signal)
        return self._filter(r, 1 / (noise + signal * self._transfer.abs() ** 2))

    @override
    def followed_by(self, outer: LinearOperator) -> LinearOperator:
        if isinstance(outer, SuperResolution):
            return CircularSuperResolution(outer, self)
        return super().followed_by(outer)


class CircularSuperResolution(LinearComposed):
    """`SuperResolution @ CircularBlur`, for any kernel: shifted by a block, a picture has a shifted measurement.

    So A A^T is a circular convolution of the small picture, and its solves are exact.
    """

    exact = True

    def __init__(self, outer: SuperResolution, inner: CircularBlur) -> None:
        super().__init__(outer, inner)
        delta = torch.zeros(self.codomain.shape, dtype=torch.float64, device=inner.domain.device)
        delta[..., 0, 0] = 1
        self._gains = torch.fft.rfft2(self.apply(self.apply_adjoint(delta))).real.clamp(min=0)

    @override
    def innovation_solve(self, r: Tensor, noise: float | Tensor, signal: float | Tensor) -> Tensor:
        if several(noise):
            return super().innovation_solve(r, noise, signal)
        return self._divided(r, noise + signal * self._gains.to(r))

    @override
    def pinv(self, y: Tensor) -> Tensor:
        # In double: gains are squares of singular values, and single precision has half of their digits.
        gains = self._gains.to(y.device, torch.float64)
        floor = gains.max() * (self.domain.size * torch.finfo(y.dtype).eps) ** 2
        solved = self._divided(y.double(), torch.where(gains > floor, gains, math.inf))
        return self.adjoint(solved).to(y)

    def _divided(self, y: Tensor, gains: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(y) / gains
        divided: Tensor = torch.fft.irfft2(spectrum, s=self.codomain.shape[-2:])
        return divided


Padding = Literal["reflect", "replicate", "zeros"]


class Blur(LinearOperator):
    """Convolution of the last two axes, the signal padded at its edges.

    A kernel that is a product of two lines, such as a Gaussian, makes a `SeparableBlur`, whose solves are
    exact; those of other kernels are by preconditioned conjugate gradients, as `solves` says.

    Args:
        kernel: `[height, width]` with odd sides, its centre at the middle. It is a product of two lines
            if its second singular value is below rounding (as `matrix_rank` counts it).
        shape: Event shape, `(..., channels, height, width)`.
        padding: What lies beyond the edges: the mirrored signal, its last pixel, or nothing.

    Raises:
        ShapeError: If a side of the kernel is even or longer than the picture's, or the shape is no picture's.
        InputError: If the kernel is not finite, or 0, or there is no such padding.
    """

    shown = ("kernel_size", "padding")
    tolerance = 1e-5

    def __new__(cls, kernel: Tensor | None = None, *_: object, **__: object) -> Self:
        """A `SeparableBlur` where the kernel allows it; a copy is made without a kernel."""
        separable = cls is Blur and kernel is not None and _rank_one(kernel)
        return super().__new__(SeparableBlur if separable else cls)  # type: ignore[return-value]

    def __init__(self, kernel: Tensor, shape: Sequence[int], padding: Padding = "reflect") -> None:
        kernel, shape = _checked(kernel, shape, "Blur")
        if padding not in get_args(Padding):
            raise unknown("padding", str(padding), get_args(Padding))
        super().__init__(Space(shape, device=kernel.device), Space(shape, device=kernel.device))
        self.kernel_size = tuple(kernel.shape)
        self.padding = padding
        self._kernel = Factor(kernel)
        self._pads = [
            Factor(_padded_line(side, size // 2, padding).to(kernel.device))
            for side, size in zip(shape[-2:], kernel.shape, strict=True)
        ]
        # A convolution that wraps around beyond the padded picture, where nobody looks.
        self._grid = [fast_size(len(pad.matrix)) for pad in self._pads]
        self._transfer = torch.fft.rfft2(self._kernel.matrix, s=self._grid)

    def _filtered(self, x: Tensor, transfer: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x, s=self._grid)
        spectrum = spectrum * transfer.to(x.device, x.dtype.to_complex())
        filtered: Tensor = torch.fft.irfft2(spectrum, s=self._grid)
        return filtered

    @override
    def apply(self, x: Tensor) -> Tensor:
        (height, width), (h, w) = self.domain.shape[-2:], self.kernel_size
        planes = x.reshape(-1, 1, height, width)
        mode = "constant" if self.padding == "zeros" else self.padding
        planes = torch.nn.functional.pad(planes, (w // 2, w // 2, h // 2, h // 2), mode=mode)
        blurred = self._filtered(planes, self._transfer)
        return blurred[..., h - 1 : h - 1 + height, w - 1 : w - 1 + width].reshape(x.shape)

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        h, w = self.kernel_size
        planes = y.reshape(-1, *y.shape[-2:])
        planes = torch.nn.functional.pad(planes, (w - 1, 0, h - 1, 0))
        planes = self._filtered(planes, self._transfer.conj())
        for axis, pad in enumerate(self._pads):
            planes = pad.along("at", planes.narrow(axis - 2, 0, len(pad.matrix)), axis - 2, 2)
        return planes.reshape(y.shape)

    @cached_property
    def _gains(self) -> Tensor:
        """Of A A^T and of A^T A alike, if the picture went on beyond its edges by repeating itself."""
        spectrum: Tensor = torch.fft.rfft2(self._kernel.matrix, s=self.domain.shape[-2:])
        return spectrum.abs().square()

    @override
    def preconditioner(
        self, noise: float | Tensor, signal: float | Tensor, *, normal: bool = False
    ) -> LinearMap:
        divided = typical(noise) + typical(signal) * self._gains

        def near(r: Tensor) -> Tensor:
            spectrum = torch.fft.rfft2(r) / divided.to(r)
            solved: Tensor = torch.fft.irfft2(spectrum, s=r.shape[-2:])
            return solved

        return near


class SeparableBlur(Separable, Blur):
    """A `Blur` whose kernel is a product of two lines: a matrix along the columns and one along the rows."""

    def __init__(self, kernel: Tensor, shape: Sequence[int], padding: Padding = "reflect") -> None:
        Blur.__init__(self, kernel, shape, padding)
        u, v, s = self._kernel.svd
        lines = (u[:, 0] * s[0], v[:, 0])
        matrices = [
            _convolving(line, pad.matrix) for line, pad in zip(lines, self._pads, strict=True)
        ]
        Separable.__init__(self, {-2: matrices[0], -1: matrices[1]}, self.domain)


def _rank_one(kernel: Tensor) -> bool:
    kernel = finite(kernel, "A kernel")
    if kernel.ndim != 2:
        return False
    exact = kernel.dtype if kernel.is_floating_point() else torch.float64
    return bool(torch.linalg.matrix_rank(kernel.to(exact)) <= 1)


def _padded_line(side: int, pad: int, padding: Padding) -> Tensor:
    """The matrix that pads a line, `[side + 2 * pad, side]`."""
    mode = "constant" if padding == "zeros" else padding
    eye = torch.eye(side, dtype=torch.float64)[None]
    return torch.nn.functional.pad(eye, (pad, pad), mode=mode)[0].mT


def _convolving(line: Tensor, padded: Tensor) -> Tensor:
    """The matrix of the convolution of a padded line with another, `[side, side]`."""
    # Row j of the windows of a padded unit vector holds what its entry gives to pixel j.
    windows = padded.mT.unfold(-1, len(line), 1)
    return (windows @ line.flip(0)).mT


def fast_size(least: int) -> int:
    """The next size without a prime factor above 5, whose Fourier transform is fast."""
    size = least
    while pow(30, size.bit_length(), size):
        size += 1
    return size
