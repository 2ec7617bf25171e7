"""Measurements of signals in time, `(..., channels, time)`: each acts on the last axis."""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import ShapeError, require, whole
from ..core.level import typical
from ..core.linalg import LinearMap
from ..core.space import Space, finite, mask_of
from .base import LinearOperator, SVDOperator
from .convolution import fast_size
from .shapes import signal_shape


class Decimation(SVDOperator):
    """The lowest frequencies of a signal, as one of fewer samples in the same time: an ideal low-pass, then decimation.

    Its ends wrap around. Every frequency that is kept has the same gain, so that A A^T is `length / time`.

    Args:
        length: Samples of the measurement, any number up to those of the signal.
        shape: Event shape, `(..., channels, time)`.

    Raises:
        InputError: If the length is not in 1 to `time`.
    """

    shown = ("length",)

    def __init__(self, length: int, shape: Sequence[int]) -> None:
        shape = signal_shape(shape, "Decimation")
        require(
            1 <= length <= shape[-1],
            f"A signal of shape {shape} has no {length} lowest coefficients to keep.",
        )
        super().__init__(Space(shape), Space((*shape[:-1], length)))
        self.length = length
        gain = torch.tensor(length / shape[-1], dtype=torch.float64).sqrt()
        self.singular_values = gain.expand(self.codomain.size).clone()

    @property
    @override
    def summed(self) -> int:
        return max(*self.domain.shape, *self.codomain.shape)

    @override
    def v(self, coefficients: Tensor) -> Tensor:
        batch, rows, n = coefficients.shape[:-1], self.domain.shape[:-1], self.codomain.size
        parts = (coefficients[..., :n], coefficients[..., n:])
        kept = [part.reshape(*batch, *rows, part.shape[-1] * self.length // n) for part in parts]
        return _synthesis(torch.cat(kept, -1))

    @override
    def vt(self, x: Tensor) -> Tensor:
        batch, waves = self.domain.batch(x), _analysis(x)
        parts = (waves[..., : self.length], waves[..., self.length :])
        return torch.cat([part.reshape(*batch, -1) for part in parts], -1)

    @override
    def u(self, coefficients: Tensor) -> Tensor:
        return _synthesis(self.codomain.unflatten(coefficients))

    @override
    def ut(self, y: Tensor) -> Tensor:
        return self.codomain.flatten(_analysis(y))


def _analysis(x: Tensor) -> Tensor:
    """Coefficients in the orthonormal basis of cosines and sines, by frequency."""
    n = x.shape[-1]
    pairs = torch.view_as_real(torch.fft.rfft(x, norm="ortho")) * 2**0.5
    waves = pairs.flatten(-2)
    # At frequency 0, and at half the rate, there is no sine, and the cosine is as long as both.
    ends = [waves[..., :1] / 2**0.5, waves[..., 2 : n if n % 2 == 0 else n + 1]]
    return torch.cat([*ends, waves[..., n : n + 1] / 2**0.5] if n % 2 == 0 else ends, -1)


def _synthesis(waves: Tensor) -> Tensor:
    """The inverse of `_analysis`."""
    n, root = waves.shape[-1], 2**0.5
    zero, middle = torch.zeros_like(waves[..., :1]), waves[..., 1 : n - 1 if n % 2 == 0 else n]
    ends = [waves[..., :1] * root, zero, middle]
    whole = [*ends, waves[..., n - 1 :] * root, zero] if n % 2 == 0 else ends
    pairs = torch.cat(whole, -1).reshape(*waves.shape[:-1], -1, 2) / root
    signal: Tensor = torch.fft.irfft(torch.view_as_complex(pairs), n=n, norm="ortho")
    return signal


class Convolution(LinearOperator):
    """Convolution in time with an impulse response, as a room does it, of a signal before which there is silence.

    What lasts beyond the end is cut off. Solves are by conjugate gradients, preconditioned by the convolution that
    wraps around.

    Args:
        kernel: `[taps]`; the first one is of the same time.
        shape: Event shape, `(..., channels, time)`.

    Raises:
        ShapeError: If the kernel has no or several axes.
        InputError: If it is empty, not finite or 0.
    """

    shown = ("taps",)
    tolerance = 1e-6

    def __init__(self, kernel: Tensor, shape: Sequence[int]) -> None:
        kernel = finite(kernel, "An impulse response")
        if kernel.ndim != 1:
            raise ShapeError(
                f"An impulse response has one axis; this one has shape {tuple(kernel.shape)}."
            )
        require(bool(kernel.any()), "An impulse response holds numbers that are not all 0.")
        shape = signal_shape(shape, "Convolution")
        super().__init__(Space(shape), Space(shape))
        self.taps = len(kernel)
        # What comes later than the signal is long is cut off with all that it answers to.
        heard = kernel[: shape[-1]].double()
        require(bool(heard.any()), "An impulse response begins within the time of the signal.")
        self._grid = fast_size(shape[-1] + len(heard) - 1)
        self._transfer = torch.fft.rfft(heard, n=self._grid)

    def _filtered(self, x: Tensor, transfer: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x, n=self._grid)
        filtered: Tensor = torch.fft.irfft(spectrum * transfer.to(spectrum), n=self._grid)
        return filtered[..., : x.shape[-1]]

    @override
    def apply(self, x: Tensor) -> Tensor:
        return self._filtered(x, self._transfer)

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        return self._filtered(y, self._transfer.conj())

    @override
    def preconditioner(
        self, noise: float | Tensor, signal: float | Tensor, *, normal: bool = False
    ) -> LinearMap:
        spread = typical(noise) + typical(signal) * self._transfer.abs() ** 2
        return lambda r: self._filtered(r, 1 / spread)


class STFTMask(LinearOperator):
    """Some cells of a short-time Fourier transform: real and imaginary parts of those that a mask keeps.

    Windows are Hann's, scaled so that the whole transform keeps lengths; beyond its ends a signal is silent.
    The adjoint comes from autograd, and solves from conjugate gradients.

    Args:
        mask: `[frequencies, frames]`, true (or 1) where a cell is measured; `STFTMask.cells` says how many there are.
        shape: Event shape, `(..., channels, time)`.
        window: Samples of a window, a multiple of 4; windows are a quarter of that apart.

    Raises:
        InputError: If no cell is measured, or the window is no multiple of 4.
        ShapeError: If the mask has another shape.
    """

    shown = ("window",)

    def __init__(self, mask: Tensor, shape: Sequence[int], window: int = 512) -> None:
        mask, window = mask_of(mask, "A mask"), whole(window, "A window", 4)
        shape = signal_shape(shape, "STFTMask")
        cells = self.cells(shape[-1], window)
        if tuple(mask.shape) != cells:
            raise ShapeError(
                f"A signal of shape {shape} in windows of {window} has cells of shape {cells}; the mask has "
                f"{tuple(mask.shape)}."
            )
        require(bool(mask.any()), "The mask is empty: no cell is measured.")
        self._kept = mask.flatten().nonzero().flatten()
        self.window = window
        self._hann = torch.hann_window(window, dtype=torch.float64)
        super().__init__(Space(shape), Space((*shape[:-1], 2 * len(self._kept))))

    @staticmethod
    def cells(time: int, window: int) -> tuple[int, int]:
        """Frequencies and frames of a signal of so many samples."""
        require(window > 0 and window % 4 == 0, f"A window is a multiple of 4; {window} is not.")
        return window // 2 + 1, -(-time // (window // 4)) + 3

    @override
    def apply(self, x: Tensor) -> Tensor:
        hop, time = self.window // 4, x.shape[-1]
        rows = x.reshape(-1, time)
        rows = torch.nn.functional.pad(rows, (3 * hop, -time % hop + 3 * hop))
        # The squares of four Hann windows a quarter apart sum to 3/2, and each frequency but two stands for itself
        # and its mirror image.
        frames = rows.unfold(-1, self.window, hop) * (self._hann.to(x) * 1.5**-0.5)
        spectrum: Tensor = torch.fft.rfft(frames, norm="ortho").mT * 2**0.5
        twice = torch.ones(spectrum.shape[-2], 1, dtype=x.dtype, device=x.device)
        twice[[0, -1]] = 2**-0.5
        cells = (spectrum * twice).flatten(-2).index_select(-1, self._kept.to(x.device))
        return torch.view_as_real(cells).reshape(*x.shape[:-1], -1)
