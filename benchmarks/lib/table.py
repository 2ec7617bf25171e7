"""Tables in Markdown."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shipping import in_table


@dataclass(frozen=True)
class Table:
    """A table of texts, with a title, and a note below it."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self, level: int = 3) -> str:
        """With its title as a heading."""
        title = f"{'#' * level} {self.title}" if self.title else ""
        return "\n\n".join(filter(None, (title, in_table(self.header, self.rows), self.note)))


def error_of(values: Sequence[float]) -> float:
    """The standard error of a mean."""
    return statistics.stdev(values) / math.sqrt(len(values))


def average(values: Iterable[float | None], digits: int = 1) -> str:
    """Mean and standard error of what is there; a dash if nothing is, and one value alone."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return "-" if not known else f"{known[0]:.{digits}f}"
    return f"{statistics.fmean(known):.{digits}f} ± {error_of(known):.{digits}f}"


def paired(ours: Mapping[Any, float], theirs: Mapping[Any, float], digits: int = 1) -> str:
    """Ours less theirs over what both were drawn for, with the standard error of these differences."""
    return average((value - theirs[key] for key, value in ours.items() if key in theirs), digits)


def costs(evaluations: float, vjps: float) -> str:
    """Evaluations, and vjps if there are any."""
    return f"{evaluations:.0f}" + (f" + {vjps:.0f}" if vjps else "")
