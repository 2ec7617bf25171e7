"""All numbers at one budget."""

from lib.plots import Summary


class Plot(Summary):
    """A table, the smallest score first; what runs once is at budget 1."""

    columns = {
        "crps": "CRPS",
        "mae": "MAE of the mean",
        "coverage": "90 % coverage",
        "residual": "residual / sigma",
        "si_sdr": "SI-SDR improvement of the mean, dB",
        "mean_error": "error of the mean (sd)",
        "variance_ratio": "variance over exact",
        "nfe": "NFE",
        "seconds_each": "s a sample",
    }
    first = "crps"
