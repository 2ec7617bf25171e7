"""Curves of a metric against what the samples cost."""

from typing import Any

from typing_extensions import override

from lib.plots import Curves, chosen, line
from lib.show import METRICS, SIGNED, Frame, flat, measured, short

AXES = {
    "evaluations + vjps": ("objective_nfe", "evaluations + vjps per sample"),
    "seconds": ("objective_seconds", "seconds for all samples"),
}
FLAT = {"exact draws": (0.0, 0.0, 0.0, 1.0), "prior draws": (0.6, 0.6, 0.6, 1.0)}


class Plot(Curves):
    """One curve a sampler; exact draws, the floor, are a black line and draws of the prior a grey one."""

    name = "metric_vs_cost"
    options = {"dataset": ..., "metric": measured, "axis": list(AXES)}

    @override
    def plot(self, df: Frame, dataset: str, metric: str, axis: str) -> list[dict[str, Any]]:
        column, x = f"objective_{metric}", AXES[axis][0]
        rows = chosen(df, dataset_name=dataset)
        names = rows["solver_name"].map(short)
        drawn = rows[~names.isin(FLAT) & (rows["sampling_strategy"].str.lower() != "run_once")]
        curves = self.curves(drawn, x, column, positive=metric not in SIGNED)
        places = [place for points in curves for place in points["x"]] or [100.0, 10_000.0]
        for label, color in FLAT.items():
            if (names == label).any():
                points = flat(rows[names == label], column, (min(places), max(places)))
                curves.append(line(label, points, color))
        return curves

    @override
    def get_metadata(self, df: Frame, dataset: str, metric: str, axis: str) -> dict[str, Any]:
        return {
            "title": dataset,
            "xlabel": AXES[axis][1],
            "ylabel": METRICS[metric].label,
            "scale": "semilog-x" if metric in SIGNED else "loglog",
        }
