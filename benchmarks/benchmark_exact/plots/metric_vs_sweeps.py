"""Curves of a metric against the number of Gibbs sweeps."""

from typing import Any

from benchopt import BasePlot
from typing_extensions import override

from lib.plots import chosen, line
from lib.show import METRICS, SIGNED, Frame, curve, flat, measured, short

BLACK = (0.0, 0.0, 0.0, 1.0)


class Plot(BasePlot):
    """One curve a number of levels; exact draws, the floor, are a black line."""

    name = "metric_vs_sweeps"
    type = "scatter"
    options = {"dataset": ..., "metric": measured}

    @override
    def plot(self, df: Frame, dataset: str, metric: str) -> list[dict[str, Any]]:
        axis, column, curves = "objective_sweeps", f"objective_{metric}", []
        rows = chosen(df, dataset_name=dataset)
        swept = rows[rows[axis].notna()]
        for levels, group in swept.groupby("p_solver_levels"):
            label = f"mgdm, {int(levels)} levels"
            points = curve(group, axis, column, by=axis, positive=metric not in SIGNED)
            curves.append({**points, "label": label, **self.get_style(label)})
        exact = rows[rows["solver_name"].map(short) == "exact draws"]
        points = flat(exact, column, [float(swept[axis].min()), float(swept[axis].max())])
        return [*curves, line("exact draws", points, BLACK)] if curves else []

    @override
    def get_metadata(self, df: Frame, dataset: str, metric: str) -> dict[str, Any]:
        return {
            "title": dataset,
            "xlabel": "Gibbs sweeps a level",
            "ylabel": METRICS[metric].label,
            "scale": "semilog-x" if metric in SIGNED else "loglog",
        }
