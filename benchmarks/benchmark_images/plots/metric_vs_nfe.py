"""A metric against what a sample cost."""

from lib.plots import AgainstCost


class Plot(AgainstCost):
    """Of pictures."""

    name = "Metric vs NFE"
    metrics = {
        "distance": "sliced Wasserstein distance to the truths",
        "psnr": "PSNR of a sample (dB)",
        "ssim": "SSIM of a sample",
        "residual": "residual over the noise level; 1 explains the measurement",
        "coverage": "share of pixels in the central 90 % of samples; 0.9 is right",
        "seconds_each": "seconds per sample",
    }
    levels = {
        "residual": (1.0, "right"),
        "coverage": (0.9, "right"),
        "distance": ("objective_floor", "two sets of truths"),
    }
