"""Electrocardiograms to files of WFDB."""

import tempfile
from pathlib import Path

import numpy as np
from torch import Tensor

from .files import RATE, resampled
from .formats import extra, quiet
from .leads import TWELVE, twelve

# Steps a mV, of 16 bits.
GAIN = 1000


def wfdb_files(name: str, x: Tensor, rate: float, length: int) -> dict[str, bytes]:
    """All twelve leads of an ECG `[8, time]` in mV at the rate of a file, with 1000 steps a mV.

    Args:
        name: Of the record.
        x: At 100 Hz.
        rate: Of the file, in Hz.
        length: Its samples.
    """
    leads = (twelve() @ x.double().cpu()).numpy()
    values = resampled(leads, RATE, rate, name)
    short = max(0, length - values.shape[1])
    values = np.pad(values, ((0, 0), (0, short)), mode="edge")[:, :length]
    most = (2**15 - 1) / GAIN
    with tempfile.TemporaryDirectory() as folder, quiet():
        extra("wfdb").wrsamp(
            name,
            fs=rate,
            units=["mV"] * 12,
            sig_name=list(TWELVE),
            p_signal=values.clip(-most, most).T,
            fmt=["16"] * 12,
            adc_gain=[GAIN] * 12,
            baseline=[0] * 12,
            comments=["Drawn by posteria from a partial measurement; not for diagnosis."],
            write_dir=folder,
        )
        return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}
