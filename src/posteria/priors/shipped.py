"""The priors that ship with the package."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Shipped:
    """A prior inside the package: a diffusers folder with a card, and held-out pictures.

    Args:
        name: Its name.
        about: What it draws, in a line.
        shape: Event shape, `(channels, height, width)`; values in [-1, 1].
        sha256: Of its weights.
    """

    name: str
    about: str
    shape: tuple[int, int, int]
    sha256: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return WEIGHTS / self.name

    @property
    def examples(self) -> list[Path]:
        """Pictures that it was not trained on."""
        return sorted((self.folder / "examples").glob("*.png"))


SHIPPED = {
    "digits": Shipped(
        name="digits",
        about="handwritten digits (MNIST), 28 x 28 grey, with labels 0 to 9",
        shape=(1, 28, 28),
        sha256="be03c4dab2be571f2431fcb52fe2704d4e45fd21804b0ceddba63bc8a59c6cce",
    ),
    "emoji": Shipped(
        name="emoji",
        about="emoji (Noto), 64 x 64 colour",
        shape=(3, 64, 64),
        sha256="dad25a58372476d5a09fe05d9e06b4fb63ad93a418d6ecc6e1d3d671fb751625",
    ),
}


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hash(path: Path, sha256: str) -> None:
    """Raise `InputError` unless the file has this SHA-256."""
    found = file_sha256(path)
    if found != sha256:
        raise InputError(
            f"{path} is not the file it should be: its SHA-256 is {found[:12]}..., not {sha256[:12]}.... "
            "Get the weights again, or reinstall posteria for a prior that ships with it."
        )
