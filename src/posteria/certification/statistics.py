"""What is ranked: statistics that take the truth and the samples of one simulation alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..core.errors import InputError, require, unknown
from ..core.space import Space, real
from ..likelihood import Likelihood

# Random projections, and entries, that are ranked.
PROJECTIONS = ENTRIES = 16
# Of the directions and the entries, which are the same in all simulations.
SEED = 20180418

# What a deviation means: of a value, of the distance from the middle of the samples, or of the fit to the measurement.
Kind = Literal["value", "distance", "fit"]
# Truth and samples `[1 + n, *event]` and their measurement to numbers `[1 + n]` or `[1 + n, k]`.
Function = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Group:
    """Statistics that are computed together.

    `function` takes truth and samples together, in which nothing but the order tells one from the others.
    """

    name: str
    kind: Kind
    function: Function

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The statistics of a simulation, `[1 + n, k]` in float64.

        Raises:
            InputError: If the function does not give numbers for each signal.
        """
        values = real(self.function(x, y), f"The statistic {self.name!r}")
        require(
            values.ndim in {1, 2} and len(values) == len(x) and values.numel() > 0,
            f"The statistic {self.name!r} takes signals {tuple(x.shape)} to one or several numbers each; this one "
            f"gives {tuple(values.shape)}.",
        )
        return values.double().reshape(len(x), -1)


def _entries(space: Space, likelihood: Likelihood) -> Function:
    order = torch.randperm(space.size, generator=torch.Generator().manual_seed(SEED))
    which = order[:ENTRIES].sort().values
    return lambda x, y: space.flatten(x)[:, which.to(x.device)]


def _projections(space: Space, likelihood: Likelihood) -> Function:
    generator = torch.Generator().manual_seed(SEED)
    axes = torch.randn(space.size, PROJECTIONS, dtype=torch.float64, generator=generator)
    axes = axes / axes.norm(dim=0)
    return lambda x, y: space.flatten(x).double() @ axes.to(x.device)


def _depth(space: Space, likelihood: Likelihood) -> Function:
    """How far out a signal is in the order of each entry, in the mean over entries."""

    def depth(x: Tensor, y: Tensor) -> Tensor:
        columns = space.flatten(x).T.contiguous()
        ordered = columns.sort(-1).values
        below = torch.searchsorted(ordered, columns)
        place = (below + torch.searchsorted(ordered, columns, right=True)).double() / len(x) - 1
        return place.square().mean(0)

    return depth


STATISTICS: dict[str, tuple[Kind, Callable[[Space, Likelihood], Function], str]] = {
    "entries": ("value", _entries, f"{ENTRIES} entries, such as pixels"),
    "projections": ("value", _projections, f"{PROJECTIONS} random projections"),
    "mean": (
        "value",
        lambda space, _: lambda x, y: space.flatten(x).double().mean(-1),
        "the mean over entries",
    ),
    "log-likelihood": (
        "fit",
        lambda _, likelihood: lambda x, y: likelihood.log_prob(y, x),
        "log p(y | x), which also sees samples that ignore the measurement",
    ),
    "distance": (
        "distance",
        lambda space, _: lambda x, y: space.norm(x.double() - x.double().mean(0)).flatten(),
        "the distance from the mean of truth and samples",
    ),
    "depth": (
        "distance",
        _depth,
        "how far out a signal is among truth and samples in an entry, in the mean over entries",
    ),
}

# Names of `STATISTICS`, or the user's functions by name that take signals `[n, *event]` to `[n]` or `[n, k]`.
Chosen = Sequence[str] | Mapping[str, Callable[[Tensor], Tensor]]


def groups(chosen: Chosen | None, space: Space, likelihood: Likelihood) -> list[Group]:
    """The statistics that are ranked: all of `STATISTICS`, those that are named, or all and the user's.

    Raises:
        InputError: If a name is not known.
    """
    own = chosen if isinstance(chosen, Mapping) else {}
    names = list(STATISTICS) if chosen is None or own else list(chosen)
    require(bool(names), f"Name a statistic to rank: {', '.join(STATISTICS)}.")
    for name in names:
        if name not in STATISTICS:
            raise unknown("statistic", name, STATISTICS)
    found = [
        Group(name, STATISTICS[name][0], STATISTICS[name][1](space, likelihood)) for name in names
    ]
    for name, function in own.items():
        if name in STATISTICS or not callable(function):
            raise InputError(
                f"Your own statistic is a function of signals, and its name is not one of {', '.join(STATISTICS)}; "
                f"{name!r} is not."
            )
        found.append(Group(name, "value", _own(function)))
    return found


def _own(function: Callable[[Tensor], Tensor]) -> Function:
    return lambda x, y: function(x)


def resolution(levels: int) -> Callable[[Tensor], Tensor]:
    """Rounds signals of [-1, 1] to so many levels, as pictures are shown; 0 leaves them as they are."""
    if not levels:
        return lambda x: x
    half = (levels - 1) / 2
    return lambda x: ((x.clamp(-1, 1) + 1) * half).round() / half - 1
