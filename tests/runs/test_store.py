"""Results on disk: whole or absent, resumed bit for bit, never overwritten."""

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import posteria as po
from posteria.core.meter import Meter, peak_memory
from posteria.core.record import as_json
from posteria.runs import engine
from posteria.runs.engine import InProcess, Method, chunks, draw
from posteria.runs.store import Store, StoreError
from posteria.testing import example_posterior

SAMPLER = po.MGDM(schedule=po.schedules.Table(steps=8), points=3, inner=po.samplers.InnerSteps(2))


class Killed(Exception):
    pass


def methods(sampler: po.samplers.Sampler[Any], seeds: range) -> dict[str, Method]:
    return {"samples": Method(sampler, example_posterior(), seeds)}


def run(store: Store, stop_after: int | None = None, size: int = 2) -> tuple[torch.Tensor, Meter]:
    """Draw 5 samples; die after so many steps."""
    steps = 0

    def advance(done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if stop_after is not None and steps >= stop_after:
            raise Killed

    drawn = draw(methods(SAMPLER, range(5)), size, store, advance)["samples"]
    return drawn.x, drawn.meter


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, Meter]:
    """What a run draws that nobody stops, and its cost."""
    return run(Store(tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in its second chunk, with a checkpoint of every step; to be copied."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(engine, "CHECKPOINT_EVERY", -1.0)
        run(Store(folder), stop_after=12)
    return folder


def test_chunks_cover_all_seeds() -> None:
    parts = chunks(methods(SAMPLER, range(10, 15)), 2)
    assert [part.seeds for part in parts] == [[10, 11], [12, 13], [14]]
    assert len({part.file for part in parts}) == 3


def test_a_chunk_is_a_population_where_there_are_some() -> None:
    parts = chunks(methods(po.samplers.TDS(particles=4), range(2, 11)), 2)
    assert [part.seeds for part in parts] == [[2, 3], [4, 5, 6, 7], [8, 9, 10]]


@pytest.mark.parametrize("checkpoint_every", [-1.0, 1e9], ids=["every step", "never"])
def test_a_run_killed_at_any_step_is_the_same_run(
    checkpoint_every: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a stream that is not restored, a chunk drawn twice, a cost that forgets its first attempt.
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY", checkpoint_every)
    whole, cost = run(Store(tmp_path / "whole"))
    assert torch.equal(
        whole,
        torch.cat([SAMPLER.sample(example_posterior(), seeds) for seeds in ([0, 1], [2, 3], [4])]),
    )
    for kill in (1, 3, 8, 9, 10, 14, 20, 27):
        store = Store(tmp_path / str(kill))
        with pytest.raises(Killed):
            run(store, stop_after=kill)
        resumed, again = run(store)
        assert torch.equal(resumed, whole), f"killed after {kill} steps"
        if checkpoint_every < 0:
            assert (again.forward, again.backward) == (cost.forward, cost.backward)
            assert again.operator == cost.operator


@pytest.mark.parametrize(("writing", "at"), [(0.01, [21, *range(27, 60, 6)]), (0.8, [21])])
def test_checkpoints_take_a_fiftieth_of_a_run(
    writing: float, at: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: large states that are saved as often as small ones, a first one whatever it takes.
    clock, saved = [0.0], []
    monkeypatch.setattr(engine.time, "perf_counter", lambda: clock[0])
    # x and x0 of 5 samples of 6 numbers are taken to need 0.4 s.
    monkeypatch.setattr(engine, "BYTES_A_SECOND", 2 * 5 * 6 * 8 / 0.4)

    class Slow(Store):
        def write_tensors(self, name: str, content: dict[str, Any]) -> None:
            if name.endswith(".state"):
                saved.append(content["state"]["count"])
                clock[0] += writing

    def advance(done: int, total: int) -> None:
        clock[0] += 1.0

    sampler = po.samplers.SAMPLERS["diffpir"](schedule=po.Karras(steps=60))
    draw(methods(sampler, range(5)), 5, Slow(tmp_path), advance)
    assert saved == at


def test_a_run_killed_many_times_gets_there(
    drawn: tuple[torch.Tensor, Meter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY", -1.0)
    store = Store(tmp_path / "often")
    for _ in range(40):
        try:
            resumed, _ = run(store, stop_after=2)
            break
        except Killed:
            continue
    resumed, _ = run(store)
    assert torch.equal(resumed, drawn[0])


def test_files_are_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: writing in place, which leaves half a file behind and destroys the old one.
    store = Store(tmp_path)
    store.write("a.bin", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="cannot be written: the disk is full; free some space"):
        store.write("a.bin", b"new and longer")
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="cannot be written to"), Store(blocked / "run").locked():
        pass


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        Store(tmp_path).locked(),
        pytest.raises(StoreError, match="Another process"),
        Store(tmp_path).locked(),
    ):
        pass
    with Store(tmp_path).locked():
        pass


def test_arrays_come_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_arrays("x.npz", {"a": np.arange(3), "b": np.ones((2, 2))})
    back = store.read_arrays("x.npz")
    assert back is not None and set(back) == {"a", "b"} and np.array_equal(back["a"], np.arange(3))


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    assert Store(tmp_path).read_tensors("evil.pt", "cpu") is None
    assert not (tmp_path / "ran").exists()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


SPOILT: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a truncated chunk": ("00000.pt", truncate),
    "an empty chunk": ("00000.pt", lambda path: path.write_bytes(b"")),
    "no chunk": ("00000.pt", lambda path: path.unlink()),
    "a chunk of another shape": (
        "00000.pt",
        lambda path: edit(path, lambda c: c.update(x=c["x"][:1])),
    ),
    "a chunk of other seeds": (
        "00000.pt",
        lambda path: edit(path, lambda c: c.update(seeds=[7, 8])),
    ),
    "a chunk of another version": ("00000.pt", lambda path: edit(path, lambda c: c.pop("cost"))),
    "a chunk with a field too many": (
        "00000.pt",
        lambda path: edit(path, lambda c: c["cost"].update(watts=1.0)),
    ),
    "a chunk that is a list": ("00000.pt", lambda path: torch.save([1], path)),
    "a truncated state": ("00001.state", truncate),
    "an empty state": ("00001.state", lambda path: path.write_bytes(b"")),
    "a state with a field too many": (
        "00001.state",
        lambda path: edit(path, lambda c: c["state"].update(extra=1)),
    ),
    "a state without streams": ("00001.state", lambda path: edit(path, lambda c: c.pop("rng"))),
    "a state of other streams": (
        "00001.state",
        lambda path: edit(path, lambda c: c.update(rng=c["rng"][:1])),
    ),
    "a state of another shape": (
        "00001.state",
        lambda path: edit(path, lambda c: c["state"].update(x=c["state"]["x"][:, :1])),
    ),
    "a folder beside": (
        "00000.pt",
        lambda path: (path.parent / ".ipynb_checkpoints" / "inner").mkdir(parents=True),
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_damaged_is_drawn_again(
    name: str, drawn: tuple[torch.Tensor, Meter], stopped: Path, tmp_path: Path
) -> None:
    # Catches: a file of a run's own that stops each further start, or whose content is taken as it is.
    shutil.copytree(stopped, tmp_path / "spoilt")
    store = Store(tmp_path / "spoilt")
    file, spoil = SPOILT[name]
    assert {"00000.pt", "00001.state"} <= {p.name for p in store.path("chunks").iterdir()}
    spoil(store.path("chunks") / file)
    again, _ = run(store)
    assert torch.equal(again, drawn[0])
    store.remove("chunks")
    assert not store.path("chunks").exists()


def test_a_run_that_grows_keeps_its_whole_chunks(tmp_path: Path) -> None:
    # Catches: samples that depend on how many there are, chunks that are mixed up by their index.
    kept = draw(methods(SAMPLER, range(3)), 2, Store(tmp_path / "short"), lambda *_: None)
    done = kept["samples"].parts[:1]
    drawn: list[list[int]] = []

    class Watched(InProcess):
        def map(self, work: Any, chunks: Any) -> Any:
            for chunk in reversed(list(chunks)):
                drawn.append(list(chunk.seeds))
                yield work(chunk)
                # Each chunk at least once: the work is idempotent.
                yield work(chunk)

    store = Store(tmp_path / "short")
    long = draw(methods(SAMPLER, range(5)), 2, store, lambda *_: None, done, Watched())
    assert drawn == [[4], [2, 3]]
    whole, cost = run(Store(tmp_path / "whole"))
    assert torch.equal(long["samples"].x, whole)
    counted = long["samples"].meter
    assert (counted.forward, counted.backward) == (cost.forward, cost.backward)


def test_json_is_json(tmp_path: Path) -> None:
    # Catches: NaN and Infinity, which other readers of JSON refuse.
    with pytest.raises(ValueError, match="not JSON compliant"):
        Store(tmp_path).write_json("x.json", {"a": float("nan")})
    assert as_json({"a": (float("inf"), 1.5)}) == {"a": [None, 1.5]}


def test_a_system_without_locks_of_unix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: modules of Unix that are needed to import the package, or to lock or measure.
    calls: list[tuple[Any, ...]] = []
    windows = ModuleType("msvcrt")
    windows.LK_NBLCK = 2  # type: ignore[attr-defined]
    windows.locking = lambda *words: calls.append(words[1:])  # type: ignore[attr-defined]
    for name, module in {"fcntl": None, "resource": None, "msvcrt": windows}.items():
        monkeypatch.setitem(sys.modules, name, module)
    with Store(tmp_path).locked():
        assert calls == [(2, 1)]
    assert peak_memory(torch.device("cpu")) == 0


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "I/O")])
def test_what_cannot_be_read_is_one_sentence(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.json").write_text("{}")

    def refuse(self: Path) -> Any:
        raise error

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(po.InputError, match=r"run.json cannot be read: "):
        Store(tmp_path).read_json("run.json")
    (tmp_path / "run.json").unlink()
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(po.InputError, match="cannot be read"):
        Store(tmp_path).foreign_files()
