"""Cards: what is known of a prior before it is loaded."""

import hashlib
import math
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import InputError, require, whole

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Data:
    """What a prior draws.

    Args:
        shape: Event shape; empty if it is known once the prior is loaded.
        units: In what its numbers are.
        rate: Samples a second of a signal in time.
        names: Of the channels, such as those of stems.
        gain: Data units to one of a file: the amplitude of full scale.
    """

    shape: tuple[int, ...] = ()
    units: str = "[-1, 1]"
    rate: float | None = None
    names: tuple[str, ...] = ()
    gain: float = 1.0

    def __post_init__(self) -> None:
        shape = tuple(whole(side, "A side of what a prior draws") for side in self.shape)
        object.__setattr__(self, "shape", shape)
        for name, value in (("rate", self.rate), ("gain", self.gain)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            require(
                (number and 0 < float(value or 0) < math.inf)
                or (name == "rate" and value is None),
                f"The {name} of signals is a number above 0; {value!r} is not.",
            )


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a prior.

    Args:
        name: Its name, as `load_prior` takes it.
        reader: Which of `posteria.priors.readers.READERS` loads it.
        path: Its files: a folder or file, or a name on the hub.
        where: `package`, `folder`, `hub`, or `page`: then its files are to be fetched by hand from `path`.
        modality: Of what kind its data are.
        about: What it draws, in a line.
        sha256: Of its weights; None if they may be any.
        licence: Of data and weights.
        cite: Where they come from.
        data: Shape and units.
        notes: Anything else that its user should know.
    """

    name: str
    reader: str
    path: str
    where: str = "folder"
    modality: str = "image"
    about: str = ""
    sha256: str | None = None
    licence: str = ""
    cite: str = ""
    data: Data = field(default_factory=Data)
    notes: str = ""

    @property
    def folder(self) -> Path:
        """Where its files are, or will be."""
        return Path(self.path)

    @property
    def shape(self) -> tuple[int, ...]:
        """Event shape."""
        return self.data.shape

    @property
    def examples(self) -> list[Path]:
        """Files of signals that it was not trained on."""
        return sorted((self.folder / "examples").glob("*.*"))

    def __str__(self) -> str:
        weights = self.sha256 and f"weights {self.sha256[:12]}"
        parts = (
            self.about,
            self.licence,
            f"{self.modality} by the reader {self.reader!r}",
            weights,
        )
        return f"{self.name}: {'; '.join(part for part in parts if part)}"


def read_card(path: Path, *, where: str = "folder") -> Card:
    """The card in a file `card.toml` beside the weights.

    Raises:
        InputError: If it is not a card, or of pictures in other units than [-1, 1].
    """
    try:
        content = tomllib.loads(path.read_text())
        data = content.pop("data", {})
        names = tuple(map(str, data.pop("names", ())))
        data = Data(tuple(data.pop("shape", ())), names=names, **data)
        for name, value in content.items():
            require(isinstance(value, str), f"{name} is a text; {value!r} is not")
        card = Card(**content, path=str(path.parent), where=where, data=data)
        require(
            card.modality != "image" or data.units == "[-1, 1]",
            f"pictures are in [-1, 1], not in {data.units}; leave units out, and bring its network to them by "
            "posteria.diffusion.Units(prior, low, high)",
        )
        return card
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not the card of a prior: {error}.") from error


SHIPPED = {
    path.parent.name: read_card(path, where="package")
    for path in sorted(WEIGHTS.glob("*/card.toml"))
}


def _published() -> dict[str, Card]:
    """The cards of models that are not in the package, by name."""
    with (Path(__file__).parent / "published.toml").open("rb") as file:
        entries = tomllib.load(file)["prior"]
    cards = {}
    for entry in entries:
        data = Data(tuple(entry.pop("data")["shape"]))
        where = "page" if entry["path"].startswith("https://") else "hub"
        cards[entry["name"]] = Card(**entry, where=where, data=data)
    return cards


PUBLISHED = _published()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """The SHA-256 of a file, or of the hashes of several, in their order."""
    hashes = [file_sha256(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def check_hash(paths: Iterable[Path], sha256: str) -> None:
    """Raise `InputError` unless the files have this SHA-256."""
    paths = list(paths)
    found = files_sha256(paths)
    if found != sha256.lower():
        raise InputError(
            f"{paths[0]} is not the file it should be: its SHA-256 is {found[:12]}..., not {sha256[:12]}.... "
            "Get the weights again, or reinstall posteria for a prior that ships with it."
        )
