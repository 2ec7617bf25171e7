"""Kinds of measurement, their options, and what is made of the options that were given."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..core.errors import InputError
from ..core.space import real
from ..operators import Operator


@dataclass(frozen=True)
class Source:
    """The file that is restored.

    Args:
        path: Where it is.
        fit: Whether it is converted to what the prior takes.
        simulate: Whether it holds a clean signal, and no measurement.
    """

    path: Path
    fit: bool = False
    simulate: bool = False


# What an option is that names a file.
FILE = "FILE"


@dataclass(frozen=True)
class Option:
    """A setting of a task.

    Args:
        default: Its value if none is given; a value has the same type.
        about: What it is, in a sentence.
        file: Whether it may be the name of a file, which is then read, or what that holds: a tensor, or an array.
        of: Values of other options, by their names, at one of which alone it means something; the first of them is
            taken where that other option is not given.
        reads: Whether it says how a file is read, and is not kept once that was done.
    """

    default: Any
    about: str
    file: bool = False
    of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reads: bool = False

    def value(self, name: str, given: Any) -> Any:
        """The given value, or the one that a text stands for.

        Raises:
            InputError: If it has another type than the default, is a number that is not finite, or holds no real ones.
        """
        kind = type(self.default)
        if self.file and isinstance(given, Tensor | np.ndarray):
            return real(given, name)
        try:
            value = kind(given) if isinstance(given, str) or kind is float else given
        except (TypeError, ValueError):
            value = None
        if isinstance(given, bool) or type(value) is not kind:
            raise InputError(
                f"{name} takes {kind.__name__}, such as {self.default!r}; {given!r} is not one."
            )
        if kind is float and not math.isfinite(value):
            raise InputError(
                f"{name} takes a finite number, such as {self.default!r}; not {given}."
            )
        return value


@dataclass(frozen=True)
class Task:
    """A kind of measurement.

    Args:
        about: What it does, in a sentence.
        build: `build(shape, **options)`: the operator for signals of a shape.
        options: The names of the options that it takes.
        alike: Whether a measurement is a signal of the same kind and units, so that a file of that
            kind can hold it.
        enlarges: Name of the option by which a signal is larger than its measurement.
        sigma: The usual noise beside what the task itself loses, in data units; None: that of the kind of data.
        noisy: Whether the noise is all there is to the task, so that it is estimated where nobody says how much.
    """

    about: str
    build: Callable[..., Operator]
    options: tuple[str, ...] = ()
    alike: bool = True
    enlarges: str | None = None
    sigma: float | None = None
    noisy: bool = False


@dataclass(frozen=True)
class Degradation:
    """A task with its options: an operator, and the record of how it was made.

    Args:
        task: Name of the task.
        operator: The operator.
        options: Values of all its options that mean something, but for those that were read from files.
        arrays: Those that were read from files.
        said: How files were read, in sentences.
    """

    task: str
    operator: Operator
    options: Mapping[str, Any]
    arrays: Mapping[str, Tensor]
    said: tuple[str, ...] = ()


def settled(known: Mapping[str, Option], given: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The options of a task that mean something: as they were given, as another one implies them, or by default.

    Args:
        known: All of them.
        given: Those that were given, of those that are known.
        seed: The default of `seed`.

    Raises:
        InputError: If a value is of another type, or one that was given means nothing beside the others.
    """
    chosen = {name: known[name].value(name, value) for name, value in given.items()}
    values = {name: seed if name == "seed" else option.default for name, option in known.items()}
    for name in chosen:
        first = {other: wanted[0] for other, wanted in known[name].of.items()}
        values |= {o: v for o, v in first.items() if o in known and v != FILE}
    values |= chosen
    lacking = {
        name: other
        for name, option in known.items()
        for other, wanted in option.of.items()
        if other in known and kind_of(values[other]) not in wanted
    }
    for name in chosen:
        if name in lacking:
            other = lacking[name]
            raise InputError(
                f"The option {name!r} is for {other} {' or '.join(known[name].of[other])}; {other} {values[other]} "
                "makes nothing of it."
            )
    return {name: value for name, value in values.items() if name not in lacking}


def kind_of(value: Any) -> Any:
    """`FILE` for what was or will be read from a file, and else the value."""
    named = isinstance(value, str) and Path(value).suffix
    return FILE if named or isinstance(value, Tensor) else value
