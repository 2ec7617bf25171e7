"""One page that shows a run, with its figures inside."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..modalities import Figure
from ..version import __version__
from .request import Request
from .results import Results

# The one convention, as it is written into every output.
CONVENTION = "x = x_0 + sigma * noise; noise levels in data units, pictures in [-1, 1]"


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
        figures: Files in the order in which they are shown; those in folders are left out.
        facts: What was run: what, and how much.
        code: The samplers, each as its `repr`.
        verdict: What came of it, in a sentence that stands first.
        sections: Plots under headings.
    """

    title: str
    intro: Sequence[str]
    figures: Sequence[Figure]
    facts: Mapping[str, str]
    code: Sequence[str]
    verdict: str | None = None
    sections: Mapping[str, Sequence[Plot]] = field(default_factory=dict)


def write_page(page: Page, results: Results, request: Request) -> str:
    """The page, as HTML that needs no other file."""
    from jinja2 import Environment, PackageLoader

    shown = [_embedded(figure) for figure in page.figures if "/" not in figure.name]
    heads, rows = results.table()
    environment = Environment(
        loader=PackageLoader("posteria.runs"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        page=page,
        small=[figure for figure in shown if not figure["sheet"]],
        sheets=[figure for figure in shown if figure["sheet"]],
        warnings=results.warnings(),
        heads=heads,
        rows=rows,
        legend=results.legend(),
        facts={**page.facts, "convention": CONVENTION, "posteria": __version__},
        command=request.command,
    )


def _embedded(figure: Figure) -> dict[str, Any]:
    source = "data:image/png;base64," + base64.b64encode(figure.content).decode()
    return {"source": source, "caption": figure.caption, "sheet": figure.sheet}
