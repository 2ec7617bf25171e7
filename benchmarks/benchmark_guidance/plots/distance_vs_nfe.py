"""How far from a law that is known, against what a sample cost."""

from lib.plots import AgainstCost
from lib.show import Frame


def known(df: Frame) -> list[str]:
    """The datasets with exact answers."""
    names: list[str] = df[df["objective_floor"].notna()]["dataset_name"].unique().tolist()
    return names or ["-"]


class Plot(AgainstCost):
    """Of tilted laws; beside it what exact draws have, and what doing nothing leaves."""

    name = "Distance vs NFE"
    metrics = {
        "distance": "Wasserstein-1 distance (sliced beyond one dimension)",
        "ratio": "distance over that of exact draws",
        "mass_error": "mass in the wrong mode",
        "seconds_each": "seconds per sample",
    }
    levels = {
        "distance": ("objective_floor", "exact draws"),
        "mass_error": ("objective_moved", "the conditional law"),
    }
    datasets = known
    across = "evaluations and vjps of all members, per sample"
    positive = True
