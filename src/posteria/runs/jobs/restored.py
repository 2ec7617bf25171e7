"""The numbers of a restoration, and what they say."""

from dataclasses import dataclass

from typing_extensions import override

from ...core.meter import Cost
from ...metrics.registry import METRICS
from ...samplers.diagnostics import Diagnostics
from ..results import Results, count, spread
from .certify import Stated


@dataclass(frozen=True, kw_only=True)
class Restored(Results):
    """The numbers of a restoration; None in place of a number that is not finite.

    Args:
        sigma: The noise level.
        residual: Root mean square of `(y - A(x)) / sigma` of each sample, or of the misfit of its cells; near 1
            where the sample explains the measurement.
        metrics: Of each sample against the truth, by name; empty where it is not known.
        metrics_mean: Of the mean of the samples.
        std: The mean over entries of the standard deviation of the samples, in data units; None for
            one sample.
        uncertainty: The same in words, where something was missing.
        cost: Of a sample.
        seconds: Of sampling, for all samples, over all attempts.
        shared: Samples that a population would give for its cost; 1 without populations.
        certificate: What a certificate says of the sampler, if a folder was named.
        diagnostics: What the samples say of themselves.
    """

    sigma: float
    residual: list[float | None]
    metrics: dict[str, list[float | None]]
    metrics_mean: dict[str, float | None]
    std: float | None
    cost: Cost
    seconds: float
    shared: int = 1
    certificate: Stated | None = None
    diagnostics: Diagnostics | None = None
    uncertainty: str | None = None

    @override
    def table(self) -> tuple[list[str], list[list[str]]]:
        expected = "" if self.diagnostics is None else self.diagnostics.about_residual()
        residual = f"{spread(self.residual, 3)} {expected}".strip()
        rows = [[f"residual / sigma (sigma = {self.sigma:g})", residual]]
        for name, values in self.metrics.items():
            metric = METRICS[name]
            of_mean = [self.metrics_mean[name]]
            rows += [
                [f"{metric.label} of the samples", spread(values, metric.digits, metric.unit)],
                [f"{metric.label} of their mean", spread(of_mean, metric.digits, metric.unit)],
            ]
        if self.uncertainty is not None:
            rows.append(["standard deviation of the samples", self.uncertainty])
        rows += [
            ["evaluations of the prior, per sample", self._evaluations()],
            ["applications of the operator, per sample", count(self.cost.operator) or "0"],
            ["seconds of sampling", f"{self.seconds:.1f}"],
        ]
        if self.cost.memory:
            rows.append(["peak memory", f"{self.cost.memory:.0f} MiB"])
        if self.diagnostics is not None:
            rows += self.diagnostics.rows()
        if self.certificate is not None:
            rows.append(["certificate of the sampler", self.certificate.words])
        return [], rows

    def _evaluations(self) -> str:
        def of(samples: int) -> str:
            forward, backward = self.cost.forward * samples, self.cost.backward * samples
            return f"{count(forward) or '0'} + {count(backward) or '0'} vjps"

        if self.shared == 1:
            return of(1)
        return (
            f"{of(1)} (its share of a population of {self.shared}, which costs {of(self.shared)})"
        )

    def brief(self) -> dict[str, str]:
        """What stands in a table of several inputs."""
        metrics = {
            f"{METRICS[name].label} of the mean": spread(
                [value], METRICS[name].digits, METRICS[name].unit
            )
            for name, value in self.metrics_mean.items()
        }
        return {
            "residual / sigma": spread(self.residual, 3),
            **metrics,
            "samples differ by": self.uncertainty or "",
            "seconds": f"{self.seconds:.1f}",
        }

    def plain(self) -> str:
        """The outcome in plain sentences."""
        if len(self.residual) == 1:
            return "One sample says nothing of what is uncertain; draw more by --samples 8."
        if self.uncertainty is None:
            return "Their uncertainty is not finite."
        sure = f"They differ by {self.uncertainty} (one standard deviation)."
        return (
            sure
            if self.warnings()
            else f"{sure} All of them fit what was measured to within its noise; where nothing was, the prior alone "
            "speaks."
        )

    @override
    def warnings(self) -> list[str]:
        return [*super().warnings(), *(self.diagnostics.warnings() if self.diagnostics else ())]
