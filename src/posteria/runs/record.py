"""The record of a run, `run.json`: what was planned, whether it is done, and what came of it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..core.errors import InputError
from ..version import __version__
from .plan import CONVENTION, Recorded
from .store import Store

R = TypeVar("R")


def earlier(store: Store, plan: Recorded) -> dict[str, Any] | None:
    """The record that an earlier attempt at a plan has left; None in a new folder.

    Raises:
        InputError: If the folder holds another run or other files.
    """
    foreign = store.foreign_files()
    if foreign:
        raise InputError(
            f"{store.folder} holds other files ({foreign[0]}); choose a new folder with --out."
        )
    record: dict[str, Any] | None = store.read_json("run.json")
    if record is None:
        return None
    job = job_of(record)
    if job != plan.job:
        raise InputError(
            f"{store.folder} holds a run of `posteria {job}`; choose another folder with --out."
        )
    other = plan.differences(record.get("plan", {}))
    if other:
        raise InputError(
            f"{store.folder} holds another run (its {', '.join(other)} differ); choose another folder with --out."
        )
    return record


def job_of(record: dict[str, Any]) -> str:
    """The command that a record is of."""
    return str(record.get("job", "restore"))


def write_record(store: Store, plan: Recorded, status: str, results: Any = None) -> None:
    """Write the record.

    Args:
        store: The folder.
        plan: What is done.
        status: `running` or `done`.
        results: A dataclass of numbers, once there are any.
    """
    content = {
        "job": plan.job,
        "posteria": __version__,
        "torch": torch.__version__,
        "convention": CONVENTION,
        "status": status,
        "plan": plan.as_json(),
        "results": None if results is None else dataclasses.asdict(results),
    }
    store.write_json("run.json", content)


def finished(
    store: Store, plan: Recorded, read: Callable[[dict[str, Any]], R], work: Callable[[], R]
) -> tuple[R, bool]:
    """Do a run, or go on where an earlier attempt was killed, and record it.

    Args:
        store: Where.
        plan: What is done.
        read: Makes results of those in a record.
        work: Makes them anew, in a folder that is locked.

    Returns:
        The results, and whether they were there already.

    Raises:
        InputError: If the folder holds another run or other files.
        StoreError: If it cannot be written to.
    """
    record = earlier(store, plan)
    if record is not None and record.get("status") == "done":
        return read(record["results"]), True
    with store.locked():
        if record is None:
            write_record(store, plan, "running")
        results = work()
        write_record(store, plan, "done", results)
        if store.path("chunks").exists():
            store.remove("chunks")
    return results, False


def read_record(path: Path) -> dict[str, Any]:
    """A `run.json` of an earlier run.

    Raises:
        InputError: If there is none, or it is damaged.
    """
    record = Store(path.parent).read_json(path.name)
    if record is None:
        raise InputError(f"There is no file {path}.")
    if not isinstance(record, dict):
        raise InputError(f"{path} is not the record of a run.")
    return record
