"""One page that shows a run, with its figures inside: it needs no network, and runs only the script of this hash."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, NamedTuple, TypeVar

from ..modalities import Figure
from ..version import __version__
from .request import Request
from .results import Results

# The one convention, as it is written into every output.
CONVENTION = "x = x_0 + sigma * noise; noise levels in data units (of pictures, in [-1, 1])"


T = TypeVar("T")
# Sides in pixels up to which a picture is shown with hard pixels.
HARD = 160


class Plot(NamedTuple):
    """A drawing of lines.

    Attributes:
        svg: Its markup, which is put into the page as it is.
        caption: What it shows.
    """

    svg: str
    caption: str


@dataclass(frozen=True)
class Page:
    """What a report shows beside the numbers.

    Args:
        title: Of the page.
        intro: What was sampled, in sentences.
        figures: In the order in which they are shown; each is made, written and forgotten in turn.
        facts: What was run: what, and how much.
        code: The samplers, each as its `repr`.
        verdict: The outcome, in a sentence that stands first.
        sections: Plots under headings.
    """

    title: str
    intro: Sequence[str]
    figures: Iterable[Figure]
    facts: Mapping[str, str]
    code: Sequence[str]
    verdict: str | None = None
    sections: Mapping[str, Sequence[Plot]] = field(default_factory=dict)


def environment() -> Any:
    """What renders the pages, in which all names are text."""
    from jinja2 import Environment, PackageLoader

    return Environment(
        loader=PackageLoader("posteria.runs"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(page: Page, figures: Sequence[Figure], results: Results, request: Request) -> str:
    """The page, as HTML that needs no other file; figures that are shown elsewhere are linked."""
    script = (files("posteria.runs") / "templates" / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts: dict[str, list[dict[str, Any]]] = {}
    for figure in figures:
        parts.setdefault(figure.part, []).append(_embedded(figure))
    views = parts.get("view", [])
    for index, view in enumerate(views):
        view["index"] = index
    for pair in parts.get("pair", []):
        pair["others"] = [view for view in views if view["name"] in pair["of"]]
    samples = [view for view in views if view["sample"]]
    mean = [view for view in views if view["label"] == "mean"]
    cells, columns = cells_of(samples, mean)
    of = "" if len(samples) == request.samples else f" of {request.samples}"
    heads, rows = results.table()
    return str(
        environment()
        .get_template("page.html")
        .render(
            page=page,
            parts=parts,
            start=mean[0]["index"] if mean else 0,
            cells=cells,
            columns=columns,
            grid_title=f"{len([c for c in cells if c['sample']])}{of} samples: what they share is known",
            warnings=results.warnings(),
            heads=heads,
            rows=rows,
            legend=results.legend(),
            facts={**page.facts, "convention": CONVENTION, "posteria": __version__},
            command=request.command,
            script=script,
            script_hash=f"sha256-{digest}",
        )
    )


def cells_of(samples: list[T], mean: list[T]) -> tuple[list[T], int]:
    """What a grid shows, an even number, and in how many columns, so that its last row is full.

    Args:
        samples: At most 24.
        mean: Shown before them where that makes their number even.
    """
    if len(samples) < 2:
        return [], 1
    if len(samples) > 8:
        samples = samples[: len(samples) // 4 * 4]
    cells = [*mean, *samples] if len(samples) % 2 else samples
    return cells, 3 if len(cells) == 6 else min(len(cells), 4)


def played(sound: bytes) -> str:
    """The bytes of a sound as an address."""
    kind = {b"fLaC": "flac", b"OggS": "ogg", b"RIFF": "wav"}.get(sound[:4], "mpeg")
    return f"data:audio/{kind};base64," + base64.b64encode(sound).decode()


def _embedded(figure: Figure) -> dict[str, Any]:
    """What the template shows of a figure."""
    kinds = {b"\x89PNG": "png", b"<svg": "svg+xml"}
    kind = kinds.get(figure.content[:4], "jpeg")
    width = figure.size[1]
    return {
        **{
            name: getattr(figure, name)
            for name in ("name", "caption", "label", "size", "scale", "of")
        },
        "sounds": [
            {
                "name": s.name,
                "label": s.label,
                "source": s.name if s.shown is None else played(s.shown),
            }
            for s in figure.sounds
        ],
        "source": f"data:image/{kind};base64," + base64.b64encode(figure.content).decode(),
        "sample": figure.name.startswith("samples/"),
        "hard": kind != "svg+xml"
        and (max(figure.size) <= HARD or figure.part in {"sheet", "strip"}),
        "reduced": figure.shown is not None,
        "wide": min(4 * width, 1100) if width < 1100 else width,
    }
