"""How far from a law that is known, against what a sample cost."""

from typing import Any

from benchopt import BasePlot
from typing_extensions import override

from lib.show import curve, flat, short

METRICS = {
    "distance": "Wasserstein-1 distance (sliced beyond one dimension)",
    "ratio": "distance over that of exact draws",
    "mass_error": "mass in the wrong mode",
    "seconds_each": "seconds per sample",
}
# What exact draws have, and what doing nothing leaves.
LINES = {
    "distance": ("objective_floor", "exact draws"),
    "mass_error": ("objective_moved", "the conditional law"),
}
GREY = (0.4, 0.4, 0.4, 1.0)


def known(df: Any) -> list[str]:
    """The datasets with exact answers."""
    names: list[str] = df[df["objective_floor"].notna()]["dataset_name"].unique().tolist()
    return names or ["-"]


class Plot(BasePlot):
    """A curve over budgets for each solver, with the standard error over repetitions."""

    name = "Distance vs NFE"
    type = "scatter"
    options = {"dataset": known, "objective": ..., "metric": list(METRICS)}

    @override
    def plot(self, df: Any, dataset: str, objective: str, metric: str) -> list[dict[str, Any]]:
        df = df[(df["dataset_name"] == dataset) & (df["objective_name"] == objective)]
        column = f"objective_{metric}"
        df = df[df[column].notna()]
        traces = []
        for name, rows in df.groupby("solver_name"):
            label = short(str(name))
            points = curve(rows, "objective_nfe", column, positive=True)
            traces.append({"label": label, **points, **self.get_style(label)})
        if traces and metric in LINES:
            ends = [float(df["objective_nfe"].min()), float(df["objective_nfe"].max())]
            line, label = LINES[metric]
            points = flat(df, line, ends)
            traces.append({"label": label, **points, "color": GREY, "marker": 0})
        return traces

    @override
    def get_metadata(self, df: Any, dataset: str, objective: str, metric: str) -> dict[str, str]:
        return {
            "title": dataset,
            "xlabel": "evaluations and vjps of all members, per sample",
            "ylabel": METRICS[metric],
        }
