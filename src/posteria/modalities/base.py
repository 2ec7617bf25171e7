"""What a modality is: how files of one kind of data are read, measured, compared and shown."""

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ..core.errors import InputError, unknown
from ..core.space import Space
from ..metrics.registry import METRICS
from ..operators import Operator


@dataclass(frozen=True)
class Signal:
    """What was read from a file.

    Args:
        x: In the prior's units, of the shape that was asked for. Entries that the file marks as
            missing are NaN.
        name: Name of the file.
        meta: What is needed to write it back, or to read another file alike: its size before it was
            fitted, a rate, the names of leads.
        said: How the file was read, in sentences.
    """

    x: Tensor
    name: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    said: tuple[str, ...] = ()


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
        file: Whether it may be the name of a file, which is then read.
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
            InputError: If it has another type than the default.
        """
        kind = type(self.default)
        if isinstance(given, Tensor) and self.file:
            return given
        try:
            value = kind(given) if isinstance(given, str) or kind is float else given
        except (TypeError, ValueError):
            value = None
        if isinstance(given, bool) or type(value) is not kind:
            raise InputError(
                f"{name} takes {kind.__name__}, such as {self.default!r}; {given!r} is not one."
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
    """

    about: str
    build: Callable[..., Operator]
    options: tuple[str, ...] = ()
    alike: bool = True
    enlarges: str | None = None


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


@dataclass(frozen=True)
class Outcome:
    """What figures are made of.

    Args:
        samples: `[n, *event]`.
        seeds: One a sample.
        operator: What was measured.
        y: The measurement.
        std: Standard deviation of its noise.
        truth: `[*event]`, if it is known.
    """

    samples: Tensor
    seeds: Sequence[int]
    operator: Operator
    y: Tensor
    std: float
    truth: Tensor | None = None


@dataclass(frozen=True)
class Scale:
    """What the colours of a map mean, the same in every run.

    Args:
        colours: From the lowest to the highest value, as `#rrggbb`.
        ticks: The values at equal distances along them, in words.
        unit: Of the values.
    """

    colours: tuple[str, ...]
    ticks: tuple[str, ...]
    unit: str


@dataclass(frozen=True)
class Figure:
    """A file that shows something.

    Args:
        name: Of the file.
        content: Its bytes.
        caption: What it shows.
        part: Of a report: `view` (one of several that take turns in the same place), `map` (beside them), `pair` (where
            samples differ), `strip` (one of several rows), `sheet`, `more` (among the technical details) or `file`
            (none).
        label: What it shows, in a word or two.
        size: Height and width of what it shows.
        shown: What a report shows instead of the file, which is too large for it: a JPEG.
        scale: Of its colours.
        of: The names of the figures that it is made of.
    """

    name: str
    content: bytes
    caption: str = ""
    part: str = "file"
    label: str = ""
    size: tuple[int, int] = (0, 0)
    shown: bytes | None = None
    scale: Scale | None = None
    of: tuple[str, ...] = ()


class Modality(abc.ABC):
    """A kind of data.

    Attributes:
        name: In the registry.
        about: The signals that it is about, in a few words.
        suffixes: Of its files, beside those of arrays.
        tasks: The measurements, by name.
        options: The options of all tasks, by name.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    suffixes: ClassVar[frozenset[str]]
    tasks: ClassVar[Mapping[str, Task]]
    options: ClassVar[Mapping[str, Option]]

    @abc.abstractmethod
    def suits(self, space: Space) -> bool:
        """Whether signals of this kind have the shape of a space."""

    @abc.abstractmethod
    def read(self, path: Path, shape: tuple[int, ...], *, taker: str, fit: bool = False) -> Signal:
        """Read a signal.

        Args:
            path: A file of this kind of data, or an array (.npy, .npz).
            shape: The shape that it is to have.
            taker: Who takes that shape, for errors: "the prior 'digits' takes".
            fit: Convert it to that shape.

        Raises:
            InputError: If there is no such file, it cannot be read, or holds something else.
        """

    @abc.abstractmethod
    def read_measurement(
        self, path: Path, degradation: Degradation, *, taker: str, std: float, fit: bool = False
    ) -> Signal:
        """Read a measurement, in the shape that the operator measures.

        Args:
            path: See `read`.
            degradation: How it was measured.
            taker: Who takes that shape, for errors: "the task 'sr' on the prior 'digits' measures".
            std: Standard deviation of its noise.
            fit: See `read`.

        Raises:
            InputError: As for `read`, or if the values are beyond what can be measured.
        """

    @abc.abstractmethod
    def read_option(
        self,
        option: str,
        path: Path,
        shape: tuple[int, ...],
        options: Mapping[str, Any],
        source: Source | None,
    ) -> tuple[Tensor, str]:
        """Read the value of an option from a file; returns it, and how it was read in a sentence if that is a question.

        Args:
            option: Its name.
            path: The file.
            shape: Of the signal.
            options: The other options of the task.
            source: What it goes with; if that is fitted to the shape, so is the option.
        """

    @abc.abstractmethod
    def write(
        self, x: Tensor, like: Signal, operator: Operator | None = None
    ) -> tuple[str, bytes] | None:
        """A signal as a file of the kind and depth of another one, with what that holds beside its values.

        What is not missing, or not changed, stays as it is in that file to the last bit.

        Args:
            x: The signal, `[*event]`.
            like: What was read from a file.
            operator: What was measured of it; None: x replaces all of it.

        Returns:
            The suffix and the content; None if it was an array.
        """

    @abc.abstractmethod
    def figures(self, outcome: Outcome) -> Iterable[Figure]:
        """The figures of a restoration, in the order of its report."""

    @abc.abstractmethod
    def uncertainty(self, samples: Tensor, operator: Operator) -> str:
        """The standard deviation of samples `[n, *event]` in words, where something was missing."""

    @abc.abstractmethod
    def sheet(self, name: str, samples: Tensor, caption: str) -> Figure:
        """Some of the samples `[n, *event]` in one figure."""

    @abc.abstractmethod
    def compare(self, name: str, rows: Mapping[str, Tensor], caption: str) -> list[Figure]:
        """Samples `[n, *event]` of several methods, one below the other.

        Args:
            name: Before that of each row, in the names of files.
            rows: By what they are.
            caption: Of the last row, on all of them.
        """

    def noise(self, std: float) -> str:
        """A standard deviation in words."""
        return f"{std:g} in data units"

    def size_of(
        self, path: Path, task: Task, options: Mapping[str, Any], simulate: bool
    ) -> tuple[int, int] | None:
        """Height and width of the signals whose measurement is in a file, or of those in it; None if they have none.

        Args:
            path: See `read`.
            task: How it is measured.
            options: Of the task.
            simulate: Whether it is a signal.
        """
        return None

    def task(self, name: str, given: str) -> Task:
        """A task by name.

        Args:
            name: Its name; empty if none was named.
            given: What it was to be named for.

        Raises:
            InputError: If there is none of that name, or none was named.
        """
        if not name:
            known = ", ".join(f"{name} ({task.about})" for name, task in self.tasks.items())
            raise InputError(f"Say by --task what {given} went through: {known}.")
        if name not in self.tasks:
            raise unknown("task", name, self.tasks)
        return self.tasks[name]

    def metrics(self, truth: Tensor, samples: Tensor) -> dict[str, Tensor]:
        """The registered metrics of samples `[n, *event]` against a truth `[*event]`, each `[n]`."""
        return {
            name: metric(samples, truth)
            for name, metric in METRICS.items()
            if self.name in metric.modalities
        }

    def degradation(
        self,
        task: str,
        shape: tuple[int, ...],
        options: Mapping[str, Any],
        *,
        seed: int = 0,
        source: Source | None = None,
    ) -> Degradation:
        """The operator of a task for signals of a shape.

        Args:
            task: Its name.
            shape: Of the signal.
            options: Those that are not to have their defaults; a text is parsed, the name of a file
                read.
            seed: Of what the task draws, unless the options have it.
            source: What is restored: what the options leave open may stand in it.

        Raises:
            InputError: If there is no such task or option, or a value is out of range or means nothing.
            ShapeError: If the signal does not suit the task.
        """
        takes = self.task(task, "the signal").options
        for name in options:
            if name not in takes:
                raise unknown(f"option of the task {task!r}", name, takes or ["none"])
        told, said = ({}, "") if source is None else self.told_by(source, task, options)
        given = {
            name: self.options[name].value(name, v) for name, v in {**options, **told}.items()
        }
        sentences, values = [said], self._with_defaults(takes, given, seed)
        for name in given:
            self._expect_meaning(name, values)
        values = {
            name: value for name, value in values.items() if self._lacks(name, values) is None
        }
        for name, value in values.items():
            if self.options[name].file and _kind(value) == FILE and isinstance(value, str):
                values[name], said = self.read_option(name, Path(value), shape, values, source)
                sentences.append(said)
        values = {name: value for name, value in values.items() if not self.options[name].reads}
        operator = self.tasks[task].build(shape, **values)
        arrays = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        plain = {name: value for name, value in values.items() if name not in arrays}
        return Degradation(task, operator, plain, arrays, tuple(filter(None, sentences)))

    def told_by(
        self, source: Source, task: str, options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], str]:
        """The options that a file itself tells, and a sentence on them.

        Args:
            source: The file.
            task: What it went through.
            options: Those that were given.

        Raises:
            InputError: If it does not tell what it has to.
        """
        return {}, ""

    def _with_defaults(
        self, takes: Sequence[str], given: Mapping[str, Any], seed: int
    ) -> dict[str, Any]:
        """All options: as they were given, as another one implies them, or else their defaults."""
        values = {name: self.options[name].default for name in takes}
        values |= {"seed": seed} if "seed" in takes else {}
        for name in given:
            first = {other: wanted[0] for other, wanted in self.options[name].of.items()}
            values |= {o: v for o, v in first.items() if o in takes and v != FILE}
        return {**values, **given}

    def _lacks(self, name: str, values: Mapping[str, Any]) -> str | None:
        """The option without whose right value this one means nothing; None if there is none."""
        wanted = self.options[name].of
        lacking = (other for other in wanted if other in values)
        return next((o for o in lacking if _kind(values[o]) not in wanted[o]), None)

    def _expect_meaning(self, name: str, values: Mapping[str, Any]) -> None:
        other = self._lacks(name, values)
        if other is not None:
            wanted = " or ".join(self.options[name].of[other])
            raise InputError(
                f"The option {name!r} is for {other} {wanted}; {other} {values[other]} makes nothing of it."
            )


def _kind(value: Any) -> Any:
    """`FILE` for what was or will be read from a file, and else the value."""
    named = isinstance(value, str) and Path(value).suffix
    return FILE if named or isinstance(value, Tensor) else value
