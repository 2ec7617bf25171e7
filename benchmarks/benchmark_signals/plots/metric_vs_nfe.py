"""A metric against what a sample cost."""

from lib.plots import AgainstCost


class Plot(AgainstCost):
    """Of signals in time."""

    name = "Metric vs NFE"
    metrics = {
        "crps": "continuous ranked probability score (data units)",
        "mae": "mean absolute error of the mean (data units)",
        "coverage": "share of the truth in the central 90 % of samples; 0.9 is right",
        "residual": "residual over the noise level; 1 explains the measurement",
    }
    levels = {"residual": (1.0, "right"), "coverage": (0.9, "right")}
