"""The best sampler of each problem at each budget."""

from typing import Any

from benchopt import BasePlot
from typing_extensions import override

from lib.show import METRICS, Frame, at_budget, exact_mean, inner, measured, table_of_best

BUDGETS = (100, 500, 2000, 10_000)


class Plot(BasePlot):
    """With its mean and standard error, and those within two standard errors of it."""

    name = "best_at_budget"
    type = "table"
    options = {"metric": measured}

    @override
    def plot(self, df: Frame, metric: str) -> list[list[str]]:
        table = []
        for dataset, rows in df.groupby("dataset_name"):
            best = [table_of_best(at_budget(rows, metric, n), METRICS[metric]) for n in BUDGETS]
            table.append([inner(str(dataset)), *best, str(exact_mean(rows, metric))])
        return table

    @override
    def get_metadata(self, df: Frame, metric: str) -> dict[str, Any]:
        return {
            "title": f"Best sampler by {METRICS[metric].label}",
            "columns": ["problem", *(f"at {n}" for n in BUDGETS), "exact draws"],
            "default_order_ascending": True,
            "default_order_column": 0,
        }
