"""All numbers at one budget, with standard errors over repetitions."""

from lib.plots import Summary


class Plot(Summary):
    """A table, the nearest first."""

    columns = {
        "distance": "distance",
        "ratio": "distance / exact draws'",
        "mass_error": "mass in the wrong mode",
        "spread": "std",
        "agreement": "agreement",
        "precision": "precision",
        "recall": "recall",
        "density": "density",
        "coverage": "coverage",
        "frechet": "Fréchet",
        "nfe": "NFE",
        "seconds_each": "s a sample",
    }
