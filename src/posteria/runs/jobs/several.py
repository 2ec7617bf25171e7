"""Several inputs: a run of each in a folder of its own, and one page of all."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...core.errors import InputError, PosteriaError
from ...modalities import MODALITIES
from ...modalities.arrays import SUFFIXES
from ..report import environment
from ..request import Restore
from ..results import Results
from ..store import Store
from .restore import Restoration, prepare
from .restored import Restored

INDEX = "index.html"
# Finishes a job: its results, and whether they were there before.
Finish = Callable[[Restoration, Store], tuple[Results, bool]]


@dataclass(frozen=True)
class Item:
    """The outcome of one input.

    Args:
        name: Of the input, and of its folder.
        results: Its numbers; None if it failed.
        finished_before: Whether they were there already.
        fault: Why it failed, in a sentence.
    """

    name: str
    results: Restored | None = None
    finished_before: bool = False
    fault: str | None = None

    @property
    def warnings(self) -> list[str]:
        """What is wrong with its samples, in sentences."""
        return [] if self.results is None else self.results.warnings()


def inputs_of(given: Sequence[str], options: Sequence[str] = ()) -> tuple[list[Path], list[str]]:
    """The files that are named, or lie in the folders that are, and what was left out in those.

    Args:
        given: Files and folders.
        options: Files that belong to all inputs, such as a mask, and are none.

    Raises:
        InputError: If a folder has nothing to restore, or two files have one name.
    """
    known = SUFFIXES.union(*(modality.suffixes for modality in MODALITIES.values()))
    beside = {Path(name).resolve() for name in options}
    found, left = list[Path](), list[str]()
    for path in map(Path, given):
        if not path.is_dir():
            found.append(path)
            continue
        held = [each for each in sorted(path.iterdir()) if not each.name.startswith(".")]
        files = [each for each in held if each.is_file() and each.resolve() not in beside]
        taken = [f for f in files if f.suffix.lower() in known]
        if not taken:
            raise InputError(
                f"{path} holds nothing to restore: no file of a kind that posteria reads."
            )
        found += taken
        # What has the name of one that is taken belongs to it, as the samples of a record to its header.
        stems = {f.stem for f in taken}
        left += [f.name for f in held if f not in taken and f.stem not in stems]
    names = [path.name for path in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"Two inputs are named {name}, after which their folders are; rename one, or run them apart."
            )
    return found, left


def restore_all(
    request: Restore, inputs: Sequence[Path], out: Path, finish: Finish
) -> Iterator[Item]:
    """Restore each input as a run of its own; one that fails leaves the others alone.

    Args:
        request: What is done to each.
        inputs: Files.
        out: The folder of their folders, and of the page, which is written anew after each.
        finish: Runs a job.

    Raises:
        InputError: If the folder holds another run or other files.
    """
    store, names = Store(out), [path.name for path in inputs]
    if store.path("run.json").exists():
        raise InputError(f"{out} holds the run of one input; choose another folder with --out.")
    other = [
        name
        for name in store.foreign_files()
        if name not in {*names, INDEX} and not store.path(f"{name}/run.json").exists()
    ]
    if other:
        raise InputError(f"{out} holds other files ({other[0]}); choose a new folder with --out.")
    items = list[Item]()
    for path in inputs:
        try:
            job = prepare(replace(request, input=str(path)))
            results, before = finish(job, Store(out / path.name))
            item = Item(path.name, results if isinstance(results, Restored) else None, before)
        except PosteriaError as error:
            item = Item(path.name, fault=str(error))
        items.append(item)
        heads, rows = table(items)
        page = (
            environment()
            .get_template(INDEX)
            .render(
                title=f"{request.task or 'restoration'} of {len(inputs)} inputs",
                left=names[len(items) :],
                heads=heads,
                rows=[
                    (item, row, _pictured(store, item.name))
                    for item, row in zip(items, rows, strict=True)
                ],
            )
        )
        store.write(INDEX, page.encode())
        yield item


def _pictured(store: Store, name: str) -> str:
    """The suffix of the pictures of what was given and of the mean; empty if there are none."""
    kinds = (".png", ".svg")
    return next((k for k in kinds if store.path(f"{name}/measurement{k}").exists()), "")


def table(items: Sequence[Item]) -> tuple[list[str], list[list[str]]]:
    """Heads and a row of each input."""
    briefs = [{} if item.results is None else item.results.brief() for item in items]
    heads = list(dict.fromkeys(head for brief in briefs for head in brief))
    rows = [
        [item.name, *(brief.get(head, "") for head in heads)]
        if item.fault is None
        else [item.name, "failed", *[""] * (len(heads) - 1)]
        for item, brief in zip(items, briefs, strict=True)
    ]
    return ["input", *(heads or ["result"])], rows


def warnings(items: Sequence[Item]) -> list[str]:
    """What is wrong with samples, in sentences."""
    return [f"{item.name}: {word}" for item in items for word in item.warnings]


def faults(items: Sequence[Item]) -> list[str]:
    """Why inputs failed, in sentences."""
    failed = [item for item in items if item.fault is not None]
    how_many = f"{len(failed)} of {len(items)} inputs failed; the others are done. The same command tries them again."
    return [*(f"{item.name}: {item.fault}" for item in failed), *[how_many] * bool(failed)]
