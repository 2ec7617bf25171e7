"""A metric against what a sample cost."""

from typing import Any

from typing_extensions import override

from lib.plots import Curves, chosen, line
from lib.show import Frame, flat, short

METRICS = {
    "distance": "sliced Wasserstein distance to the truths",
    "psnr": "PSNR of a sample (dB)",
    "ssim": "SSIM of a sample",
    "residual": "residual over the noise level; 1 explains the measurement",
    "coverage": "share of pixels in the central 90 % of samples; 0.9 is right",
    "seconds_each": "seconds per sample",
}
# What is to be met.
RIGHT = {"residual": 1.0, "coverage": 0.9}


class Plot(Curves):
    """A curve over budgets for each solver, with a standard error: over repetitions, or over the pictures of one."""

    name = "Metric vs NFE"
    options = {"dataset": ..., "objective": ..., "metric": list(METRICS)}

    @override
    def plot(self, df: Frame, dataset: str, objective: str, metric: str) -> list[dict[str, Any]]:
        df, column = (
            chosen(df, dataset_name=dataset, objective_name=objective),
            f"objective_{metric}",
        )
        df = df[df[column].notna()]
        traces = self.curves(df, "objective_nfe", column)
        if df["idx_rep"].nunique() == 1 and f"{column}_se" in df:
            for trace in traces:
                rows = df[df["solver_name"].map(short) == trace["label"]].sort_values("stop_val")
                errors = rows[f"{column}_se"].fillna(0.0)
                pairs = list(zip(trace["y"], errors, strict=True))
                trace["y_low"] = [y - e for y, e in pairs]
                trace["y_high"] = [y + e for y, e in pairs]
        ends = [float(df["objective_nfe"].min()), float(df["objective_nfe"].max())]
        if metric in RIGHT and traces:
            traces.append(line("right", {"x": ends, "y": [RIGHT[metric]] * 2}))
        if metric == "distance" and traces and df["objective_floor"].notna().any():
            traces.append(line("two sets of truths", flat(df, "objective_floor", ends)))
        return traces

    @override
    def get_metadata(self, df: Frame, dataset: str, objective: str, metric: str) -> dict[str, str]:
        across = "evaluations and vjps of the prior, per sample"
        return {"title": dataset, "xlabel": across, "ylabel": METRICS[metric]}
