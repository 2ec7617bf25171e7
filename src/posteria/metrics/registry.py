"""The metrics of samples against a known truth, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .audio import si_sdr, si_sdr_improvement
from .image import psnr, ssim
from .signal import mae, rmse


@dataclass(frozen=True)
class Metric:
    """A metric of samples against a known truth, as tables show it.

    Args:
        function: Samples `[n, *event]` and a truth `[*event]` to `[n]`.
        label: What a table calls it.
        unit: Of its values; may be empty.
        digits: Decimals that a table shows.
        modalities: The kinds of data that it is for.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    label: str
    unit: str
    digits: int
    modalities: tuple[str, ...]

    def __call__(self, samples: Tensor, truth: Tensor) -> Tensor:
        """The value of each sample, `[n]`."""
        return self.function(samples, truth)


METRICS: dict[str, Metric] = {
    "psnr": Metric(psnr, "PSNR", "dB", 2, ("image",)),
    "ssim": Metric(ssim, "SSIM", "", 3, ("image",)),
    "si_sdr": Metric(si_sdr, "SI-SDR", "dB", 2, ("audio",)),
    "si_sdr_improvement": Metric(
        si_sdr_improvement, "SI-SDR above the mixture's", "dB", 2, ("audio",)
    ),
    "mae": Metric(mae, "mean absolute error", "mV", 3, ("ecg",)),
    "rmse": Metric(rmse, "root mean square error", "mV", 3, ("ecg",)),
}
