"""Heart beats of ECGs at 100 Hz, and the electrical axis."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def beats(x: Tensor) -> NDArray[np.int64]:
    """When the ventricles of a record `[8, time]` beat, in samples: peaks of the slope of all leads together."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    slope = np.gradient(gaussian_filter1d(x.numpy(), 0.7, axis=1), axis=1)
    height = gaussian_filter1d(np.sqrt((slope**2).sum(0)), 3)
    usual = np.median([part.max() for part in np.array_split(height, 5)])
    peaks: NDArray[np.int64] = find_peaks(
        height, height=0.4 * usual, distance=25, prominence=0.25 * usual
    )[0]
    return peaks


def found(truth: NDArray[np.int64], drawn: NDArray[np.int64], within: Sequence[int]) -> float:
    """F1 of the beats in a part of a record, of which each may be off by 75 ms."""
    first, last = within
    truth, drawn = (each[(each >= first) & (each <= last)] for each in (truth, drawn))
    near = np.abs(truth[:, None] - drawn[None]) <= 7
    hits = min(int(near.any(0).sum()), int(near.any(1).sum()))
    return 2 * hits / max(len(truth) + len(drawn), 1)


def rate(at: NDArray[np.int64], within: Sequence[int]) -> float:
    """The mean RR interval of the beats in a part of a record in ms: its whole length, if there are less than two."""
    first, last = within
    at = at[(at >= first) & (at <= last)]
    return 10.0 * float(np.diff(at).mean() if len(at) > 1 else last - first)


def axis(limbs: Tensor) -> float:
    """The electrical axis in degrees, of the areas of I and II, `[2, time]`, around each second's largest slope."""
    slope = limbs.diff(dim=1).abs().sum(0)
    peaks = slope[: len(slope) // 100 * 100].reshape(-1, 100).argmax(1)
    at = (peaks + 100 * peaks.new_tensor(range(len(peaks)))).tolist()
    level = limbs.median(1).values[:, None]
    areas = [(limbs - level)[:, max(p - 5, 0) : p + 6].sum(1) for p in at]
    one, two = torch.stack(areas).sum(0).tolist()
    return math.degrees(math.atan2((2 * two - one) / math.sqrt(3), one))


def width(x: Tensor, at: NDArray[np.int64], within: Sequence[int]) -> float:
    """The median width of the beats in a part of a record in ms, 0 if there are none."""
    found = widths(x, at[(at >= within[0]) & (at <= within[1])])
    return 1000.0 * float(np.median(found)) if found else 0.0


def widths(x: Tensor, at: NDArray[np.int64]) -> list[float]:
    """Of each beat of a record `[8, time]`, over how many seconds the leads are as steep as a fifth of the most."""
    slope = x.diff(dim=1).square().sum(0).sqrt()
    parts = [slope[max(p - 12, 0) : p + 12] for p in at.tolist()]
    return [float((part > 0.2 * part.max()).sum()) / 100 for part in parts]
