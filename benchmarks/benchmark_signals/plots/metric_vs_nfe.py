"""A metric against what a sample cost."""

from typing import Any

from typing_extensions import override

from lib.plots import Curves, chosen
from lib.show import Frame

METRICS = {
    "crps": "continuous ranked probability score (data units)",
    "mae": "mean absolute error of the mean (data units)",
    "coverage": "share of the truth in the central 90 % of samples; 0.9 is right",
    "residual": "residual over the noise level; 1 explains the measurement",
}


class Plot(Curves):
    """A curve over budgets for each solver."""

    name = "Metric vs NFE"
    options = {"dataset": ..., "metric": list(METRICS)}

    @override
    def plot(self, df: Frame, dataset: str, metric: str) -> list[dict[str, Any]]:
        rows = chosen(df, dataset_name=dataset)
        column = f"objective_{metric}"
        return self.curves(rows[rows[column].notna()], "objective_nfe", column)

    @override
    def get_metadata(self, df: Frame, dataset: str, metric: str) -> dict[str, str]:
        across = "evaluations and vjps of the prior, per sample"
        return {"title": dataset, "xlabel": across, "ylabel": METRICS[metric]}
