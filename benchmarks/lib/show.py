"""From the rows of a run to curves and tables; `code_hash` leaves this file out.

A frame is a pandas data frame of benchopt: a row for each point of each curve and repetition.
"""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from posteria.core.errors import require

Frame = Any


@dataclass(frozen=True)
class Metric:
    """How a metric is read: its label, and the value that is best, infinite if more, or less, always is."""

    label: str
    best: float = -math.inf

    def loss(self, value: float) -> float:
        """How bad a value is; less is better."""
        if math.isinf(self.best):
            return -value if self.best > 0 else value
        return abs(value - self.best)


# By the name that an objective gives them.
METRICS = {
    "ratio": Metric("sliced Wasserstein distance over the two-sample floor"),
    "distance": Metric("sliced Wasserstein distance (data units)"),
    "mmd": Metric("squared maximum mean discrepancy"),
    "mean_error": Metric("error of the mean (posterior sd)"),
    "variance_ratio": Metric("variance over the exact one", 1.0),
    "mode_weight_error": Metric("total variation of the weights of modes"),
    "coverage_90": Metric("coverage of 90 % intervals", 0.9),
    "rank": Metric("rank of the truth's likelihood among the samples (0 to 1)", 0.5),
    "energy_score": Metric("energy score (data units)"),
    "log_evidence_error": Metric("absolute error of log p(y) (nat)"),
    "seconds": Metric("seconds for all samples"),
    "memory": Metric("memory beyond the start (MiB)"),
}
# What may be negative has no logarithm.
SIGNED = {"mmd", "coverage_90", "rank", "memory"}


class Mean(NamedTuple):
    """The mean of repetitions, NaN for none, its standard error, NaN for less than two, and the values."""

    value: float
    error: float
    values: tuple[float, ...]

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "-"
        shown = f"{float(f'{self.value:.3g}'):g}"
        # Two digits, and never as a power of 10.
        return shown if math.isnan(self.error) else f"{shown} ± {float(f'{self.error:.2g}'):g}"


def measured(frame: Frame) -> list[str]:
    """The metrics of a frame that have a number."""
    columns = {name: f"objective_{name}" for name in METRICS}
    return [
        name for name, column in columns.items() if column in frame and frame[column].notna().any()
    ]


def short(name: str) -> str:
    """A solver's name without the benchmark's own part: `mgps` for `posteria[mgps]`."""
    found = re.fullmatch(r"(?:posteria|reference)\[(.*)\]", name)
    return found[1] if found else name


def inner(name: str) -> str:
    """The first parameter in a name of benchopt: `box` of `mnist[box,std=0.05]`."""
    found = re.search(r"\[([^,\]]*)", name)
    return found[1] if found else name


def mean_of(values: Iterable[float]) -> Mean:
    """The mean of the values that are numbers."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return Mean(math.nan, math.nan, ())
    error = statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    return Mean(statistics.fmean(known), error, tuple(known))


def complete(rows: Frame, column: str) -> bool:
    """Whether every repetition has a number; a sampler that fails at some is not shown by the others."""
    return len(rows) > 0 and bool(rows[column].map(math.isfinite).all())


def curve(
    rows: Frame, x: str, y: str, *, by: str = "stop_val", positive: bool = False
) -> dict[str, list[float]]:
    """Means of a metric `y` with one standard error to each side, in order of `by`; `positive` has a logarithm."""
    points: dict[str, list[float]] = {"x": [], "y": [], "y_low": [], "y_high": []}
    for _, group in rows.groupby(by):
        at, mean = mean_of(group[x]), mean_of(group[y])
        if not complete(group, y) or math.isnan(at.value):
            continue
        error = 0.0 if math.isnan(mean.error) else mean.error
        points["x"].append(at.value)
        points["y"].append(mean.value)
        low = mean.value - error
        points["y_low"].append(max(low, mean.value / 10) if positive else low)
        points["y_high"].append(mean.value + error)
    return points


def flat(rows: Frame, y: str, ends: Sequence[float]) -> dict[str, list[float]]:
    """A metric that does not depend on the axis, such as the floor, from end to end of it."""
    mean = mean_of(rows[y])
    require(len(ends) == 2, f"A line has two ends; got {len(ends)}.")
    if math.isnan(mean.value):
        return {"x": [], "y": []}
    return {"x": list(ends), "y": [mean.value, mean.value]}


def at_budget(rows: Frame, metric: str, budget: int) -> dict[str, Mean]:
    """The mean of a metric of `METRICS` by sampler, of those that have it at a budget; rows of one problem."""
    column = f"objective_{metric}"
    curves = (rows["stop_val"] == budget) & (rows["sampling_strategy"].str.lower() != "run_once")
    there = rows.loc[curves, ["solver_name", "idx_rep", column]].sort_values("idx_rep")
    return {
        short(name): mean_of(values)
        for name, values in there.groupby("solver_name", sort=False)[column]
        if values.map(math.isfinite).all()
    }


def exact_mean(rows: Frame, metric: str) -> Mean:
    """The mean of a metric for exact draws."""
    exact = rows[rows["solver_name"].map(short) == "exact draws"]
    return mean_of(exact[f"objective_{metric}"])


def rows_of_all(
    parts: Mapping[str, Frame], metric: str, budget: int, floor: str = "exact draws"
) -> list[list[str]]:
    """A row a sampler, a cell a problem; the lowest in the middle comes first, and the floor last."""
    columns = [at_budget(part, metric, budget) for part in parts.values()]

    def middle(name: str) -> float:
        return statistics.median(column[name].value for column in columns if name in column)

    # By name where two are alike: a set has an order of its own in each process.
    names = sorted(sorted({name for column in columns for name in column}), key=middle)
    cells = [[str(column.get(name, "-")) for column in columns] for name in names]
    last = [floor, *(str(exact_mean(part, metric)) for part in parts.values())]
    return [*([name, *row] for name, row in zip(names, cells, strict=True)), last]


def ranking(means: Mapping[str, Mean], metric: Metric) -> list[str]:
    """Names from the best to the worst, of those that have a value."""
    known = {name: mean for name, mean in means.items() if not math.isnan(mean.value)}
    return sorted(known, key=lambda name: metric.loss(known[name].value))


def table_of_best(means: Mapping[str, Mean], metric: Metric) -> str:
    """The best, with its value, and up to two of those whose mean cannot be told from it."""
    order = ranking(means, metric)
    if not order:
        return "-"
    others = equals(means, metric)
    named = ", ".join(others[:2]) + (f" and {len(others) - 2} more" if len(others) > 2 else "")
    return f"{order[0]} {means[order[0]]}" + (f" (also {named})" if others else "")


def equals(means: Mapping[str, Mean], metric: Metric) -> list[str]:
    """Those that cannot be told from the best: within two standard errors of 0, or better, repetition by repetition.

    Repetitions are different problems, on which all samplers are good or bad together, and errors are
    spread over factors: differences of logarithms are averaged, if there are such.
    """
    order = ranking(means, metric)
    return [name for name in order[1:] if _tied(means[order[0]], means[name], metric)]


def _tied(first: Mean, other: Mean, metric: Metric) -> bool:
    # Fewer than three repetitions have no error to speak of.
    if len(first.values) != len(other.values) or len(first.values) < 3:
        return False
    scale = (
        math.log
        if metric.best == -math.inf and min(*first.values, *other.values) > 0
        else metric.loss
    )
    gap = mean_of(scale(b) - scale(a) for a, b in zip(first.values, other.values, strict=True))
    return gap.value <= 2 * gap.error
