"""Fidelity of pictures in [-1, 1]."""

import torch
from torch import Tensor
from torch.nn import functional

from ..core.errors import ShapeError, require
from .signal import paired

# Half of SSIM's window of 11 pixels, by which a picture is mirrored at its edges, and its standard deviation.
MARGIN, SPREAD = 5, 1.5
# Of means and of variances in SSIM: what keeps it finite, (0.01, 0.03) times the range of 2, squared.
LEAST = (0.02**2, 0.06**2)
# No picture in [-1, 1] that a prior draws reaches so far; one of bytes does.
FAR = 10.0


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, each picture by itself, `[n]`.

    Args:
        x: Pictures, `[n, channels, height, width]`; values beyond [-1, 1] are clipped, and the ratio of one that is
            not finite is NaN.
        truth: One picture for all, `[channels, height, width]`, or one each.

    Raises:
        ShapeError: If the pictures differ in shape.
        InputError: If there is none, they are of integers, or the truth is in other units.
    """
    x, truth = _paired(x, truth)
    return 10 * torch.log10(4 / (x - truth).square().mean((1, 2, 3)))


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al., 2004) with a Gaussian window of 11 pixels and standard deviation 1.5, `[n]`.

    Arguments and errors as of `psnr`; a side has at least 6 pixels.
    """
    # Our own, as torchmetrics takes two seconds to import.
    x, truth = _paired(x, truth)
    if min(x.shape[-2:]) <= MARGIN:
        raise ShapeError(
            f"SSIM needs pictures of at least {MARGIN + 1} pixels a side, not {tuple(x.shape[-2:])}."
        )
    place = torch.arange(-MARGIN, MARGIN + 1, dtype=x.dtype, device=x.device)
    window = torch.softmax(-((place / SPREAD) ** 2) / 2, 0)[None, None, None]
    maps = torch.cat([x, truth, x * x, truth * truth, x * truth])
    maps = functional.pad(maps, (MARGIN,) * 4, mode="reflect").flatten(0, 1)[:, None]
    means = functional.conv2d(functional.conv2d(maps, window), window.mT)
    a, b, aa, bb, ab = means.reshape(5, *x.shape)
    spread = (aa - a * a).clamp(min=0) + (bb - b * b).clamp(min=0)
    alike = (2 * a * b + LEAST[0]) * (2 * (ab - a * b) + LEAST[1])
    values: Tensor = alike / ((a * a + b * b + LEAST[0]) * (spread + LEAST[1]))
    return values.mean((1, 2, 3))


def floats(x: Tensor) -> Tensor:
    """Return pictures of floats; `InputError` for bytes, of which nothing is left in [-1, 1]."""
    require(
        x.is_floating_point(),
        f"Pictures in [-1, 1] are of floats, not of {x.dtype}; give x / 127.5 - 1 of bytes.",
    )
    return x


def clipped(x: Tensor) -> Tensor:
    """Pictures of floats in [-1, 1]; what is infinite has diverged, and is NaN and not white."""
    return floats(x).clamp(-1, 1) + 0 * x


def _paired(x: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both clipped, `[n, channels, height, width]`."""
    x, truth = paired(x, truth, "Pictures [n, channels, height, width]", axes=4)
    most = float(floats(truth).abs().max())
    require(
        not most > FAR,
        f"Pictures span [-1, 1]; the truth reaches {most:g}. Give 2 * x / most - 1.",
    )
    # Of near pictures squares vanish in half precision, and variances are differences of near numbers.
    dtype = torch.promote_types(torch.promote_types(x.dtype, truth.dtype), torch.float32)
    return clipped(x).to(dtype), clipped(truth).to(dtype).contiguous()
