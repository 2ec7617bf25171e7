"""How far from a law that is known, against what a sample cost."""

from typing import Any

from typing_extensions import override

from lib.plots import Curves, chosen, line
from lib.show import Frame, flat

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


def known(df: Frame) -> list[str]:
    """The datasets with exact answers."""
    names: list[str] = df[df["objective_floor"].notna()]["dataset_name"].unique().tolist()
    return names or ["-"]


class Plot(Curves):
    """A curve over budgets for each solver, with the standard error over repetitions."""

    name = "Distance vs NFE"
    options = {"dataset": known, "objective": ..., "metric": list(METRICS)}

    @override
    def plot(self, df: Frame, dataset: str, objective: str, metric: str) -> list[dict[str, Any]]:
        df, column = (
            chosen(df, dataset_name=dataset, objective_name=objective),
            f"objective_{metric}",
        )
        df = df[df[column].notna()]
        traces = self.curves(df, "objective_nfe", column, positive=True)
        if traces and metric in LINES:
            ends = [float(df["objective_nfe"].min()), float(df["objective_nfe"].max())]
            level, label = LINES[metric]
            traces.append(line(label, flat(df, level, ends)))
        return traces

    @override
    def get_metadata(self, df: Frame, dataset: str, objective: str, metric: str) -> dict[str, str]:
        across = "evaluations and vjps of all members, per sample"
        return {"title": dataset, "xlabel": across, "ylabel": METRICS[metric]}
