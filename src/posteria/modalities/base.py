"""What a modality is: how files of one kind of data are read, measured, compared and shown."""

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ..core.errors import InputError, unknown
from ..core.space import Space
from ..metrics.registry import METRICS
from ..operators import Operator
from ..priors.card import Card
from .tasks import FILE, Degradation, Option, Source, Task, kind_of, settled


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
class Sound:
    """A player.

    Args:
        name: Of its file, a WAV.
        content: Its bytes.
        label: What is heard.
        shown: What a page holds of it; None if it is too long for that, so that the page plays the file.
    """

    name: str
    content: bytes
    label: str
    shown: bytes | None = None


@dataclass(frozen=True)
class Figure:
    """A file that shows something.

    Args:
        name: Of the file.
        content: Its bytes.
        caption: What it shows.
        part: Of a report: `trace` (as wide as the page, and moved sideways on a narrow one), `view` (one of several
            that take turns in the same place), `map` (beside them), `pair` (where samples differ), `strip` (one of
            several rows), `sheet`, `more` (among the technical details) or `file` (none).
        label: What it shows, in a word or two.
        size: Height and width of what it shows.
        shown: What a report shows instead of the file, which is too large for it: a JPEG.
        scale: Of its colours.
        of: The names of the figures that it is made of.
        sounds: Players below it, in the order of its rows.
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
    sounds: tuple[Sound, ...] = ()


class Modality(abc.ABC):
    """A kind of data.

    Attributes:
        name: In the registry.
        about: The signals that it is about, in a few words.
        noun: What one of them is called.
        suffixes: Of its files, beside those of arrays.
        written: How a result is written beside its input, in a few words.
        sigma: The usual standard deviation of the noise of a measurement, in data units.
        tasks: The measurements, by name.
        options: The options of all tasks, by name.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    noun: ClassVar[str]
    suffixes: ClassVar[frozenset[str]]
    written: ClassVar[str] = "in place, in its own size and depth"
    sigma: ClassVar[float] = 0.05
    tasks: ClassVar[Mapping[str, Task]]
    options: ClassVar[Mapping[str, Option]]

    def of(self, card: Card) -> "Modality":
        """The modality of the signals of one prior, which knows their rate, their units and the names of channels."""
        return self

    def is_one(self, folder: Path) -> bool:
        """Whether a folder holds one signal, and not several."""
        return False

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

        Raises:
            InputError: If it is no such option, or the file cannot be read.
        """
        raise unknown("option that is read from a file", option, ["none"])

    @abc.abstractmethod
    def write(
        self, name: str, x: Tensor, like: Signal, operator: Operator | None = None
    ) -> Mapping[str, bytes]:
        """A signal as files of the kind and depth of another one, with what that holds beside its values.

        What is not missing, or not changed, stays as it is in that file to the last bit.

        Args:
            name: Of the files, without their suffixes.
            x: The signal, `[*event]`.
            like: What was read from a file.
            operator: What was measured of it; None: x replaces all of it.

        Returns:
            The content of each file by its name; none if it was an array.
        """

    def volume(self, like: Signal) -> int:
        """Bytes of the files that `write` makes, at most or about."""
        return 0

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

    def estimated(self, y: Tensor, degradation: Degradation) -> float:
        """The standard deviation of the noise of a measurement, estimated from that alone.

        Raises:
            InputError: If that cannot be done.
        """
        raise InputError(
            f"--sigma auto cannot tell the noise of a {self.noun}; say by --sigma how much there is."
        )

    def independent(
        self, signal: Signal, degradation: Degradation, std: float, seed: int
    ) -> tuple[Signal, float]:
        """A measurement whose entries have independent noise, and its standard deviation, where one noise was repeated.

        Args:
            signal: The measurement as it was read.
            degradation: How it was measured.
            std: Standard deviation of its noise.
            seed: Of the noise that is added.
        """
        return signal, std

    def size_of(
        self, path: Path, task: Task, options: Mapping[str, Any], simulate: bool
    ) -> tuple[int, ...] | None:
        """Height and width, or the length, of the signals whose measurement is in a file; None if they have none.

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

    def usual(self, task: str, given: str) -> float:
        """The usual standard deviation of the noise of a task, in data units; for `given` see `task`."""
        return self.task(task, given).sigma or self.sigma

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
        stated, said = ({}, "") if source is None else self.stated_by(source, task, options)
        known = {name: self.options[name] for name in takes}
        sentences, values = [said], settled(known, {**options, **stated}, seed)
        for name, value in values.items():
            if known[name].file and isinstance(value, str) and kind_of(value) == FILE:
                values[name], said = self.read_option(name, Path(value), shape, values, source)
                sentences.append(said)
        values = {name: value for name, value in values.items() if not known[name].reads}
        operator = self.tasks[task].build(shape, **values)
        arrays = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        plain = {name: value for name, value in values.items() if name not in arrays}
        return Degradation(task, operator, plain, arrays, tuple(filter(None, sentences)))

    def stated_by(
        self, source: Source, task: str, options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], str]:
        """The options that a file itself states, and a sentence on them.

        Args:
            source: The file.
            task: What it went through.
            options: Those that were given.

        Raises:
            InputError: If it does not state what it has to.
        """
        return {}, ""
