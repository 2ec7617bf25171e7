"""How much white noise a picture holds."""

import torch
from torch import Tensor

from ...core.errors import require

# Windows of so many blocks of 2 x 2 pixels, squared, of which the smoothest share is looked at.
WINDOW, SHARE, LEAST = 5, 0.1, 100
# Below one grey level of 255 it is rounding.
GREY = 2 / 255


def estimate_noise(x: Tensor) -> float:
    """The standard deviation of the white noise of a picture `[channels, height, width]`; NaN is missing.

    The orthonormal Haar transform of white noise has independent details. So windows in which horizontal and
    vertical details are weakest are chosen without a look at the diagonal ones, whose root mean square there is
    that of the noise: exactly so of noise alone, and nearly so where the smoothest tenth of the picture is smooth.
    Pixels that are black or white are left out, since noise is clipped there. One grey level of 255 at least.

    Raises:
        InputError: If too little of the picture is seen, or is neither black nor white.
    """
    clipped, hidden = (x.abs() - 1).abs() < 1e-6, x.isnan()
    x = x.double().masked_fill(clipped, torch.nan)
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    a, b, c, d = (x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1))
    across, diagonal = ((a - b + c - d) / 2, (a + b - c - d) / 2), (a - b - c + d) / 2
    details = torch.stack([across[0].square() + across[1].square(), diagonal.square()])
    known = torch.zeros(2, 0, dtype=x.dtype)
    if min(height, width) >= 2 * WINDOW:
        windows = torch.nn.functional.avg_pool2d(details, WINDOW, 1).flatten(1)
        known = windows[:, windows.isfinite().all(0)]
    require(
        known.shape[1] >= LEAST,
        (
            "Too many pixels of the picture are black or white, where noise is clipped, for an estimate of it"
            if min(height, width) >= 2 * WINDOW and clipped.sum() > hidden.sum()
            else "Too little of the picture is seen for an estimate of its noise"
        )
        + "; say by --sigma how much there is.",
    )
    smooth = known[0].argsort(stable=True)[: max(LEAST, round(SHARE * known.shape[1]))]
    return max(float(known[1][smooth].mean().sqrt()), GREY)
