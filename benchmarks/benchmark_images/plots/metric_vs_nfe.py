"""A metric against what a sample cost."""

from typing import Any

from benchopt import BasePlot
from typing_extensions import override

from lib.show import curve, flat, short

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


class Plot(BasePlot):
    """A curve over budgets for each solver, with a standard error: over repetitions, or over the pictures of one."""

    name = "Metric vs NFE"
    type = "scatter"
    options = {"dataset": ..., "objective": ..., "metric": list(METRICS)}

    @override
    def plot(self, df: Any, dataset: str, objective: str, metric: str) -> list[dict[str, Any]]:
        df = df[(df["dataset_name"] == dataset) & (df["objective_name"] == objective)]
        column, error = f"objective_{metric}", f"objective_{metric}_se"
        df = df[df[column].notna()]
        traces = []
        for name, rows in df.groupby("solver_name"):
            points = curve(rows, "objective_nfe", column)
            if error in rows and rows["idx_rep"].nunique() == 1 and points["x"]:
                errors = rows.sort_values("stop_val")[error].fillna(0.0).tolist()
                pairs = list(zip(points["y"], errors, strict=True))
                points["y_low"] = [y - e for y, e in pairs]
                points["y_high"] = [y + e for y, e in pairs]
            label = short(str(name))
            traces.append({"label": label, **points, **self.get_style(label)})
        ends = [float(df["objective_nfe"].min()), float(df["objective_nfe"].max())]
        if metric in RIGHT and traces:
            right = {"label": "right", "x": ends, "y": [RIGHT[metric]] * 2}
            traces.append({**right, "color": GREY, "marker": 0})
        if metric == "distance" and traces and df["objective_floor"].notna().any():
            line = flat(df, "objective_floor", ends)
            traces.append({"label": "two sets of truths", **line, "color": GREY, "marker": 0})
        return traces

    @override
    def get_metadata(self, df: Any, dataset: str, objective: str, metric: str) -> dict[str, str]:
        return {
            "title": dataset,
            "xlabel": "evaluations and vjps of the prior, per sample",
            "ylabel": METRICS[metric],
        }


GREY = (0.4, 0.4, 0.4, 1.0)
