"""What came of a run: numbers, pictures and the table that is printed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..metrics.image import psnr, ssim
from ..operators import Inpainting, Operator, PhaseRetrieval
from .engine import Cost, peak_memory
from .pictures import grid, heat, png, to_bytes
from .report import write_report
from .store import Store

if TYPE_CHECKING:
    from .restore import Job

# Small pictures are enlarged to about this many pixels.
SHOWN = 192


@dataclass(frozen=True)
class Results:
    """The numbers of a run.

    Args:
        residual: Root mean square of `(y - A(x)) / sigma` of each sample; near 1 where the sample
            explains the measurement.
        psnr: Of each sample against the truth, in dB; None where the truth is not known.
        psnr_mean: Of the mean of the samples.
        ssim: Of each sample.
        ssim_mean: Of the mean of the samples.
        std: The mean over pixels of the standard deviation of the samples, in data units; None for
            one sample.
        forward: Evaluations of the prior, per sample, or for a whole population of particles.
        backward: Products with its transposed Jacobian, likewise.
        operator: Calls of the operator and its derivatives, per sample.
        seconds: Of sampling, for all samples, over all attempts.
        memory: Peak of the process (or of the GPU), in MiB.
        shared: Samples that a population would give for its cost; 1 without populations.
    """

    residual: list[float]
    psnr: list[float] | None
    psnr_mean: float | None
    ssim: list[float] | None
    ssim_mean: float | None
    std: float | None
    forward: int
    backward: int
    operator: int
    seconds: float
    memory: float
    shared: int = 1

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Results":
        """From `run.json`."""
        return cls(**record)

    def rows(self, sigma: float) -> list[tuple[str, str]]:
        """The table: what, and how much."""
        rows = [(f"residual / sigma (sigma = {sigma:g})", _spread(self.residual, "{:.3f}"))]
        if self.psnr is not None and self.ssim is not None:
            rows += [
                ("PSNR of the samples", _spread(self.psnr, "{:.2f}") + " dB"),
                ("PSNR of their mean", f"{self.psnr_mean:.2f} dB"),
                ("SSIM of the samples", _spread(self.ssim, "{:.3f}")),
                ("SSIM of their mean", f"{self.ssim_mean:.3f}"),
            ]
        if self.std is not None:
            rows.append(("standard deviation, mean over pixels", f"{self.std:.3f}"))
        whole = f"{self.forward} + {self.backward} vjps"
        if self.shared > 1:
            each = f"{self.forward / self.shared:.0f} + {self.backward / self.shared:.0f} vjps"
            whole = f"{each} (its share of a population of {self.shared}, which costs {whole})"
        return [
            *rows,
            ("evaluations of the prior, per sample", whole),
            ("calls of the operator, per sample", f"{self.operator}"),
            ("seconds of sampling", f"{self.seconds:.1f}"),
            ("peak memory", f"{self.memory:.0f} MiB"),
        ]

    def remark(self) -> str | None:
        """A warning, if the samples do not explain the measurement."""
        middle = float(np.median(self.residual))
        if 0.7 <= middle <= 1.3:
            return None
        side, fault = (
            ("farther from", "do not explain it")
            if middle > 1.3
            else ("nearer to", "fit its noise")
        )
        return (
            f"The samples are {side} the measurement than its noise allows (residual {middle:.2f} sigma): "
            f"they {fault}. Try another sampler, more steps, or the noise level that it really has."
        )


def _spread(values: Sequence[float], form: str) -> str:
    text = form.format(float(np.mean(values)))
    return text if len(values) < 2 else f"{text} +- {form.format(float(np.std(values, ddof=1)))}"


def summarise(job: "Job", samples: Tensor, cost: Cost, store: Store) -> Results:
    """Compute the results and write arrays, pictures and report.

    Args:
        job: What was done.
        samples: `[n, channels, height, width]`.
        cost: What they cost.
        store: Where to write.
    """
    plan, target = job.plan, job.target
    y, operator = target.y.cpu(), job.operator
    z = (y - operator(samples)) / plan.sigma
    residual = operator.codomain.flatten(z).square().mean(-1).sqrt()
    mean = samples.mean(0)
    several = len(samples) > 1
    std = samples.std(0) if several else torch.zeros_like(mean)
    known = None if job.truth is None else job.truth.cpu()
    results = Results(
        residual=residual.tolist(),
        psnr=None if known is None else psnr(samples, known).tolist(),
        psnr_mean=None if known is None else psnr(mean[None], known).item(),
        ssim=None if known is None else ssim(samples, known).tolist(),
        ssim_mean=None if known is None else ssim(mean[None], known).item(),
        std=std.mean().item() if several else None,
        **asdict(cost),
        memory=peak_memory(torch.device(target.space.device)),
        shared=job.sampler.shared,
    )
    arrays = {
        "samples": samples,
        "seeds": torch.tensor(list(plan.seeds)),
        "measurement": y,
        "mean": mean,
        "std": std,
        **({} if known is None else {"truth": known}),
    }
    store.write_arrays("samples.npz", {name: value.numpy() for name, value in arrays.items()})
    pictures = _pictures(job, samples, mean, std if several else None)
    for name, (content, _) in pictures.items():
        store.write(name, content)
    store.write("report.html", write_report(job, results, pictures).encode())
    return results


def picture_of(operator: Operator, y: Tensor) -> np.ndarray | None:
    """A measurement as a picture, where it has one."""
    if isinstance(operator, Inpainting):
        # Missing pixels are mid-grey, which is 0 in data units.
        return to_bytes(operator.adjoint(y))
    if isinstance(operator, PhaseRetrieval):
        level = torch.log1p(100 * y.clamp(min=0)).mean(0)
        return heat(level, float(level.max()))
    if y.ndim == 3 and y.shape[0] in {1, 3}:
        return to_bytes(y)
    return None


def _pictures(
    job: "Job", samples: Tensor, mean: Tensor, std: Tensor | None
) -> dict[str, tuple[bytes, str]]:
    """Files and their captions, in the order in which a report shows them."""
    scale = max(1, SHOWN // mean.shape[-1])
    shown: dict[str, tuple[bytes, str]] = {}
    if job.truth is not None:
        shown["truth.png"] = (png(to_bytes(job.truth), scale), "the truth")
    measurement = picture_of(job.operator, job.target.y.cpu())
    if measurement is not None:
        larger = max(1, SHOWN // measurement.shape[1])
        shown["measurement.png"] = (png(measurement, larger), "the measurement")
    shown["mean.png"] = (png(to_bytes(mean), scale), "mean of the samples")
    if std is not None:
        # Channels of a pixel share one number, the root of their mean variance.
        level = std.square().mean(0).sqrt()
        top = float(level.max())
        caption = f"standard deviation: black is 0, pale yellow is {top:.2f} (the picture spans 2)"
        shown["std.png"] = (png(heat(level, top), scale), caption)
    residual = (job.target.y.cpu() - job.operator(samples[:1])[0]) / job.plan.sigma
    faded = picture_of(job.operator, (residual / 4).clamp(-1, 1))
    if faded is not None and not isinstance(job.operator, PhaseRetrieval):
        larger = max(1, SHOWN // faded.shape[1])
        caption = "residual of the first sample: black is -4 sigma, white is +4 sigma"
        shown["residual.png"] = (png(faded, larger), caption)
    sheet = grid([to_bytes(x) for x in samples[:64]], columns=8)
    large = max(1, round(112 / mean.shape[-1]))
    shown["samples.png"] = (png(sheet, large), f"{min(len(samples), 64)} samples")
    for i, x in enumerate(samples):
        shown[f"samples/{job.plan.seeds[i]}.png"] = (png(to_bytes(x)), "")
    return shown
