"""All numbers at one budget, with standard errors over pictures."""

from typing import Any

from benchopt import BasePlot
from typing_extensions import override

from lib.show import complete, short

# By metric: what it is, and how many digits are shown.
COLUMNS = {
    "distance": ("distance", 4),
    "psnr": ("PSNR", 2),
    "ssim": ("SSIM", 3),
    "residual": ("residual / sigma", 2),
    "coverage": ("90 % coverage", 3),
    "nfe": ("NFE", 0),
    "seconds_each": ("s a sample", 2),
}


def budgets(df: Any) -> list[int]:
    """The budgets of the curves, the largest first."""
    return sorted((int(b) for b in df["stop_val"].unique() if b > 0), reverse=True)


class Plot(BasePlot):
    """A table, nearest samples first; what runs once is at budget 1."""

    name = "Summary"
    type = "table"
    options = {"dataset": ..., "objective": ..., "budget": budgets}

    @override
    def plot(self, df: Any, dataset: str, objective: str, budget: int) -> list[list[Any]]:
        df = df[
            (df["dataset_name"] == dataset)
            & (df["objective_name"] == objective)
            & (df["stop_val"] == budget)
        ]
        whole = df.groupby("solver_name").filter(lambda rows: complete(rows, "objective_distance"))
        means = whole.groupby("solver_name").mean(numeric_only=True)
        table = []
        for solver, row in means.sort_values("objective_distance").iterrows():
            cells: list[Any] = [short(str(solver))]
            for key, (_, digits) in COLUMNS.items():
                text = f"{row[f'objective_{key}']:.{digits}f}"
                error = row.get(f"objective_{key}_se")
                cells.append(text if error is None else f"{text} ± {error:.{digits}f}")
            table.append(cells)
        return table

    @override
    def get_metadata(self, df: Any, dataset: str, objective: str, budget: int) -> dict[str, Any]:
        return {
            "title": f"{dataset}, {budget} evaluations and vjps",
            "columns": ["sampler", *(name for name, _ in COLUMNS.values())],
            "default_order_column": 1,
        }
