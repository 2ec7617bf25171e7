"""What a run prints: progress on standard error, the table on standard output."""

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .codes import DIVERGED

if TYPE_CHECKING:
    from ..runs.job import Job
    from ..runs.request import Restore
    from ..runs.results import Results
    from ..runs.store import Store

# Seconds between two lines of progress where no bar can be shown.
EVERY = 30.0


def say(text: str) -> None:
    """Print a line."""
    print(text)


def say_json(content: Any) -> None:
    """Print JSON."""
    import json

    from ..core.record import as_json

    print(json.dumps(as_json(content), indent=2, allow_nan=False))


@dataclass(frozen=True)
class Output:
    """How much is printed.

    Args:
        quiet: Nothing but errors.
        as_json: JSON instead of text.
    """

    quiet: bool
    as_json: bool

    def do(self, job: "Job", out: Path) -> None:
        """Run a job and print its results; raises `typer.Exit` where the samples are not finite."""
        from ..runs.store import Store

        if not (self.quiet or self.as_json):
            for note in job.notes:
                say(note)
        results, before = self._finish(job, store := Store(out))
        if self.as_json:
            say_json(_content(results, store, before))
        elif not self.quiet:
            _print(results, store, before)
        if results.diverged is not None:
            sentence = results.diverged[0].lower() + results.diverged[1:]
            print(f"posteria: {sentence}", file=sys.stderr)
            raise typer.Exit(DIVERGED)

    def _finish(self, job: "Job", store: "Store") -> "tuple[Results, bool]":
        from ..runs.job import run

        with self.progress(job.title) as advance:
            announce = None if self.quiet or self.as_json else say
            return run(job, store, advance, announce=announce)

    def do_all(self, request: "Restore", given: Sequence[str], out: Path) -> None:
        """Restore each of several inputs; raises `typer.Exit` where one failed, or has samples that are not finite."""
        from ..runs.jobs.several import INDEX, faults, inputs_of, restore_all, table, warnings
        from ..runs.request import FILES

        options = [str(request.options[name]) for name in FILES if name in request.options]
        inputs, left = inputs_of(given, options)
        if left and not self.quiet:
            print(
                f"posteria: left out, as of no kind that is restored: {', '.join(left)}",
                file=sys.stderr,
            )
        items = list(restore_all(request, inputs, out, self._finish))
        if self.as_json:
            kept = ("fault", "finished_before", "warnings", "results")
            say_json([
                {"input": item.name, **{name: getattr(item, name) for name in kept}}
                for item in items
            ])
        elif not self.quiet:
            heads, rows = table(items)
            say_rows([heads, *rows])
            say(f"Results: {out}; look at {out / INDEX}")
        for line in (*(() if self.quiet else warnings(items)), *faults(items)):
            print(f"posteria: {line}", file=sys.stderr)
        if any(item.fault is not None for item in items):
            raise typer.Exit(1)
        if any(item.results is not None and item.results.diverged for item in items):
            raise typer.Exit(DIVERGED)

    @contextmanager
    def progress(self, title: str) -> Generator[Callable[[int, int], None]]:
        """Shows how far a run is: a bar on a terminal, and else a line now and then."""
        if self.quiet or (self.as_json and not sys.stderr.isatty()):
            yield lambda done, total: None
        elif sys.stderr.isatty():
            with _bar(title) as advance:
                yield advance
        else:
            yield _Lines(title)


def _content(results: "Results", store: "Store", before: bool) -> dict[str, Any]:
    heads, rows = results.table()
    return {
        "out": str(store.folder),
        "finished_before": before,
        "written_again": store.lost,
        "warnings": results.warnings(),
        "heads": heads,
        "rows": rows,
        "results": results,
    }


def _print(results: "Results", store: "Store", before: bool) -> None:
    heads, rows = results.table()
    say_rows([heads, *rows] if heads else rows)
    for sentence in (*results.legend(), *results.warnings()):
        say(sentence)
    if before:
        say("This run was finished before; nothing was drawn again.")
    elif store.lost:
        what = "the same samples were drawn" if "samples.npz" in store.lost else "written"
        say(f"Missing or damaged in this finished run: {', '.join(store.lost)}; {what} again.")
    say(f"Results: {store.folder}; look at {store.path('report.html')}")


def say_rows(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns; plain, so that a narrow window breaks lines and does not cut columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [value.ljust(width) for value, width in zip(row, widths, strict=True)]
        say("  ".join(cells).rstrip())


@contextmanager
def _bar(title: str) -> Generator[Callable[[int, int], None]]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TextColumn("{task.percentage:>3.0f}%"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    """Progress for a log: a line at the start, at the end, and now and then."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.started = time.monotonic()
        self.first: tuple[float, int] | None = None
        self.last, self.done = self.started - EVERY, 0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self.first = self.first or (now, done)
        if now - self.last < EVERY and not (done == total > self.done):
            return
        self.done = done
        self.last = now
        since, before = self.first
        left = ""
        if before < done < total:
            left = f", about {(now - since) * (total - done) / (done - before):.0f} s left"
        text = f"{self.title}: {100 * done // total}% after {now - self.started:.0f} s{left}"
        print(text, file=sys.stderr, flush=True)
