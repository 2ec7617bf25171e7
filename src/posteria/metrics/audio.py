"""Fidelity of sound."""

import torch
from torch import Tensor

from ..core.errors import ShapeError, require
from ..core.space import finite, real

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
        InputError: If the truth is silent or not finite, or there is no sample.
    """
    return _each(x, truth).mean(-1)


def si_sdr_improvement(x: Tensor, truth: Tensor) -> Tensor:
    """By how many dB the SI-SDR is above that of the sum of all channels, taken for each of them; see `si_sdr`."""
    truth = real(truth, "A truth")
    mixture = truth.sum(0).expand_as(truth)[None]
    return (_each(x, truth) - _each(mixture, truth)).mean(-1)


def _each(x: Tensor, truth: Tensor) -> Tensor:
    """The ratio of each channel that sounds, `[n, sounding]`."""
    x, truth = real(x, "An array of sounds"), real(truth, "A truth")
    if x.ndim != 3 or x.shape[1:] != truth.shape:
        raise ShapeError(
            "Sounds [n, channels, time] go with a truth [channels, time]; got "
            f"{tuple(x.shape)} and {tuple(truth.shape)}."
        )
    require(len(x) > 0, "This metric needs at least 1 sample; got 0.")
    level = finite(truth, "A truth").double().square().mean(-1).sqrt()
    sounds = level > SILENT * level.max()
    require(bool(sounds.any()), "A silent truth has no signal-to-distortion ratio.")
    there, eps = truth[sounds].double(), torch.finfo(torch.float64).eps
    # One sample at a time, in double precision.
    return torch.stack([_ratio(each[sounds].double(), there, eps) for each in x])


def _ratio(x: Tensor, truth: Tensor, eps: float) -> Tensor:
    """Of channels `[sounding, time]`; `eps` keeps that of a perfect copy and of silence finite."""
    scale = ((x * truth).sum(-1) + eps) / (truth.square().sum(-1) + eps)
    kept = scale[:, None] * truth
    return 10 * ((kept.square().sum(-1) + eps) / ((kept - x).square().sum(-1) + eps)).log10()
