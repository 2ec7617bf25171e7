"""All numbers at one budget."""

from typing import Any

from benchopt import BasePlot
from typing_extensions import override

from lib.show import mean_of, short

# By metric: what it is; a column without numbers is left out.
COLUMNS = {
    "distance": "distance",
    "ratio": "distance / exact draws'",
    "mass_error": "mass in the wrong mode",
    "spread": "std",
    "agreement": "agreement",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "frechet": "Fréchet",
    "nfe": "NFE",
    "seconds_each": "s a sample",
}


def budgets(df: Any) -> list[int]:
    """The budgets of the curves, the largest first."""
    return sorted((int(b) for b in df["stop_val"].unique() if b > 0), reverse=True) or [0]


class Plot(BasePlot):
    """A table with standard errors over repetitions, the nearest first."""

    name = "Summary"
    type = "table"
    options = {"dataset": ..., "objective": ..., "budget": budgets}

    def rows(self, df: Any, dataset: str, objective: str, budget: int) -> tuple[Any, list[str]]:
        """The rows that have samples, and the metrics that have numbers."""
        df = df[
            (df["dataset_name"] == dataset)
            & (df["objective_name"] == objective)
            & (df["stop_val"] == budget)
            & df["objective_value"].notna()
        ]
        return df, [name for name in COLUMNS if df[f"objective_{name}"].notna().any()]

    @override
    def plot(self, df: Any, dataset: str, objective: str, budget: int) -> list[list[Any]]:
        df, known = self.rows(df, dataset, objective, budget)
        groups = sorted(
            df.groupby("solver_name"), key=lambda pair: float(pair[1]["objective_value"].mean())
        )
        return [
            [
                short(str(solver)),
                *(str(mean_of(rows[f"objective_{name}"])) for name in known),
            ]
            for solver, rows in groups
        ]

    @override
    def get_metadata(self, df: Any, dataset: str, objective: str, budget: int) -> dict[str, Any]:
        _, known = self.rows(df, dataset, objective, budget)
        return {
            "title": f"{dataset}, {budget} evaluations and vjps",
            "columns": ["method", *(COLUMNS[name] for name in known)],
            "default_order_column": min(1, len(known)),
        }
