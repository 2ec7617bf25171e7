"""The page that says which sampler to use, made from the results."""

import importlib.metadata
import io
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

from figure import curves
from lib.show import Frame
from lib.table import Table
from pictures import rows, tables
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

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.8rem; } h2 { margin-top: 2.2rem; } h3 { font-size: 1rem; margin-bottom: .4rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .86rem; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
svg { max-width: 100%; height: auto; } code, pre { background: #f4f4f4; } pre { padding: .7rem; overflow-x: auto; }
summary { cursor: pointer; } dt { font-weight: 600; }
"""


READ = (
    "*Mean error* is in posterior standard deviations (that of exact draws: about 0.04), *variance ratio* over the "
    "exact variance (below 1: too sure of itself), *mode weights* the total variation of the shares of modes, "
    "*coverage* what the central 90 % intervals of the samples hold of the posterior."
)


def inline(text: str) -> str:
    """Text with `code`, **bold** and *italics*."""
    text = escape(text, quote=False)
    for pattern, tag in ((r"\*\*(.+?)\*\*", "b"), (r"\*(.+?)\*", "i"), (r"`(.+?)`", "code")):
        text = re.sub(pattern, rf"<{tag}>\1</{tag}>", text)
    return text


def html(table: Table) -> str:
    """A table with its title and note."""
    head = "".join(f"<th>{inline(cell)}</th>" for cell in table.header)
    body = "".join(
        f"<tr>{''.join(f'<td>{inline(cell)}</td>' for cell in row)}</tr>" for row in table.rows
    )
    note = f"<p>{inline(table.note)}</p>" if table.note else ""
    return (
        f"<h3>{inline(table.title)}</h3>\n"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}\n'
    )


def folded(title: str, content: str) -> str:
    """What is shown when it is asked for."""
    return f"<details><summary>{inline(title)}</summary>\n{content}</details>\n"


def drawing(frame: Frame) -> str:
    """The main figure, inside the page."""
    out = io.StringIO()
    curves(by_problem(frame)).savefig(out, format="svg")
    svg = out.getvalue()
    return svg[svg.index("<svg") :]


def of_exact(frame: Frame) -> list[str]:
    """Problems whose posterior is known."""
    parts = [
        "<h2>Where the answer is known</h2>",
        "<p>Each number is a sliced Wasserstein distance between 512 samples and exact draws of the "
        "posterior, over the distance between two sets of exact draws: the <i>floor</i>, 1. The budget "
        "counts evaluations of the prior and products with its transposed Jacobian, per sample. A "
        "repetition is another problem of its kind; ± is one standard error over repetitions. Samplers are "
        "called equal where their difference, repetition by repetition, is within two standard errors.</p>",
        "<dl>",
    ]
    for budget in BUDGETS:
        parts.append(
            f"<dt>With {spaced(budget)} evaluations a sample</dt><dd>{inline(answer(frame, budget))}<br>"
            "If each sample is to be drawn by itself, without a population: "
            f"{inline(answer(frame, budget, single=True))}</dd>"
        )
    parts += ["</dl>", drawing(frame)]
    parts += [
        html(table(frame, single=single))
        for table in (best, calibration)
        for single in (False, True)
    ]
    parts.append(f"<p>{inline(READ)}</p>")
    for budget in BUDGETS:
        tables = [html(everyone(frame, budget))]
        tables += [html(detail(part, name, budget)) for name, part in by_problem(frame).items()]
        parts.append(
            folded(
                f"Every sampler at {spaced(budget)}: error, calibration, seconds", "".join(tables)
            )
        )
    return parts


def at_picture_size(kept: Path) -> list[str]:
    """Pictures whose posterior is known, if they were drawn."""
    if not kept.exists():
        return []
    summary, *details = map(html, tables(rows(kept)))
    return [
        "<h2>Where the answer is known, at picture size</h2>",
        "<p>Digits of 28 x 28 pixels, drawn from a mixture that was fitted to MNIST; 32 samples with 400 "
        "evaluations each, noise level 0.1, compared along the 20 leading axes of the posterior. Bold is as "
        "good as exact draws: docs/pictures.md.</p>",
        summary,
        folded("Error, variance, components and coverage", "".join(details)),
    ]


def of_pictures(frames: Mapping[str, Frame]) -> list[str]:
    """Pictures of a network, whose posterior nobody knows."""
    parts = [
        "<h2>Pictures</h2>",
        "<p>Handwritten digits at noise level 0.05, one sample a picture, never the best of several. "
        "<i>Residual</i> is 1 where a sample explains its measurement; <i>distance</i> is that of the "
        "samples to the truths; <i>coverage</i> is the share of the truth's pixels inside the central "
        "90 % of 19 samples: less is too sure. PSNR prefers a mean to a sample.</p>",
    ]
    titles = {
        "images": "64 pictures",
        "populations": "Samplers that need a population: 16 pictures with 8 particles each, of which one is the sample",
    }
    for name, title in titles.items():
        if name in frames:
            frame = frames[name]
            tables = [html(pictures(frame, task)) for task in frame["p_dataset_task"].unique()]
            parts += [html(in_short(frame, title)), folded("All numbers", "".join(tables))]
    return parts


def made(frames: Mapping[str, Frame]) -> list[str]:
    """What made the results: versions, seeds, machine, and the commands."""
    known = {name: importlib.metadata.version(name) for name in ("posteria", "benchopt")}
    versions = ", ".join(f"{name} {version}" for name, version in known.items())
    rows = []
    for name, frame in frames.items():
        last = frame.iloc[-1]
        days = sorted({str(day)[:10] for day in frame["run_date"]})
        rows.append([
            name,
            ", ".join(sorted(set(map(str, frame["p_obj_code"].dropna())))),
            str(last["base_seed"]),
            str(frame["idx_rep"].nunique()),
            " to ".join(dict.fromkeys((days[0], days[-1]))),
            f"{last['platform']} {last['platform-architecture']}, {last['system-processor']}, "
            f"NumPy {last['version-numpy']}",
        ])
    header = ["results", "hash of the code", "seed", "repetitions", "days", "machine"]
    return [
        "<h2>How it was made</h2>",
        html(Table("Runs", header, rows)),
        f"<p>The pages were made with {escape(versions)}. To run it again, or to add a sampler in one file: "
        "<code>docs/benchmark.md</code>.</p>",
        "<pre>pip install -e '.[bench]'\nmake bench-smoke   # minutes: that everything works\n"
        "make bench         # goes on where it was stopped\nmake site          # these pages</pre>",
    ]


def landing(results: Path, links: str = "") -> str:
    """The body of the page.

    Args:
        results: A folder with `exact.parquet` and any of `images`, `populations`, `guidance`.
        links: Items of a list of other pages, to stand below the title.
    """
    frames = read(results)
    parts = ["<h1>Which sampler should I use?</h1>"]
    if links:
        parts.append(f"<nav><p>All curves, tables and pictures:</p>\n<ul>\n{links}\n</ul></nav>")
    if "exact" in frames:
        parts += of_exact(frames["exact"])
    parts += at_picture_size(results / "pictures.jsonl")
    if {"images", "populations"} & set(frames):
        parts += of_pictures(frames)
    if "guidance" in frames:
        tables = (tilted(frames["guidance"]), varied(frames["guidance"]))
        parts.append("<h2>A condition raised to a power</h2>")
        parts += [html(table) for table in tables if table.rows]
    return "\n".join([*parts, *made(frames)])
