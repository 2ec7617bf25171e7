"""Fidelity of pictures in [-1, 1]."""

import torch
from torch import Tensor


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, each picture by itself.

    Args:
        x: Pictures, `[n, channels, height, width]`; values beyond [-1, 1] are clipped.
        truth: One picture, `[channels, height, width]`.

    Returns:
        `[n]`.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    rows = [peak_signal_noise_ratio(row, truth, data_range=(-1.0, 1.0)) for row in x.clamp(-1, 1)]
    return torch.stack(rows)


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al., 2004) with a Gaussian window of 11 pixels and standard deviation 1.5.

    Args:
        x: Pictures, `[n, channels, height, width]`; values beyond [-1, 1] are clipped.
        truth: One picture, `[channels, height, width]`.

    Returns:
        `[n]`.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    value = structural_similarity_index_measure(
        x.clamp(-1, 1),
        truth.expand_as(x).contiguous(),
        data_range=(-1.0, 1.0),
        sigma=1.5,
        kernel_size=11,
        reduction="none",
    )
    return torch.as_tensor(value).reshape(len(x))
