"""Quality against diversity, over weights."""

from typing import Any

from benchopt import BasePlot
from typing_extensions import override

from lib.plots import budgets as budgets_of, chosen
from lib.show import mean_of, short

# Across, and up.
PAIRS = {
    "precision against recall": ("recall", "precision"),
    "density against coverage": ("coverage", "density"),
    "agreement against recall": ("recall", "agreement"),
    "agreement against Fréchet distance": ("frechet", "agreement"),
}


def labels(df: Any) -> list[str]:
    """The labels of which there are samples, each with what it is compared with."""
    return sorted({name for name in map(family, df["dataset_name"]) if name}) or ["-"]


def family(dataset: str) -> str:
    """A dataset's name without its weight; empty if it is not one of digits."""
    name, _, settings = dataset.partition("[")
    kept = [part for part in settings.rstrip("]").split(",") if not part.startswith("weight=")]
    return ", ".join(kept) if name == "digits" else ""


def budgets(df: Any) -> list[int]:
    """The budgets at which there are digits, the largest first."""
    return budgets_of(df[df["dataset_name"].map(family).astype(bool)])


class Plot(BasePlot):
    """A curve for each solver at one budget, with a point for each weight."""

    name = "Quality vs diversity"
    type = "scatter"
    options = {"digits": labels, "objective": ..., "budget": budgets, "pair": list(PAIRS)}

    @override
    def plot(
        self, df: Any, digits: str, objective: str, budget: int, pair: str
    ) -> list[dict[str, Any]]:
        across, up = (f"objective_{name}" for name in PAIRS[pair])
        df = chosen(df, objective_name=objective, stop_val=budget)
        df = df[df["dataset_name"].map(family) == digits]
        df = df[df[across].notna() & df[up].notna()]
        traces = []
        for name, rows in df.groupby("solver_name"):
            label = short(str(name))
            by_weight = [group for _, group in rows.groupby("p_dataset_weight")]
            x = [mean_of(group[across]).value for group in by_weight]
            y = [mean_of(group[up]).value for group in by_weight]
            traces.append({"label": label, "x": x, "y": y, **self.get_style(label)})
        return traces

    @override
    def get_metadata(
        self, df: Any, digits: str, objective: str, budget: int, pair: str
    ) -> dict[str, str]:
        across, up = PAIRS[pair]
        title = f"{digits}, {budget} evaluations; weights grow along the curves"
        return {"title": title, "xlabel": across, "ylabel": up}
