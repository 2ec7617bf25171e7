"""The main figure: distance over the floor against the budget, a panel a problem."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from lib.show import Frame, at_budget

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
    """Means over repetitions, by problem; the line at 1 is the floor, exact draws against exact draws."""
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
    for name in sorted(names, key=lambda name: name in SHOWN):
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
