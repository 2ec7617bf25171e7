"""The page that says which sampler to use, made from the results; its words are in landing.html."""

import importlib.metadata
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from lib.plots import curves
from lib.show import Frame
from lib.table import Table
from pictures import KEPT, compared, tables
from report import (
    BUDGETS,
    answer,
    best,
    by_problem,
    calibration,
    detail,
    everyone,
    in_short,
    pictures,
    read,
    spaced,
    tilted,
    varied,
)

PAGES = Path(__file__).parent
TITLES = {
    "images": "64 pictures",
    "populations": "Samplers that need a population: 16 pictures with 8 particles each, of which one is the sample",
}


def inline(text: str) -> Markup:
    """Text with `code`, **bold** and *italics*."""
    html = str(escape(text))
    for pattern, tag in ((r"\*\*(.+?)\*\*", "b"), (r"\*(.+?)\*", "i"), (r"`(.+?)`", "code")):
        html = re.sub(pattern, rf"<{tag}>\1</{tag}>", html)
    return Markup(html)


def drawing(frame: Frame) -> Markup:
    """The main figure, inside the page."""
    out = io.StringIO()
    curves(by_problem(frame)).savefig(out, format="svg")
    svg = out.getvalue()
    return Markup(svg[svg.index("<svg") :])


def of_exact(frame: Frame) -> dict[str, Any]:
    """Problems whose posterior is known."""
    budgets = [
        {
            "name": spaced(budget),
            "answer": answer(frame, budget),
            "single": answer(frame, budget, single=True),
            "details": [
                everyone(frame, budget),
                *(detail(part, name, budget) for name, part in by_problem(frame).items()),
            ],
        }
        for budget in BUDGETS
    ]
    tables = [make(frame, single=one) for make in (best, calibration) for one in (False, True)]
    return {"budgets": budgets, "drawing": drawing(frame), "tables": tables}


def of_pictures(frames: Mapping[str, Frame]) -> list[tuple[Table, list[Table]]]:
    """Pictures of a network, whose posterior nobody knows: in short, and task by task."""
    there = ((frames[name], title) for name, title in TITLES.items() if name in frames)
    return [
        (in_short(frame, title), [pictures(frame, t) for t in frame["p_dataset_task"].unique()])
        for frame, title in there
    ]


def runs(frames: Mapping[str, Frame]) -> Table:
    """What made the results: seeds, days and machine."""
    found = []
    for name, frame in frames.items():
        last = frame.iloc[-1]
        days = sorted({str(day)[:10] for day in frame["run_date"]})
        between = " to ".join(dict.fromkeys((days[0], days[-1])))
        code = ", ".join(sorted(set(map(str, frame["p_obj_code"].dropna()))))
        machine = f"{last['platform']} {last['platform-architecture']}, {last['system-processor']}"
        repetitions = str(frame["idx_rep"].nunique())
        numpy = f"NumPy {last['version-numpy']}"
        found.append([
            name,
            code,
            str(last["base_seed"]),
            repetitions,
            between,
            f"{machine}, {numpy}",
        ])
    header = ["results", "hash of the code", "seed", "repetitions", "days", "machine"]
    return Table("Runs", header, found)


def landing(results: Path, links: Iterable[Mapping[str, str]] = ()) -> str:
    """The page of a folder with `exact.parquet` and any of `images`, `populations`, `guidance`.

    `links` are other pages: `page`, `title` and `data` of each.
    """
    frames, kept = read(results), compared(results / KEPT.name)
    tilts = [make(frames["guidance"]) for make in (tilted, varied) if "guidance" in frames]
    versions = (f"{name} {importlib.metadata.version(name)}" for name in ("posteria", "benchopt"))
    pages = Environment(
        loader=FileSystemLoader(PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters["inline"] = inline
    return pages.get_template("landing.html").render(
        links=list(links),
        exact=of_exact(frames["exact"]) if "exact" in frames else None,
        at_size=tables(kept) if kept else [],
        images=of_pictures(frames),
        guidance=[table for table in tilts if table.rows],
        runs=runs(frames),
        versions=", ".join(versions),
    )
