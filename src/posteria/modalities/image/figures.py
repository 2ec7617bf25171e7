"""The figures of the restoration of a picture, each of its size."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ...operators import Inpainting, Operator, PhaseRetrieval
from ..base import Figure, Outcome, Scale
from .pixels import SCALE, grid, heat, png, to_bytes

# Samples of a sheet, and those that a page has room for.
MOST, VIEWS = 64, 24
# Sides in pixels up to which a page shows a picture as it is; larger ones it shows reduced to that.
LARGE = 1200


def picture_of(operator: Operator, y: Tensor) -> np.ndarray | None:
    """A measurement as a picture, where it has one."""
    if isinstance(operator, Inpainting):
        # Missing pixels are mid-grey, which is 0 in data units.
        return to_bytes(operator.adjoint(y))
    if isinstance(operator, PhaseRetrieval):
        level = torch.log1p(100 * y.clamp(min=0)).mean(0)
        return to_bytes(2 * level[None] / level.max().clamp(min=1e-12) - 1)
    if y.ndim == 3 and y.shape[0] in {1, 3}:
        return to_bytes(y)
    return None


def hole_of(operator: Operator | None) -> Tensor | None:
    """Where pixels are missing, in any channel, `[height, width]`; None where that is not what was lost."""
    return ~operator.mask.all(0).cpu() if isinstance(operator, Inpainting) else None


def sheet_of(
    name: str,
    samples: Tensor,
    caption: str,
    *,
    columns: int | None = None,
    part: str = "sheet",
    label: str = "",
) -> Figure:
    """The first samples `[n, channels, height, width]` on one sheet."""
    n = min(len(samples), MOST)
    # Rows that are full, where that can be.
    across = columns or next((c for c in (8, 7, 6, 5, 4, 3) if n % c == 0), 8)
    sheet = grid([to_bytes(x) for x in samples[:n]], across)
    return _figure(name, sheet, caption, part, label)


def figures_of(outcome: Outcome) -> Iterator[Figure]:
    """Measurement, mean, truth and each sample; standard deviation; the samples that differ most; residual."""
    operator, samples, y = outcome.operator, outcome.samples, outcome.y
    measurement = picture_of(operator, y)
    if measurement is not None:
        yield _figure("measurement.png", measurement, "What was measured.", "view", "measurement")
    mean = "The mean of the samples: sharp where they agree, blurred where they differ."
    yield _figure("mean.png", to_bytes(samples.mean(0)), mean, "view", "mean")
    if outcome.truth is not None:
        truth = "The truth, which no sampler saw."
        yield _figure("truth.png", to_bytes(outcome.truth), truth, "view", "truth")
    for i, (seed, x) in enumerate(zip(outcome.seeds, samples, strict=True)):
        about = f"A sample (seed {seed}): one picture that agrees with the measurement."
        part = "view" if i < VIEWS else "file"
        yield _figure(f"samples/{seed}.png", to_bytes(x), about, part, f"sample {seed}")
    if len(samples) > 1:
        yield from _spread(outcome)
    if operator.rounded(y, outcome.std) is not None:
        return
    faded = picture_of(operator, ((y - operator(samples[:1])[0]) / outcome.std / 4).clamp(-1, 1))
    if faded is not None and not isinstance(operator, PhaseRetrieval):
        caption = "Residual of the first sample: black is -4 sigma, white is +4 sigma."
        yield _figure("residual.png", faded, caption, "more")


def _spread(outcome: Outcome) -> Iterator[Figure]:
    """Where the samples differ, and by how much."""
    # What is beyond black and white no picture shows.
    samples, hole = outcome.samples.clamp(-1, 1), hole_of(outcome.operator)
    only = "" if hole is None else " Pixels that were seen are left blank."
    # Channels of a pixel share one number, the root of their mean variance.
    level = samples.std(0).square().mean(0).sqrt()
    about = f"How uncertain each pixel is: by how much the samples differ from their mean.{only}"
    yield _figure("std.png", heat(level, hole), about, "map", "uncertainty", SCALE)
    if len(samples) < 3:
        return
    a, b = most_different(samples[:VIEWS], hole)
    apart = (samples[a] - samples[b]).square().mean(0).sqrt()
    first, second = outcome.seeds[a], outcome.seeds[b]
    about = f"The two samples that differ most, {first} and {second}, and by how much.{only}"
    names = (f"samples/{first}.png", f"samples/{second}.png")
    yield _figure("difference.png", heat(apart, hole), about, "pair", "difference", SCALE, names)


def most_different(samples: Tensor, hole: Tensor | None) -> tuple[int, int]:
    """Which two of the samples `[n, channels, height, width]` are farthest apart, where something is missing."""
    # Every so many pixels are enough of a large picture.
    step = max(1, round((samples[0].numel() / 2**18) ** 0.5))
    part = samples[..., ::step, ::step].double()
    if hole is not None and hole[::step, ::step].any():
        part = part[..., hole[::step, ::step]]
    flat = part.flatten(1)
    pairs = [(float((flat[i] - flat[j]).norm()), i, j) for i in range(len(flat)) for j in range(i)]
    _, b, a = max(pairs)
    return a, b


def _figure(
    name: str,
    picture: np.ndarray,
    caption: str,
    part: str = "file",
    label: str = "",
    scale: Scale | None = None,
    of: tuple[str, ...] = (),
) -> Figure:
    """A PNG file, which a page shows reduced if it is large."""
    large = max(picture.shape[:2])
    shown = None
    if large > LARGE and part != "file":
        # Transparency is for PNG files alone.
        format = "PNG" if picture.shape[2:] == (4,) else "JPEG"
        shown = png(picture, LARGE / large, format)
    size = (picture.shape[0], picture.shape[1])
    return Figure(name, png(picture), caption, part, label, size, shown, scale, of)
