"""Pictures as bytes, small enough to be kept with the results, and at that precision compared."""

import math
from typing import Any

import torch
from torch import Tensor

from posteria.metrics.calibration import interval_coverage
from posteria.modalities.image.figures import picture_of
from posteria.modalities.image.pixels import heat, to_bytes
from posteria.operators import Operator

# Samples of a picture that are kept.
KEPT = 4


def show(operator: Operator, y: Tensor, truth: Tensor, samples: Tensor) -> dict[str, Any]:
    """One picture as bytes: truth, measurement, samples `[n, channels, height, width]`, their mean and deviation."""
    # Channels of a pixel share one number, the root of their mean variance.
    level = samples.std(0).square().mean(0).sqrt()
    measurement = picture_of(operator, y)
    shown: dict[str, Any] = {
        "truth": to_bytes(truth),
        "samples": [to_bytes(x) for x in samples[:KEPT]],
        "mean": to_bytes(samples.mean(0)),
        "std": heat(level.nan_to_num(1.0)),
    }
    return shown if measurement is None else {**shown, "measurement": measurement}


def covered(samples: Tensor, truths: Tensor) -> float:
    """The share of the truths' pixels inside the central 90 % of samples `[draws, *pictures]`, at 256 levels.

    An offset that no picture shows would else decide over the background, which is most of a digit.
    Pixels on which the samples and the truth all agree say nothing and are left out, which leaves the
    rank of the truth among exact samples uniform on the rest.
    """
    x, truth = (((part.clamp(-1, 1) + 1) * 127.5).round() for part in (samples, truths))
    differ = (x != truth).any(0)
    return interval_coverage(x[:, differ], truth[differ]) if differ.any() else math.nan


def finite(x: Tensor) -> bool:
    """Whether samples hold numbers only."""
    return bool(torch.isfinite(x).all())
