"""Fidelity of pictures in [-1, 1]."""

import torch
from torch import Tensor

from ..core.errors import ShapeError, require
from .signal import paired

# Half of SSIM's window of 11 pixels, by which a picture is mirrored at its edges.
MARGIN = 5
# No picture in [-1, 1] that a prior draws reaches so far; one of bytes does.
FAR = 10.0


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, each picture by itself, `[n]`.

    Args:
        x: Pictures, `[n, channels, height, width]`; values beyond [-1, 1] are clipped.
        truth: One picture for all, `[channels, height, width]`, or one each.

    Raises:
        ShapeError: If the pictures differ in shape.
        InputError: If there is none, or the truth is in other units.
    """
    x, truth = _paired(x, truth)
    return 10 * torch.log10(4 / (x - truth).square().mean((1, 2, 3)))


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al., 2004) with a Gaussian window of 11 pixels and standard deviation 1.5, `[n]`.

    Arguments and errors as of `psnr`; a side has at least 6 pixels.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, truth = _paired(x, truth)
    if min(x.shape[-2:]) <= MARGIN:
        raise ShapeError(
            f"SSIM needs pictures of at least {MARGIN + 1} pixels a side, not {tuple(x.shape[-2:])}."
        )
    value = structural_similarity_index_measure(
        x, truth, data_range=(-1.0, 1.0), sigma=1.5, kernel_size=11, reduction="none"
    )
    return torch.as_tensor(value).reshape(len(x))


def _paired(x: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both clipped, `[n, channels, height, width]`."""
    truth = paired(x, truth, "Pictures [n, channels, height, width]", axes=4)
    most = float(truth.abs().max())
    require(
        not most > FAR,
        f"Pictures span [-1, 1]; the truth reaches {most:g}. Give 2 * x / most - 1.",
    )
    return x.clamp(-1, 1), truth.clamp(-1, 1).contiguous()
