"""What `posteria list` prints. Only the lists of classes load PyTorch."""

import inspect
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from ..core.errors import unknown
from ..priors import PUBLISHED, SHIPPED
from .options import TASK_OPTIONS
from .output import say, say_json

# Priors of a user's own.
OWN = {
    "diffusers:NAME": "any model in diffusers' format, of pixels or latents: a folder or a hub name",
    "adm:FILE.pt": "a state dict of guided-diffusion",
}
AUTO = (
    "--sampler auto takes the one that was nearest to the exact posterior on measured targets like yours, and says "
    "which they were: docs/choose.md"
)


@dataclass(frozen=True)
class Listing:
    """One of the lists.

    Args:
        title: Above its table.
        rows: What its table shows, by name.
        notes: Below it.
        kinds: Classes whose documentation and settings can be shown, by name.
    """

    title: str
    rows: dict[str, dict[str, str]]
    notes: list[str] = field(default_factory=list)
    kinds: dict[str, type] = field(default_factory=dict)


def print_catalogue(what: str | None, name: str | None, as_json: bool) -> None:
    """Print all lists, one of them, or one entry.

    Args:
        what: The list.
        name: The entry.
        as_json: As JSON.

    Raises:
        InputError: If there is no such entry.
    """
    lists = {what: LISTS[what]()} if what else {key: make() for key, make in LISTS.items()}
    if name is not None and what is not None:
        if name not in lists[what].rows:
            raise unknown(what.removesuffix("s"), name, lists[what].rows)
        _print_entry(lists[what], name, as_json)
    elif as_json:
        say_json({key: listing.rows for key, listing in lists.items()})
    else:
        for listing in lists.values():
            _print_table(listing)


def _print_entry(listing: Listing, name: str, as_json: bool) -> None:
    row, kind = listing.rows[name], listing.kinds.get(name)
    settings = [] if kind is None else repr(kind())
    if as_json:
        say_json({"name": name, **row, "settings": settings})
        return
    say(name)
    for head, text in row.items():
        say(f"{head}: {text}")
    if kind is not None:
        about = (inspect.getdoc(kind) or "").partition("\n\n")[2]
        say(f"settings, each of which --set changes: {settings}\n\n{about}")


def _print_table(listing: Listing) -> None:
    heads = list(next(iter(listing.rows.values())))
    # A name that is cut off cannot be given to a command.
    whole = (Column("name", no_wrap=True), *(Column(head, overflow="fold") for head in heads))
    table = Table(*whole, title=listing.title, title_justify="left")
    for name, row in listing.rows.items():
        table.add_row(name, *(row[head] for head in heads))
    Console().print(table, markup=False)
    for note in listing.notes:
        say(note)


def _priors() -> Listing:
    rows = {
        card.name: {
            "draws": card.about,
            "from": "the package" if card.where == "package" else card.path,
            "licence": card.licence,
        }
        for card in (*SHIPPED.values(), *PUBLISHED.values())
    }
    for name, draws in OWN.items():
        rows[name] = {"draws": draws, "from": "you", "licence": ""}
    note = "Weights of those in the package alone were run; the readers of the others are tested on small models."
    return Listing("Priors", rows, [note])


def _samplers() -> Listing:
    from ..samplers import POSTERIOR_SAMPLERS

    rows = {
        name: {
            "method": _first_line(kind),
            "needs": kind.needs,
            "published settings (--preset)": ", ".join(kind.presets()),
        }
        for name, kind in POSTERIOR_SAMPLERS.items()
    }
    notes = [AUTO, "Settings of one of them: `posteria list samplers NAME`."]
    return Listing("Samplers", rows, notes, dict(POSTERIOR_SAMPLERS))


def _rules() -> Listing:
    from ..guidance import RULES
    from ..runs.settings import by_classifier
    from ..samplers import TILTED_SAMPLERS

    kinds: dict[str, Any] = {**RULES, **TILTED_SAMPLERS}
    rows = {
        name: {"method": _first_line(kind), "needs": kind.needs} for name, kind in kinds.items()
    }
    note = (
        "Samplers of a posterior that take any likelihood draw with a classifier's probability of the label: "
        f"{', '.join(by_classifier())}."
    )
    return Listing("Rules (posteria generate)", rows, [note], kinds)


def _operators() -> Listing:
    from ..modalities import MODALITIES

    rows = dict[str, dict[str, str]]()
    for modality in MODALITIES.values():
        for name, task in modality.tasks.items():
            # The same name may stand for another measurement of another kind of signal.
            rows[f"{name} ({modality.noun})" if name in rows else name] = {
                "of a": modality.noun,
                "what happens": task.about,
                "options": " ".join(map(_flag, task.options)),
            }
    return Listing("Operators", rows)


LISTS = {"priors": _priors, "samplers": _samplers, "rules": _rules, "operators": _operators}


def _flag(option: str) -> str:
    """How an option of a task is given."""
    if option == "seed":
        return "--data-seed"
    return f"--{option}" if option in TASK_OPTIONS else f"--option {option}="


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").split("\n")[0]
