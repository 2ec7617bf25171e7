"""All numbers at one budget, with standard errors over pictures."""

from typing_extensions import override

from lib.plots import Summary
from lib.show import Frame

DIGITS = {
    "distance": 4,
    "psnr": 2,
    "ssim": 3,
    "residual": 2,
    "coverage": 3,
    "nfe": 0,
    "seconds_each": 2,
}


class Plot(Summary):
    """A table, nearest samples first; what runs once is at budget 1."""

    columns = {
        "distance": "distance",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "residual": "residual / sigma",
        "coverage": "90 % coverage",
        "nfe": "NFE",
        "seconds_each": "s a sample",
    }
    first = "distance"

    @override
    def cell(self, rows: Frame, name: str) -> str:
        column, error = f"objective_{name}", f"objective_{name}_se"
        text = f"{rows[column].mean():.{DIGITS[name]}f}"
        return f"{text} ± {rows[error].mean():.{DIGITS[name]}f}" if error in rows else text
