"""Measurements of a Fourier transform."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.errors import ShapeError
from ..core.space import Space
from .base import Operator


class PhaseRetrieval(Operator):
    """The modulus of the oversampled Fourier transform of a picture in [-1, 1]; its phase is lost.

    The picture is taken to [0, 1], padded with zeros, and transformed orthonormally with the zero
    frequency in the middle. A picture and its mirror image through the centre have the same
    measurement.

    Args:
        shape: Event shape, `(..., height, width)`.
        pad: Zeros added on each side; a quarter of the height (rounded up) by default, as in the
            papers (64 at 256).
    """

    def __init__(self, shape: Sequence[int], pad: int | None = None) -> None:
        shape = tuple(shape)
        if len(shape) < 2:
            raise ShapeError(f"Phase retrieval takes (..., height, width), not {shape}.")
        self.pad = math.ceil(shape[-2] / 4) if pad is None else pad
        padded = (*shape[:-2], shape[-2] + 2 * self.pad, shape[-1] + 2 * self.pad)
        super().__init__(Space(shape), Space(padded))

    def apply(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        picture = torch.nn.functional.pad((x + 1) / 2, (self.pad,) * 4)
        spectrum: Tensor = torch.fft.fft2(picture, norm="ortho")
        up = [side // 2 - side for side in spectrum.shape[-2:]]
        return spectrum.abs().roll(up, (-2, -1))
