"""A job: a request that was checked, with what it needs; it is run once, however often it is started."""

import abc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch

from ..core.errors import InputError, PosteriaError, require
from ..core.meter import Meter
from ..core.record import as_json, from_json
from ..core.rng import streams_of
from ..version import __version__
from .engine import Chunk, Done, Drawn, Executor, Method, draw
from .forecast import fitting, forecast_of
from .report import CONVENTION, Page, write_page
from .request import Request
from .results import Results
from .scales import keep
from .store import Store

R = TypeVar("R", bound=Request)
# Draws what methods, by name, have to draw.
First = Callable[[Mapping[str, Method]], dict[str, Drawn]]


@dataclass(frozen=True)
class Job(abc.ABC):
    """Work that is ready to be done: everything has been checked.

    Args:
        request: What is done, with nothing left open.
        methods: What draws, by name.

    Attributes:
        numbers: The class of its results.
    """

    numbers: ClassVar[type[Results]]

    request: Request
    methods: Mapping[str, Method]

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """The job in a few words."""

    @property
    def notes(self) -> list[str]:
        """What a person should know before it starts, in sentences."""
        return []

    @property
    def volume(self) -> int:
        """Bytes that its samples take at least: each once, and once more in its chunk."""
        spaces = [(len(method.seeds), method.target.space) for method in self.methods.values()]
        return sum(2 * n * space.size * space.dtype.itemsize for n, space in spaces)

    @property
    def given(self) -> dict[str, np.ndarray]:
        """What was read, as it is kept beside the results."""
        return {}

    def fitted(self, store: Store, first: "First") -> Self:
        """The job once what its samplers have to fit, or its targets are made of, is there; that is kept in the store.

        Args:
            store: Of the run.
            first: Draws what comes before the rest; the job that is returned has these methods too.
        """
        return self

    def forecast(self) -> str | None:
        """How long a run may take, in a sentence, timed on its first steps."""
        return forecast_of(self.methods, self.request)

    def fitting(self) -> int:
        """How many samples may be drawn at once."""
        return fitting(self.methods, self.request)

    def current(self, results: Results) -> bool:
        """Whether results that were there have all that the request asks for, and nothing else."""
        return True

    @abc.abstractmethod
    def results(self, drawn: Mapping[str, Drawn]) -> Results:
        """The numbers."""

    @abc.abstractmethod
    def arrays(self, drawn: Mapping[str, Drawn]) -> dict[str, np.ndarray]:
        """What stands in `samples.npz` beside the samples."""

    @abc.abstractmethod
    def page(self, drawn: Mapping[str, Drawn], results: Results) -> Page:
        """What the report shows beside the numbers."""


@dataclass(frozen=True)
class Span:
    """A chunk of a finished run.

    Args:
        first: Its first seed.
        count: How many it has.
        meter: What it cost.
        said: What its populations say of themselves.
    """

    first: int
    count: int
    meter: Meter
    said: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Record:
    """The file `run.json`.

    Args:
        job: The command.
        status: `running`, `stopped`, `failed` or `done`.
        posteria: The version that wrote it.
        torch: The version of PyTorch.
        convention: Of units.
        noise: What random numbers the samplers draw.
        plan: The request.
        results: The numbers, once there are any.
        drawn: The chunks in `samples.npz`, by method.
        files: SHA-256 of the results' files.
        scale: Where the prior's scale is from: its `card`, the `cache` of earlier runs, or `measured`; None if it
            is not known and no sampler asked for it.
    """

    job: str
    status: str = "running"
    posteria: str = __version__
    torch: str = str(torch.__version__)
    convention: str = CONVENTION
    noise: str = ""
    plan: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] | None = None
    drawn: dict[str, list[Span]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    scale: str | None = None


def read_record(store: Store, name: str, kind: type[R]) -> tuple[Record, R] | None:
    """A record and its request; None if there is none.

    Raises:
        InputError: If it is damaged, or of another command or version.
    """
    content, path = store.read_json(name), store.path(name)
    if content is None and not path.exists():
        return None
    require(isinstance(content, dict), f"{path} is not the record of a run.")
    job = content.get("job", "restore")
    if job != kind.command:
        raise InputError(
            f"{path} is the record of a run of `posteria {job}`; this is `posteria {kind.command}`."
        )
    try:
        record = from_json(Record, content)
        return record, from_json(kind, record.plan)
    except (InputError, TypeError) as error:
        raise InputError(
            f"{path} was changed, or another version of posteria wrote it: {error} Give the command again with a "
            "new folder."
        ) from error


def repeat(kind: type[R], path: Path) -> R:
    """The request that a `run.json` records; what it reads lies beside it.

    Raises:
        InputError: If it is no record of such a run.
    """
    found = read_record(Store(path.parent), path.name, kind)
    if found is None:
        raise InputError(f"There is no file {path}.")
    return found[1].repeated(path.parent)


def run(
    job: Job,
    store: Store,
    advance: Callable[[int, int], None] = lambda done, total: None,
    executor: Executor | None = None,
    announce: Callable[[str], None] | None = None,
) -> tuple[Results, bool]:
    """Draw the samples, or go on where an earlier attempt was stopped, and write the results.

    A run goes on with more samples than before; those that were drawn are kept.

    Args:
        job: What to do.
        store: Where.
        advance: Called with the number of finished steps and that of all steps.
        executor: Who draws.
        announce: Called with how long the run may take, if that is known.

    Returns:
        The results, and whether they were there already.

    Raises:
        InputError: If the folder holds another run or other files.
        StoreError: If it cannot be written to.
    """
    record, there = _earlier(job.request, store) or (Record(job=job.request.command), None)
    chunk = job.request.chunk
    size = chunk if isinstance(chunk, int) else there.at_once if there else 0
    size = size or (job.fitting() if chunk else job.request.batch)
    job = replace(job, request=replace(job.request, chunk=size))
    results = _finished(job, record, there, store)
    if results is not None:
        return results, True
    store.expect_room(job.volume)
    forecast = job.forecast() if announce else None
    if announce and forecast:
        announce(forecast)
    with store.locked():
        # What an earlier attempt drew stays in the record until there is more.
        noise = streams_of(torch.device(job.request.device)).name
        plan = as_json(job.request)
        record = replace(record, plan=plan, status="running", results=None, noise=noise)
        _write(store, record)
        try:
            results, record = _work(job, record, store, advance, executor)
        except BaseException as error:
            stopped = isinstance(error, (KeyboardInterrupt, SystemExit))
            _leave(store, replace(record, status="stopped" if stopped else "failed"))
            raise
        _write(store, replace(record, status="done"))
        store.remove("chunks")
    return results, False


def _earlier(request: Request, store: Store) -> tuple[Record, Request] | None:
    """The record that an earlier attempt has left; None in a new folder."""
    foreign = store.foreign_files()
    if foreign:
        raise InputError(
            f"{store.folder} holds other files ({foreign[0]}); choose a new folder with --out."
        )
    found = read_record(store, "run.json", type(request))
    if found is None:
        return None
    there = found[1]
    own = isinstance(request.chunk, int)
    compared = request if own else replace(request, chunk=there.chunk)
    other = compared.differences(there)
    if other == ["chunk"]:
        raise InputError(
            f"{store.folder} holds a run that draws {there.chunk} samples at once, and --chunk {compared.chunk} cannot "
            "go on with it; leave --chunk out, or choose another folder with --out."
        )
    if other:
        raise InputError(
            f"{store.folder} holds another run (what differs: {', '.join(other)}); choose another folder with --out."
        )
    for name in request.grows:
        now, before = getattr(request, name) or 0, getattr(there, name) or 0
        require(
            now >= before,
            f"{store.folder} holds a run with {name} {before}, which can grow and not shrink to {now}.",
        )
    return found


def _finished(job: Job, record: Record, there: Request | None, store: Store) -> Results | None:
    """The results of a finished run of the same length, if all of its files are there."""
    names = job.request.grows
    same = all(getattr(job.request, name) == getattr(there, name, None) for name in names)
    if record.status != "done" or not same:
        return None
    store.lost = [name for name, sha in record.files.items() if not store.holds(name, sha)]
    if store.lost:
        return None
    try:
        results = from_json(job.numbers, record.results)
    except InputError:
        return None
    return results if job.current(results) else None


def _work(
    job: Job,
    record: Record,
    store: Store,
    advance: Callable[[int, int], None],
    executor: Executor | None,
) -> tuple[Results, Record]:
    """The results, and the record with them, in a folder that is locked."""
    size, begun = job.request.at_once, {}

    def first(methods: Mapping[str, Method]) -> dict[str, Drawn]:
        kept = _kept(methods, record, store)
        below = Store(store.path("chunks") / "first")
        begun.update(draw(methods, size, below, advance, kept, executor))
        return begun

    store.written = {}
    store.write_arrays("input.npz", job.given)
    job = job.fitted(store, first)
    kept = [*_kept(job.methods, record, store), *chain(*(each.parts for each in begun.values()))]
    drawn = draw(job.methods, size, store, advance, kept, executor)
    targets: list[Any] = [each.target for each in job.methods.values()]
    sampled = (getattr(target, "prior", target) for target in targets)
    scale = next(filter(None, (keep(prior) for prior in sampled)), record.scale)
    spans = {
        name: [
            Span(part.chunk.seeds[0], len(part.x), part.meter, part.said) for part in each.parts
        ]
        for name, each in drawn.items()
    }
    raw = {job.methods[name].raw: each.x.numpy() for name, each in drawn.items()}
    drawn = {
        name: replace(each, x=job.methods[name].signals(each.x, size))
        for name, each in drawn.items()
    }
    results = job.results(drawn)
    samples = {job.methods[name].array: each.x.numpy() for name, each in drawn.items()}
    store.write_arrays("samples.npz", {**raw, **samples, **job.arrays(drawn)})
    page = job.page(drawn, results)
    seen = []
    for figure in page.figures:
        store.write(figure.name, figure.content)
        for sound in figure.sounds:
            store.write(sound.name, sound.content)
        small = b"" if figure.part == "file" else figure.shown or figure.content
        sounds = tuple(replace(sound, content=b"") for sound in figure.sounds)
        seen.append(replace(figure, content=small, sounds=sounds))
    store.write("report.html", write_page(page, seen, results, job.request).encode())
    files = {name: sha for name, sha in store.written.items() if not name.startswith("chunks/")}
    return results, replace(
        record, results=as_json(results), drawn=spans, files=files, scale=scale
    )


def _kept(methods: Mapping[str, Method], record: Record, store: Store) -> Iterator[Done]:
    """The chunks of a finished run, from its samples."""
    name = "samples.npz"
    whole = store.holds(name, record.files.get(name, ""))
    arrays = store.read_arrays(name) if whole else None
    for key, spans in record.drawn.items():
        x = (arrays or {}).get(methods[key].raw) if key in methods else None
        if x is None or len(x) != sum(span.count for span in spans):
            continue
        start = 0
        for span in spans:
            seeds = list(methods[key].seeds[start : start + span.count])
            if seeds[:1] != [span.first]:
                break
            chunk = Chunk(key, 0, seeds)
            yield Done(
                chunk, torch.from_numpy(x[start : start + span.count]), span.meter, span.said
            )
            start += span.count


def _write(store: Store, record: Record) -> None:
    store.write_json("run.json", as_json(record))


def _leave(store: Store, record: Record) -> None:
    """Write a record if that is possible: what stopped the run may keep it from being written."""
    try:
        _write(store, record)
    except PosteriaError:
        return
