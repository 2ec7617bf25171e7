"""The figures of the restoration of a picture."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ...operators import Inpainting, Operator, PhaseRetrieval
from ..base import Figure, Outcome
from .pixels import grid, heat, png, to_bytes

# Small pictures are enlarged to about this many pixels.
SHOWN = 192
# Pictures of a sheet.
MOST = 64


def picture_of(operator: Operator, y: Tensor) -> np.ndarray | None:
    """A measurement as a picture, where it has one."""
    if isinstance(operator, Inpainting):
        # Missing pixels are mid-grey, which is 0 in data units.
        return to_bytes(operator.adjoint(y))
    if isinstance(operator, PhaseRetrieval):
        level = torch.log1p(100 * y.clamp(min=0)).mean(0)
        return heat(level, float(level.max()))
    if y.ndim == 3 and y.shape[0] in {1, 3}:
        return to_bytes(y)
    return None


def hole_of(operator: Operator | None) -> Tensor | None:
    """Where pixels are missing, in any channel, `[height, width]`; None where that is not what was lost."""
    return ~operator.mask.all(0).cpu() if isinstance(operator, Inpainting) else None


def sheet_of(name: str, samples: Tensor, caption: str) -> Figure:
    """The first samples `[n, channels, height, width]` on one sheet."""
    sheet = grid([to_bytes(x) for x in samples[:MOST]], columns=8)
    return Figure(name, png(sheet, max(1, round(112 / samples.shape[-1]))), caption, sheet=True)


def figures_of(outcome: Outcome) -> Iterator[Figure]:
    """Truth, measurement, mean, standard deviation, residual, a sheet of samples and each sample."""
    operator, samples, y = outcome.operator, outcome.samples, outcome.y
    if outcome.truth is not None:
        yield _large("truth", to_bytes(outcome.truth), "the truth")
    measurement = picture_of(operator, y)
    if measurement is not None:
        yield _large("measurement", measurement, "the measurement")
    yield _large("mean", to_bytes(samples.mean(0)), "mean of the samples")
    if len(samples) > 1:
        # Channels of a pixel share one number, the root of their mean variance.
        level = samples.std(0).square().mean(0).sqrt()
        top = float(level.max())
        caption = f"standard deviation: black is 0, pale yellow is {top:.2f} (the picture spans 2)"
        yield _large("std", heat(level, top), caption)
    faded = picture_of(operator, ((y - operator(samples[:1])[0]) / outcome.std / 4).clamp(-1, 1))
    if faded is not None and not isinstance(operator, PhaseRetrieval):
        caption = "residual of the first sample: black is -4 sigma, white is +4 sigma"
        yield _large("residual", faded, caption)
    yield sheet_of("samples.png", samples, f"{min(len(samples), MOST)} samples")
    for seed, x in zip(outcome.seeds, samples, strict=True):
        yield Figure(f"samples/{seed}.png", png(to_bytes(x)), "")


def _large(name: str, picture: np.ndarray, caption: str) -> Figure:
    return Figure(f"{name}.png", png(picture, max(1, SHOWN // picture.shape[1])), caption)
