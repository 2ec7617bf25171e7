"""Arrays from NumPy's files."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.space import native

SUFFIXES = {".npy", ".npz"}


def is_array(path: Path) -> bool:
    """Whether a file's name says that it holds an array."""
    return path.suffix.lower() in SUFFIXES


def existing(path: Path) -> Path:
    """The path of a file that is there.

    Raises:
        InputError: If there is none, or it is a folder.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file.")
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    return path


@contextmanager
def arrays_in(path: Path) -> Generator[Mapping[str, np.ndarray]]:
    """The arrays of an .npz file by their names, or that of an .npy file, each read as it is taken; runs no code.

    Raises:
        InputError: If there is no such file, or it cannot be read.
    """
    try:
        with existing(path).open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            yield {"x": loaded} if isinstance(loaded, np.ndarray) else loaded
    except InputError:
        raise
    # A damaged archive fails in zipfile, zlib, struct or NumPy, each in its own ways.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as an array: it is damaged, or was not saved with numpy.save or numpy.savez."
        ) from error


def read_array(path: Path, name: str) -> np.ndarray:
    """Read one array of numbers from an .npy or .npz file, in the byte order of this machine.

    Args:
        path: The file.
        name: Which array to take if there are several.

    Raises:
        InputError: If there is none, or not exactly one, or it holds no real numbers.
    """
    with arrays_in(path) as arrays:
        return native(arrays[_key(path, list(arrays), name)], str(path))


def _key(path: Path, names: list[str], wanted: str) -> str:
    if wanted in names:
        return wanted
    if not names:
        raise InputError(f"{path} holds no array.")
    if len(names) > 1:
        raise InputError(
            f"{path} holds the arrays {', '.join(names)}; name the one to use {wanted!r}."
        )
    return names[0]
