"""Measurements of a Fourier transform."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import whole
from ..core.space import Space
from .base import Operator, picture_shape


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
