"""Results on disk: whole or absent, resumed bit for bit, never overwritten."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import posteria as po
from posteria.runs import engine
from posteria.runs.engine import Chunk, chunks, draw
from posteria.runs.store import Store, StoreError
from posteria.testing import example_posterior

SAMPLER = po.MGDM(schedule=po.Table(steps=8), points=4)


class Killed(Exception):
    pass


def run(store: Store, stop_after: int | None = None, size: int = 2) -> Any:
    """Draw 5 samples; die after so many steps."""
    steps = 0

    def advance(part: Chunk, count: int) -> None:
        nonlocal steps
        steps += 1
        if stop_after is not None and steps >= stop_after:
            raise Killed

    return draw(SAMPLER, example_posterior(), chunks(SAMPLER, range(5), size), store, advance)


def test_chunks_cover_all_seeds() -> None:
    parts = chunks(SAMPLER, range(10, 15), 2)
    assert [part.seeds for part in parts] == [[10, 11], [12, 13], [14]]
    assert len({part.file for part in parts}) == 3


def test_a_chunk_is_a_population_where_there_are_some() -> None:
    parts = chunks(po.TDS(particles=4), range(2, 11), 2)
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


def test_a_run_killed_many_times_gets_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY", -1.0)
    whole, _ = run(Store(tmp_path / "whole"))
    store = Store(tmp_path / "often")
    for _ in range(40):
        try:
            resumed, _ = run(store, stop_after=2)
            break
        except Killed:
            continue
    resumed, _ = run(store)
    assert torch.equal(resumed, whole)


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
    assert set(back) == {"a", "b"} and np.array_equal(back["a"], np.arange(3))


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.system, ("true",))

    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(Exception, match=r"weights_only|Unsupported"):
        Store(tmp_path).read_tensors("evil.pt", "cpu")
