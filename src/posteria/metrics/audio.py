"""Fidelity of sound."""

import torch
from torch import Tensor

from ..core.errors import ShapeError, require

# Root mean square over the loudest channel's, below which a channel is silent and not compared.
SILENT = 1e-3


def si_sdr(x: Tensor, truth: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, the mean over the channels that sound, `[n]`.

    Le Roux, Wisdom, Erdogan, Hershey, 2019, arXiv:1811.02508.

    Args:
        x: Sounds, `[n, channels, time]`.
        truth: `[channels, time]`.

    Raises:
        ShapeError: If they differ in shape.
        InputError: If the truth is silent.
    """
    return _each(x, truth).mean(-1)


def si_sdr_improvement(x: Tensor, truth: Tensor) -> Tensor:
    """By how many dB the SI-SDR is above that of the sum of all channels, taken for each of them; see `si_sdr`."""
    mixture = truth.sum(0).expand_as(truth)[None]
    return (_each(x, truth) - _each(mixture, truth)).mean(-1)


def _each(x: Tensor, truth: Tensor) -> Tensor:
    """The ratio of each channel that sounds, `[n, sounding]`."""
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    if x.ndim != 3 or x.shape[1:] != truth.shape:
        raise ShapeError(
            "Sounds [n, channels, time] go with a truth [channels, time]; got "
            f"{tuple(x.shape)} and {tuple(truth.shape)}."
        )
    level = truth.double().square().mean(-1).sqrt()
    sounds = level > SILENT * level.max()
    require(bool(sounds.any()), "A silent truth has no signal-to-distortion ratio.")
    there = truth[sounds].double()
    # One sample at a time, in double precision.
    values = [scale_invariant_signal_distortion_ratio(each[sounds].double(), there) for each in x]
    return torch.stack(values)
