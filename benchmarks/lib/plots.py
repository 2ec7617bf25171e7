"""What the plots of the suites share; a frame is a pandas data frame of benchopt."""

from collections.abc import Sequence
from typing import Any, ClassVar

from benchopt import BasePlot
from typing_extensions import override

from .show import Frame, complete, curve, mean_of, short

GREY = (0.4, 0.4, 0.4, 1.0)


def budgets(df: Frame, least: int = 1) -> list[int]:
    """The budgets of the curves, the largest first."""
    return sorted({int(stop) for stop in df["stop_val"] if stop >= least}, reverse=True) or [0]


def chosen(df: Frame, **columns: object) -> Frame:
    """The rows with these values in these columns."""
    for name, value in columns.items():
        df = df[df[name] == value]
    return df


def line(label: str, points: dict[str, list[float]], color: object = GREY) -> dict[str, Any]:
    """A line without marks, such as the floor."""
    return {**points, "label": label, "color": color, "marker": 0}


class Curves(BasePlot):
    """Means against an axis, a curve a solver."""

    type = "scatter"

    def curves(self, rows: Frame, x: str, y: str, *, positive: bool = False) -> list[Any]:
        """A curve for each solver of the rows."""
        groups = {short(str(name)): group for name, group in rows.groupby("solver_name")}
        return [
            {**curve(group, x, y, positive=positive), "label": label, **self.get_style(label)}
            for label, group in groups.items()
        ]


class Summary(BasePlot):
    """A table of all numbers at one budget, the nearest by the metric `first` first; no empty columns."""

    name = "Summary"
    type = "table"
    options: ClassVar[dict[str, Any]] = {"dataset": ..., "objective": ..., "budget": budgets}
    columns: ClassVar[dict[str, str]]
    first = "value"

    def rows(
        self, df: Frame, dataset: str, objective: str, budget: int
    ) -> tuple[Frame, list[str]]:
        """The rows of solvers that have samples, and the metrics that have numbers."""
        df = chosen(df, dataset_name=dataset, objective_name=objective, stop_val=budget)
        column = f"objective_{self.first}"
        df = df.groupby("solver_name").filter(lambda rows: complete(rows, column))
        return df, [name for name in self.columns if df[f"objective_{name}"].notna().any()]

    def cell(self, rows: Frame, name: str) -> str:
        """A metric of one solver."""
        return str(mean_of(rows[f"objective_{name}"]))

    @override
    def plot(self, df: Frame, dataset: str, objective: str, budget: int) -> list[list[Any]]:
        df, known = self.rows(df, dataset, objective, budget)
        groups: Sequence[tuple[Any, Frame]] = list(df.groupby("solver_name"))
        order = sorted(groups, key=lambda pair: float(pair[1][f"objective_{self.first}"].mean()))
        return [
            [short(str(solver)), *(self.cell(rows, name) for name in known)]
            for solver, rows in order
        ]

    @override
    def get_metadata(self, df: Frame, dataset: str, objective: str, budget: int) -> dict[str, Any]:
        _, known = self.rows(df, dataset, objective, budget)
        return {
            "title": f"{dataset}, {budget} evaluations and vjps",
            "columns": ["method", *(self.columns[name] for name in known)],
            "default_order_column": min(1, len(known)),
        }
