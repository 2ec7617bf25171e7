"""Every sampler on every problem at one budget."""

from functools import partial
from typing import Any

from benchopt import BasePlot
from typing_extensions import override

from lib.plots import budgets
from lib.show import METRICS, Frame, inner, measured, rows_of_all


class Plot(BasePlot):
    """A row a sampler, a column a problem, mean and standard error; the last row is the floor."""

    name = "all_at_budget"
    type = "table"
    options = {"metric": measured, "budget": partial(budgets, least=100)}

    @override
    def plot(self, df: Frame, metric: str, budget: int) -> list[list[str]]:
        return rows_of_all(dict(iter(df.groupby("dataset_name"))), metric, budget)

    @override
    def get_metadata(self, df: Frame, metric: str, budget: int) -> dict[str, Any]:
        return {
            "title": f"{METRICS[metric].label}, {budget} evaluations and vjps a sample",
            "columns": ["sampler", *map(inner, sorted(df["dataset_name"].unique()))],
            "default_order_ascending": True,
            "default_order_column": 0,
        }
