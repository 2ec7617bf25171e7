"""Nonlinear measurements of pictures in [-1, 1]: JPEG, clipping, quantisation, blur in linear light, lost phases."""

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import ShapeError, require, whole
from ..core.settings import as_number
from ..core.space import Space, shape_of
from .base import Operator
from .cells import Cells, Coefficients
from .convolution import Blur
from .pixel import Identity
from .shapes import picture_shape, shape_last

# ITU-T T.81, annex K: the quantisation tables that libjpeg scales by quality.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
) + ((99,) * 8,) * 4
# JFIF: rows are Y, Cb and Cr.
YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def soft_round(x: Tensor) -> Tensor:
    """`round(x)` plus the cube of what it leaves, so that a gradient passes (Shin and Song, 2017)."""
    rounded = x.round()
    return rounded + (x - rounded) ** 3


def jpeg_tables(quality: int) -> Tensor:
    """The tables of luminance and chrominance by which libjpeg divides at a quality, `[2, 8, 8]`.

    Raises:
        InputError: If the quality is not in 1 to 100.
    """
    require(
        isinstance(quality, Integral) and 1 <= quality <= 100,
        f"The quality of a JPEG is 1 to 100; {quality} is not.",
    )
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = torch.tensor((LUMINANCE, CHROMINANCE), dtype=torch.float64)
    return ((tables * scale + 50) / 100).floor().clamp(1, 255)


class JPEG(Operator):
    """JPEG compression and decompression of a grey or colour picture in [-1, 1].

    Tables, their scaling and clipping are libjpeg's (the `jpeg2` task of the papers leaves the scaled
    table unclipped); rounding passes a gradient by its cubic remainder.

    Args:
        quality: 1 to 100.
        shape: Event shape, `(1, height, width)` or `(3, height, width)`; any height and width.
        subsample: Halve the resolution of the colour differences (4:2:0); or the blocks whose means they are, in rows
            and columns of pixels, such as (1, 2) for 4:2:2.

    Raises:
        ShapeError: If the picture has neither one nor three channels.
        InputError: If the quality is out of range, or a side of the blocks is no number of pixels.
    """

    shown = ("quality", "subsample")
    rounds = True

    @shape_last
    def __init__(
        self, quality: int, shape: Sequence[int], subsample: bool | tuple[int, int] = True
    ) -> None:
        shape = shape_of(shape)
        if len(shape) != 3 or shape[0] not in {1, 3}:
            raise ShapeError(f"JPEG takes (1, height, width) or (3, height, width), not {shape}.")
        tables = jpeg_tables(quality)
        super().__init__(Space(shape), Space(shape))
        self.quality = quality
        self.subsample = subsample
        usual = (2, 2) if subsample else (1, 1)
        blocks = usual if isinstance(subsample, bool) else subsample
        rows, columns = (whole(side, "A side of a block of colours") for side in blocks)
        self.blocks = rows, columns
        self.tables = tables
        k = torch.arange(8, dtype=torch.float64)
        dct = torch.cos(torch.pi / 8 * torch.outer(k, k + 0.5)) / 2
        dct[0] /= 2**0.5
        self._dct = dct
        self._mix = torch.tensor(YCBCR, dtype=torch.float64)
        self._unmix = self._mix.inverse()

    @property
    def filled(self) -> tuple[int, ...]:
        """Height and width, up to multiples of 16 and of as many pixels as 8 colours stand for."""
        sides = zip(self.domain.shape[1:], self.blocks, strict=True)
        return tuple(side + -side % math.lcm(16, 8 * block) for side, block in sides)

    def planes(self, picture: Tensor) -> list[Tensor]:
        """Luminance and the colour differences of `[*batch, *event]`, each `[n, 1, height, width]`, as they are coded.

        Sides are filled up to `filled`.
        """
        channels, height, width = self.domain.shape
        down, right = (
            full - side for full, side in zip(self.filled, (height, width), strict=True)
        )
        picture = torch.nn.functional.pad(
            picture.reshape(-1, channels, height, width), (0, right, 0, down), mode="replicate"
        )
        if channels == 1:
            return [picture]
        luminance, *colours = torch.einsum("ij,njhw->nihw", self._mix.to(picture), picture).chunk(
            3, 1
        )
        return [luminance, *(torch.nn.functional.avg_pool2d(c, self.blocks) for c in colours)]

    def transformed(self, plane: Tensor) -> Tensor:
        """The cosine transform of each 8 x 8 block of `[n, 1, height, width]`, `[n, rows, columns, 8, 8]`."""
        n, _, height, width = plane.shape
        blocks = plane.reshape(n, height // 8, 8, width // 8, 8).transpose(2, 3)
        dct = self._dct.to(plane)
        return dct @ blocks @ dct.mT

    @override
    def apply(self, x: Tensor) -> Tensor:
        height, width = self.domain.shape[1:]
        luminance, *colours = self.planes((x + 1) * 127.5)
        decoded = [self._plane(luminance - 128, self.tables[0]) + 128]
        for colour in colours:
            rows, columns = self.blocks
            plane = self._plane(colour, self.tables[1])
            decoded.append(plane.repeat_interleave(rows, -2).repeat_interleave(columns, -1))
        out = torch.cat(decoded, 1)
        if colours:
            out = torch.einsum("ij,njhw->nihw", self._unmix.to(x), out)
        out = out[..., :height, :width].clamp(0, 255)
        return (out / 127.5 - 1).reshape(x.shape)

    def _plane(self, plane: Tensor, table: Tensor) -> Tensor:
        """Round the cosine transform of each 8 x 8 block of `[n, 1, height, width]`."""
        dct, table = self._dct.to(plane), table.to(plane)
        blocks = dct.mT @ (soft_round(self.transformed(plane) / table) * table) @ dct
        return blocks.transpose(2, 3).reshape(plane.shape)

    @override
    def rounded(self, y: Tensor, std: float | Tensor) -> Cells:
        """The coefficients of the file, each within half a step of its table.

        `std` is of the picture that it shows. How the noise of one coefficient goes with that of another is left out.
        """
        operator = Coefficients(self)
        noise = operator.spread((127.5 * torch.as_tensor(std)).expand(self.domain.shape))
        return Cells(operator, operator(y), operator.steps().to(y), noise.to(y))


class Clip(Operator):
    """Overexposure, or overdriven sound: `clip(gain * x, -level, level)`.

    The high dynamic range task of the papers is `gain=2`.

    Args:
        shape: Event shape.
        gain: Factor before the clipping, above 0.
        level: Beyond which values are clipped, above 0.

    Raises:
        InputError: If one of them is not.
    """

    shown = ("gain", "level")

    def __init__(self, shape: Sequence[int], gain: float = 2.0, level: float = 1.0) -> None:
        space = Space(shape_of(shape))
        for name, value in (("gain", gain), ("level", level)):
            require(
                0 < (as_number(value) or 0) < math.inf,
                f"The {name} of a clipping is above 0; {value} is not.",
            )
        super().__init__(space, space)
        self.gain, self.level = gain, level

    @override
    def apply(self, x: Tensor) -> Tensor:
        return (self.gain * x).clamp(-self.level, self.level)

    @override
    def rounded(self, y: Tensor, std: float | Tensor) -> Cells | None:
        """A value near black or white stands for all from there to the end of the range, which pictures have at 1.

        None with another `level`: beyond that a signal of another kind has no end.
        """
        if self.gain <= 1 or self.level != 1:
            return None
        edge = (1 - 3 * torch.as_tensor(std).to(y)).clamp(min=0)
        clipped = y.abs() > edge
        centre = torch.where(clipped, y.sign() * (1 + edge / self.gain) / 2, y / self.gain)
        width = torch.where(clipped, 1 - edge / self.gain, 0.0)
        return Cells(Identity(self.domain.shape), centre, width, std / self.gain + 0 * y)


class Quantization(Operator):
    """Rounding to equally spaced values in [-1, 1]; a gradient passes by the cubic remainder.

    Args:
        bits: `2^bits` values; 1 to 16, beyond which a single-precision sample is coarser.
        shape: Event shape.

    Raises:
        InputError: If the bits are out of range.
    """

    shown = ("bits",)
    rounds = True

    @shape_last
    def __init__(self, bits: int, shape: Sequence[int]) -> None:
        require(
            isinstance(bits, Integral) and 1 <= bits <= 16,
            f"Quantisation takes 1 to 16 bits; {bits} were given.",
        )
        space = Space(shape_of(shape))
        super().__init__(space, space)
        self.bits = bits

    @override
    def apply(self, x: Tensor) -> Tensor:
        last = (1 << self.bits) - 1
        return 2 * soft_round((x.clamp(-1, 1) + 1) / 2 * last) / last - 1

    @override
    def rounded(self, y: Tensor, std: float | Tensor) -> Cells:
        width = torch.full_like(y, 2 / ((1 << self.bits) - 1))
        return Cells(Identity(self.domain.shape), y, width, std + 0 * y)


class NonlinearBlur(Operator):
    """A blur of light: it acts on the radiance that a camera then compresses, so that bright spots spread further.

    Args:
        kernel: `[height, width]` with odd sides; fixed for the life of the operator.
        shape: Event shape, `(..., channels, height, width)`.
        gamma: Exponent from pixel value, in [0, 1], to radiance.
        exposure: Radiance is multiplied by this before it saturates; near 0 the operator is a
            plain blur in linear light.

    Raises:
        InputError: If gamma or exposure is not above 0.
        ShapeError: As for `Blur`.
    """

    shown = ("gamma", "exposure")

    def __init__(
        self, kernel: Tensor, shape: Sequence[int], gamma: float = 2.2, exposure: float = 1.5
    ) -> None:
        require(
            0 < gamma < math.inf and 0 < exposure < math.inf,
            f"A blur of light needs gamma and exposure above 0; got {gamma} and {exposure}.",
        )
        space = Space(picture_shape(shape, "NonlinearBlur"))
        super().__init__(space, space)
        self.gamma = gamma
        self.exposure = exposure
        self._blur = Blur(kernel, shape)

    @override
    def apply(self, x: Tensor) -> Tensor:
        # Keeps the slope of both power laws bounded at black, and defined for the pixels that a
        # sampler takes below it.
        dark = 0.01
        radiance = torch.nn.functional.softplus((x + 1) / 2 + dark, beta=100) ** self.gamma
        light = -torch.expm1(-self.exposure * self._blur.apply(radiance))
        return 2 * light.clamp(min=1e-8) ** (1 / self.gamma) - 1


class PhaseRetrieval(Operator):
    """The modulus of the oversampled Fourier transform of a picture in [-1, 1]; its phase is lost.

    The picture is taken to [0, 1], padded with zeros, and transformed orthonormally with the zero
    frequency in the middle. Its mirror image through the centre has the same measurement.

    Args:
        shape: Event shape, `(..., channels, height, width)`.
        pad: Zeros added on each side; by default a quarter of the height (rounded up), as in the papers.

    Raises:
        ShapeError: If the shape is no picture's.
        InputError: If `pad` is below 0.
    """

    shown = ("pad",)

    def __init__(self, shape: Sequence[int], pad: int | None = None) -> None:
        shape = picture_shape(shape, "PhaseRetrieval")
        self.pad = math.ceil(shape[-2] / 4) if pad is None else pad
        whole(self.pad, "pad", 0)
        padded = (*shape[:-2], shape[-2] + 2 * self.pad, shape[-1] + 2 * self.pad)
        super().__init__(Space(shape), Space(padded))

    @override
    def apply(self, x: Tensor) -> Tensor:
        picture = torch.nn.functional.pad((x + 1) / 2, (self.pad,) * 4)
        spectrum: Tensor = torch.fft.fft2(picture, norm="ortho")
        up = [side // 2 - side for side in spectrum.shape[-2:]]
        return spectrum.abs().roll(up, (-2, -1))
