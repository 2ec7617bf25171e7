"""A folder of results in which every file is whole or absent, whenever the program was killed."""

import errno
import fcntl
import io
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.errors import InputError, PosteriaError


class StoreError(PosteriaError):
    """A folder that cannot be written to."""


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space and run the same command again to continue"
    return (error.strerror or str(error)).lower()


class Store:
    """The folder of one run.

    Args:
        folder: Made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """A file of the run."""
        return self.folder / name

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that it is there as a whole or not at all.

        Raises:
            StoreError: If the folder cannot be written to, or the disk is full.
        """
        target = self.path(name)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StoreError(f"{target} cannot be written: {_reason(error)}.") from error

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file."""
        self.write(name, (json.dumps(content, indent=2) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """Read a JSON file; None if there is none.

        Raises:
            InputError: If it is damaged.
        """
        if not self.path(name).exists():
            return None
        try:
            return json.loads(self.path(name).read_text())
        except ValueError as error:
            raise InputError(
                f"{self.path(name)} is damaged; choose another output folder."
            ) from error

    def write_arrays(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Write arrays as an .npz file."""
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        self.write(name, buffer.getvalue())

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read an .npz file."""
        with np.load(self.path(name), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    def write_tensors(self, name: str, content: dict[str, Any]) -> None:
        """Write tensors and numbers as PyTorch writes them."""
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self.write(name, buffer.getvalue())

    def read_tensors(self, name: str, device: torch.device | str) -> dict[str, Any]:
        """Read what `write_tensors` wrote; runs no code from the file."""
        content: dict[str, Any] = torch.load(
            self.path(name), map_location=device, weights_only=True
        )
        return content

    def remove(self, name: str) -> None:
        """Remove a file, or a folder of files."""
        path = self.path(name)
        if path.is_dir():
            for inner in path.iterdir():
                inner.unlink()
            path.rmdir()
        else:
            path.unlink(missing_ok=True)

    def foreign_files(self) -> list[str]:
        """What lies in the folder when it holds no run of ours."""
        if not self.folder.exists() or self.path("run.json").exists():
            return []
        return sorted(p.name for p in self.folder.iterdir() if not p.name.startswith("."))

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep other processes from writing to the folder.

        Raises:
            StoreError: If one does already, or the folder cannot be made or written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = self.path(".lock").open("w")
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written to: {_reason(error)}.") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StoreError(
                    f"Another process is writing to {self.folder}; wait for it or choose another folder."
                ) from error
            try:
                yield
            finally:
                self.path(".lock").unlink(missing_ok=True)
