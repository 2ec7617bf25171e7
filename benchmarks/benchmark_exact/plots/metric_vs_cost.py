"""Curves of a metric against what the samples cost."""

from typing import Any

from benchopt import BasePlot
from typing_extensions import override

from lib.show import METRICS, SIGNED, Frame, curve, flat, measured, short

AXES = {
    "evaluations + vjps": ("objective_nfe", "evaluations + vjps per sample"),
    "seconds": ("objective_seconds", "seconds for all samples"),
}
FLAT = {"exact draws": (0.0, 0.0, 0.0, 1.0), "prior draws": (0.6, 0.6, 0.6, 1.0)}


class Plot(BasePlot):
    """One curve a sampler; exact draws, the floor, are a black line and draws of the prior a grey one."""

    name = "metric_vs_cost"
    type = "scatter"
    options = {"dataset": ..., "metric": measured, "axis": list(AXES)}

    @override
    def plot(self, df: Frame, dataset: str, metric: str, axis: str) -> list[dict[str, Any]]:
        column, x = f"objective_{metric}", AXES[axis][0]
        rows = df[df["dataset_name"] == dataset]
        curves, lines = [], {}
        for name, group in rows.groupby("solver_name"):
            label = short(name)
            if label in FLAT:
                lines[label] = group
                continue
            if (group["sampling_strategy"].str.lower() == "run_once").all():
                continue
            points = curve(group, x, column, positive=metric not in SIGNED)
            curves.append({**points, "label": label, **self.get_style(label)})
        places = [place for points in curves for place in points["x"]] or [100.0, 10_000.0]
        for label, group in lines.items():
            line = flat(group, column, (min(places), max(places)))
            curves.append({**line, "label": label, "color": FLAT[label], "marker": 0})
        return curves

    @override
    def get_metadata(self, df: Frame, dataset: str, metric: str, axis: str) -> dict[str, Any]:
        return {
            "title": dataset,
            "xlabel": AXES[axis][1],
            "ylabel": METRICS[metric].label,
            "scale": "semilog-x" if metric in SIGNED else "loglog",
        }
