"""What the plots of the suites share, and the main figure; a frame is a pandas data frame of benchopt."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from benchopt import BasePlot
from matplotlib.figure import Figure
from typing_extensions import override

from .show import Frame, at_budget, complete, curve, flat, mean_of, short

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


class AgainstCost(Curves):
    """A curve over budgets for each solver, with a standard error: over repetitions, or over the signals of one.

    Attributes:
        metrics: Labels of what can be shown.
        levels: Of a metric, a number or a column with what is to be met, and its label.
        datasets: Those that are offered, a function of the frame or all.
        positive: Whether the metrics have logarithms.
    """

    metrics: ClassVar[dict[str, str]]
    levels: ClassVar[dict[str, tuple[str | float, str]]] = {}
    datasets: ClassVar[Any] = ...
    across = "evaluations and vjps of the prior, per sample"
    positive = False

    def __init_subclass__(cls) -> None:
        cls.options = {"dataset": cls.datasets, "objective": ..., "metric": list(cls.metrics)}

    @override
    def plot(self, df: Frame, dataset: str, objective: str, metric: str) -> list[dict[str, Any]]:
        column = f"objective_{metric}"
        df = chosen(df, dataset_name=dataset, objective_name=objective)
        df = df[df[column].notna()]
        traces = self.curves(df, "objective_nfe", column, positive=self.positive)
        if df["idx_rep"].nunique() == 1 and f"{column}_se" in df:
            for trace in traces:
                rows = df[df["solver_name"].map(short) == trace["label"]].sort_values("stop_val")
                pairs = list(zip(trace["y"], rows[f"{column}_se"].fillna(0.0), strict=True))
                trace["y_low"], trace["y_high"] = (
                    [y - e for y, e in pairs],
                    [y + e for y, e in pairs],
                )
        if traces and metric in self.levels:
            level, label = self.levels[metric]
            ends = [float(df["objective_nfe"].min()), float(df["objective_nfe"].max())]
            flat_line = (
                {"x": ends, "y": [level] * 2}
                if isinstance(level, float)
                else flat(df, level, ends)
            )
            traces += [line(label, flat_line)] if flat_line["x"] else []
        return traces

    @override
    def get_metadata(self, df: Frame, dataset: str, objective: str, metric: str) -> dict[str, str]:
        return {"title": dataset, "xlabel": self.across, "ylabel": self.metrics[metric]}


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


# Samplers with a colour of their own; the others are grey.
SHOWN = {
    "exact": "#d1495b",
    "tds": "#8f2d56",
    "mgdm": "#1f78b4",
    "mgps": "#33a02c",
    "mmps": "#ff7f00",
    "daps": "#6a3d9a",
    "pigdm": "#b8860b",
    "dps": "#000000",
}


def curves(parts: Mapping[str, Frame]) -> Figure:
    """The main figure: distance over the floor (1: exact draws against exact draws) against the budget, by problem."""
    columns = 2 if len(parts) in {2, 4} else 3
    rows = -(-len(parts) // columns)
    figure = Figure(figsize=(11, 3.1 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for ax, (problem, part) in zip(axes, parts.items(), strict=False):
        panel(ax, part)
        ax.set_title(problem, fontsize=11)
    for ax in axes[len(parts) :]:
        ax.set_visible(False)
    handles = {
        line.get_label(): line
        for ax in axes
        for line in ax.lines
        if line.get_label() in {*SHOWN, "floor", "others"}
    }
    names = [name for name in (*SHOWN, "others", "floor") if name in handles]
    figure.legend(
        [handles[name] for name in names], names, loc="outside upper center", ncols=len(names)
    )
    figure.supylabel("distance to the posterior / floor", fontsize=11)
    figure.supxlabel("evaluations and vjps of the prior, per sample", fontsize=11)
    return figure


def panel(ax: Any, part: Frame) -> None:
    """The curves of a problem."""
    budgets = sorted({int(stop) for stop in part["stop_val"] if stop >= 100})
    means = {budget: at_budget(part, "ratio", budget) for budget in budgets}
    names = {name for column in means.values() for name in column}
    # A set has an order of its own in each process.
    for name in sorted(names, key=lambda name: (name in SHOWN, name)):
        points = [(b, means[b][name].value) for b in budgets if name in means[b]]
        known = name in SHOWN
        ax.plot(
            *zip(*points, strict=True),
            color=SHOWN.get(name, "#bbbbbb"),
            linewidth=1.8 if known else 0.8,
            marker="o" if known else None,
            markersize=3.5,
            label=name if known else "others",
        )
    ax.axhline(1, color="#444444", linestyle="--", linewidth=1.2, label="floor")
    ax.set(xscale="log", yscale="log")
    ax.grid(alpha=0.25, which="major")
