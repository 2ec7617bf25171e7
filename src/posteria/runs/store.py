"""A folder of results in which every file is whole or absent, whenever the program was killed."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, PosteriaError


class StoreError(PosteriaError):
    """A folder that cannot be written to."""


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space and run the same command again to continue"
    return (error.strerror or str(error)).lower()


def sha256(content: bytes) -> str:
    """The hash by which contents are compared."""
    return hashlib.sha256(content).hexdigest()


def hashes_of(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The hashes of tensors by name."""
    return {name: sha256(x.float().cpu().numpy().tobytes()) for name, x in tensors.items()}


class Store:
    """The folder of one run.

    Args:
        folder: Made if it does not exist.

    Attributes:
        written: SHA-256 of the files that were written.
        lost: Files of a finished run that were missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: dict[str, str] = {}
        self.lost: list[str] = []

    def path(self, name: str) -> Path:
        """A file of the run."""
        return self.folder / name

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that it is there as a whole or not at all.

        Raises:
            StoreError: If the folder cannot be written to, or the disk is full.
        """
        self._write(name, lambda file: file.write(content))

    def _write(self, name: str, fill: Callable[[IO[bytes]], object]) -> None:
        target = self.path(name)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w+b") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                found = hashlib.file_digest(file, "sha256").hexdigest()
            os.replace(temporary, target)
        except OSError as error:
            if temporary.is_file():
                temporary.unlink()
            raise StoreError(f"{target} cannot be written: {_reason(error)}.") from error
        self.written[name] = found

    def expect_room(self, volume: int) -> None:
        """Raise `StoreError` if the disk has less room than so many bytes."""
        there = next(p for p in (self.folder, *self.folder.absolute().parents) if p.is_dir())
        free = shutil.disk_usage(there).free
        if volume > free:
            raise StoreError(
                f"Samples and results take {volume / 1e9:.1f} GB, and the disk of {there} has {free / 1e9:.1f} GB "
                "left; name a folder on another one by --out, or draw fewer samples."
            )

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none.

        Raises:
            InputError: If it cannot be read.
        """
        try:
            return self.path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(f"{self.path(name)} cannot be read: {_reason(error)}.") from error

    def holds(self, name: str, sha: str) -> bool:
        """Whether a file is there with a content of this SHA-256."""
        if not self.path(name).is_file():
            return False
        try:
            with self.path(name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha
        except OSError as error:
            raise InputError(f"{self.path(name)} cannot be read: {_reason(error)}.") from error

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file, whose numbers are finite."""
        self.write(name, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """Read a JSON file; None if there is none.

        Raises:
            InputError: If it is damaged.
        """
        content = self.read(name)
        try:
            return None if content is None else json.loads(content)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{self.path(name)} is damaged, or no JSON; give the run.json of a run, or another folder by --out."
            ) from error

    def write_arrays(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Write arrays as an .npz file."""
        self._write(name, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]

    def read_arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """Read an .npz file; None if there is none or it is damaged."""
        try:
            with np.load(self.path(name), allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        # A damaged archive fails in zipfile, zlib, struct or NumPy, each in its own ways.
        except Exception:
            return None

    def write_tensors(self, name: str, content: dict[str, Any]) -> None:
        """Write tensors and numbers as PyTorch writes them."""
        self._write(name, lambda file: torch.save(content, file))

    def read_tensors(self, name: str, device: torch.device | str) -> dict[str, Any] | None:
        """Read what `write_tensors` wrote; None if there is none or it is damaged. Runs no code from the file."""
        if not self.path(name).is_file():
            return None
        try:
            content = torch.load(self.path(name), map_location=device, weights_only=True)
        # A damaged file fails in zipfile, pickle or PyTorch, each in its own ways.
        except Exception:
            return None
        return content if isinstance(content, dict) else None

    def remove(self, name: str) -> None:
        """Remove a file or a folder.

        Raises:
            StoreError: If it cannot be removed.
        """
        path = self.path(name)
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be removed: {_reason(error)}.") from error

    def foreign_files(self) -> list[str]:
        """What lies in the folder when it holds no run of ours.

        Raises:
            InputError: If it is no folder, or cannot be read.
        """
        try:
            if not self.folder.exists() or self.path("run.json").exists():
                return []
            return sorted(p.name for p in self.folder.iterdir() if not p.name.startswith("."))
        except NotADirectoryError as error:
            raise InputError(f"{self.folder} is a file; --out takes a folder.") from error
        except OSError as error:
            raise InputError(f"{self.folder} cannot be read: {_reason(error)}.") from error

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
                _lock(lock)
            except OSError as error:
                raise StoreError(
                    f"Another process is writing to {self.folder}; wait for it or choose another folder."
                ) from error
            try:
                yield
            finally:
                _unlink(self.path(".lock"))


def _lock(file: IO[str]) -> None:
    """Take a lock that ends with the process, or raise `OSError`."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlink(path: Path) -> None:
    """Remove a file; Windows keeps one that is open."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
