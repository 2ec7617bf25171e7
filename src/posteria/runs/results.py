"""The numbers of a run, and the table that they are printed in."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.space import few

# Samples with values beyond this, in data units, have left every prior behind.
BEYOND = 1e4


@dataclass(frozen=True, kw_only=True)
class Results(abc.ABC):
    """The numbers of a run.

    Args:
        diverged: A sentence on samples that are not finite; None where all are.
    """

    diverged: str | None

    @abc.abstractmethod
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heads and rows; without heads, the rows say what, and how much."""

    def warnings(self) -> list[str]:
        """What is wrong with the samples, in sentences."""
        return [] if self.diverged is None else [self.diverged]

    def legend(self) -> list[str]:
        """What the numbers mean, in sentences."""
        return []


def usable(x: Tensor) -> Tensor:
    """Which samples `[n, *event]` are finite and not far beyond all data, `[n]`."""
    return torch.cat([part.flatten(1).abs().amax(1) for part in few(x)]) <= BEYOND


def shown(x: Tensor) -> Tensor:
    """Samples as figures show them, where what is not finite is 0."""
    return x if bool(usable(x).all()) else x.nan_to_num(0.0, 0.0, 0.0).clamp(-BEYOND, BEYOND)


def divergence(x: Tensor, of: str = "") -> str | None:
    """The sentence on samples `[n, *event]` that are not usable; None where all are.

    Args:
        x: The samples.
        of: Whose they are, such as "of cfg ".
    """
    lost = int((~usable(x)).sum())
    if not lost:
        return None
    finite = bool(x.isfinite().all())
    fault = f"beyond {BEYOND:g} in data units" if finite else "not finite"
    return (
        f"The samples {of}are {fault}: the sampler diverged ({lost} of {len(x)} samples). "
        "Try more steps, smaller steps of its optimiser, or another sampler."
    )


def spread(values: Sequence[float | None], digits: int, unit: str = "") -> str:
    """Mean and standard deviation of what is known, with their unit."""
    known = torch.tensor([value for value in values if value is not None], dtype=torch.float64)
    if not len(known):
        return "not finite"
    text = f"{float(known.mean()):.{digits}f}"
    if len(known) > 1:
        text += f" ± {float(known.std()):.{digits}f}"
    return f"{text} {unit}".rstrip()


def plural(count: int, what: str) -> str:
    """So many of something."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def duration(seconds: float) -> str:
    """A time in words."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds > 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def count(value: float) -> str:
    """A cost; empty if there is none."""
    return f"{round(value, 1):g}" if value else ""
