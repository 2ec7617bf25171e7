"""Pictures as bytes, small enough to be kept with the results."""

from typing import Any

import torch
from torch import Tensor

from posteria.operators import Operator
from posteria.runs.pictures import heat, to_bytes
from posteria.runs.results import picture_of

# Standard deviations of this much, where pictures span 2, are the brightest colour.
TOP = 1.0
# Samples of a picture that are kept.
KEPT = 4


def show(operator: Operator, y: Tensor, truth: Tensor, samples: Tensor) -> dict[str, Any]:
    """One picture as bytes: truth, measurement, samples, their mean and standard deviation.

    Args:
        operator: What measured it.
        y: Its measurement.
        truth: `[channels, height, width]`.
        samples: `[n, channels, height, width]`.
    """
    # Channels of a pixel share one number, the root of their mean variance.
    level = samples.std(0).square().mean(0).sqrt()
    measurement = picture_of(operator, y)
    shown: dict[str, Any] = {
        "truth": to_bytes(truth),
        "samples": [to_bytes(x) for x in samples[:KEPT]],
        "mean": to_bytes(samples.mean(0)),
        "std": heat(level.nan_to_num(TOP), TOP),
    }
    return shown if measurement is None else {**shown, "measurement": measurement}


def finite(x: Tensor) -> bool:
    """Whether samples hold numbers only."""
    return bool(torch.isfinite(x).all())
