"""Noise of an electrocardiogram that has a spectrum, as a Gaussian law that is known exactly."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import require
from ...operators import Inpainting

# Hz up to which the baseline wanders (breathing, electrodes), and from which muscles are seen.
WANDER, MUSCLE = 0.5, 20.0
# Differences of which noise is estimated, and the least that is believed, in mV.
FEWEST, LEAST = 200, 0.005


def cosine(x: Tensor) -> Tensor:
    """The orthonormal cosine transform (DCT-II) of the last axis."""
    n = x.shape[-1]
    halves = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)
    turned: Tensor = torch.fft.fft(halves) * _turn(n, x).conj()
    return turned.real * _scale(n, x)


def cosine_inverse(c: Tensor) -> Tensor:
    """The inverse of `cosine`, which is its adjoint."""
    n = c.shape[-1]
    c = c / _scale(n, c)
    mirrored = torch.nn.functional.pad(c[..., 1:].flip(-1), (1, 0))
    halves = torch.fft.ifft(torch.complex(c, -mirrored) * _turn(n, c)).real
    x = torch.empty_like(c)
    x[..., ::2] = halves[..., : (n + 1) // 2]
    x[..., 1::2] = halves[..., (n + 1) // 2 :].flip(-1)
    return x


def _turn(n: int, like: Tensor) -> Tensor:
    angles = torch.arange(n, dtype=like.dtype, device=like.device) * (math.pi / (2 * n))
    return torch.polar(torch.ones_like(angles), angles)


def _scale(n: int, like: Tensor) -> Tensor:
    scale = torch.full((n,), math.sqrt(2 / n), dtype=like.dtype, device=like.device)
    scale[0] = math.sqrt(1 / n)
    return scale


def power(n: int, rate: float, wander: float, muscle: float) -> Tensor:
    """The variance of each cosine coefficient of `n` samples of noise, `[n]`, in that of its white part.

    `1 + wander^2 w(f) + muscle^2 m(f)` at the frequency f of the coefficient, with `w = 1 / (1 + (f / 0.5 Hz)^4)` and
    `m = 1 / (1 + (20 Hz / f)^4)`, each scaled to mean 1: so the parts have the variances 1, wander^2 and muscle^2 in
    the mean over time.

    Args:
        n: Samples.
        rate: Of them, in Hz.
        wander: Standard deviation of the wander of the baseline, in that of the white noise.
        muscle: Of the noise of muscles.
    """
    f = torch.arange(n, dtype=torch.float64) * rate / (2 * n)
    low, high = 1 / (1 + (f / WANDER) ** 4), 1 / (1 + (MUSCLE / f.clamp(min=1e-9)) ** 4)
    # One sample has no other frequency than 0.
    high = high / high.mean() if n > 1 else high
    return 1 + wander**2 * low / low.mean() + muscle**2 * high


class Coloured(Inpainting):
    """The entries where a mask is true, under noise with a spectrum: the measurement is whitened.

    The noise of each unbroken stretch of a lead is Gaussian, with independent cosine coefficients whose variances
    are `power`, and independent of all others. Divided by their standard deviations the coefficients of the
    measurement have white noise, of the level that the white part has: so its law is exact, as is the decomposition.

    Args:
        mask: True where the signal is seen, `[leads, time]`.
        power: The variances of so many coefficients, in that of the white part.
    """

    selects = False

    def __init__(self, mask: Tensor, power: Callable[[int], Tensor]) -> None:
        super().__init__(mask)
        self._runs = list(_runs(mask))
        self.singular_values = torch.cat([power(b - a) for a, b in self._runs]).rsqrt()

    def _each(self, change: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
        return torch.cat([change(y[..., a:b]) for a, b in self._runs], -1)

    def whitened(self, values: Tensor) -> Tensor:
        """The measurement that seen values `[*batch, kept]` are."""
        return self._each(cosine, values) * self.singular_values.to(values)

    def values(self, y: Tensor) -> Tensor:
        """The seen values of a measurement."""
        return self._each(cosine_inverse, y / self.singular_values.to(y))

    @override
    def v(self, coefficients: Tensor) -> Tensor:
        m = self.codomain.size
        seen = self._each(cosine_inverse, coefficients[..., :m])
        return super().v(torch.cat([seen, coefficients[..., m:]], -1))

    @override
    def vt(self, x: Tensor) -> Tensor:
        m, listed = self.codomain.size, super().vt(x)
        return torch.cat([self._each(cosine, listed[..., :m]), listed[..., m:]], -1)

    @override
    def apply(self, x: Tensor) -> Tensor:
        return self.whitened(super().apply(x))

    @override
    def apply_adjoint(self, y: Tensor) -> Tensor:
        return super().apply_adjoint(self._each(cosine_inverse, y * self.singular_values.to(y)))


def estimate_noise(x: Tensor) -> float:
    """The standard deviation of the white noise of leads `[k, time]` at 100 Hz in mV; NaN is missing.

    Fourth differences, scaled to keep the variance of white noise, leave little of an ECG but its QRS complexes, which
    take less than half of the time: so their median size over that of a standard normal. 5 uV at least.

    Raises:
        InputError: If too little is seen.
    """
    x = x.double()
    off = x[:, :-4] - 4 * x[:, 1:-3] + 6 * x[:, 2:-2] - 4 * x[:, 3:-1] + x[:, 4:]
    known = off[off.isfinite()] / math.sqrt(70)
    require(
        len(known) >= FEWEST,
        "Too little of the ECG is seen for an estimate of its noise; say by --sigma how much there is.",
    )
    return max(float(known.abs().median()) / 0.67449, LEAST)


def _runs(mask: Tensor) -> Iterator[tuple[int, int]]:
    """Where each unbroken stretch of a row of a mask lies in the list of what is true."""
    start = 0
    for row in mask.bool():
        for a, b in stretches(row):
            yield start, start + b - a
            start += b - a


def stretches(seen: Tensor) -> Sequence[tuple[int, int]]:
    """Beginnings and ends of the unbroken stretches of what is true, `[time]`."""
    steps = torch.diff(seen.int(), prepend=torch.zeros(1).int(), append=torch.zeros(1).int())
    ends = ((steps == sign).nonzero().flatten().tolist() for sign in (1, -1))
    return list(zip(*ends, strict=True))
