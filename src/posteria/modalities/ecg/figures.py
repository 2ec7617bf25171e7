"""Electrocardiograms as they are printed: 25 mm/s, 10 mm/mV, on paper with a grid of 1 and 5 mm."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..base import Figure, Outcome
from .files import RATE
from .leads import TWELVE, twelve
from .tasks import seen_by

# Tenths of a pixel: of a millimetre, of a step of time at 25 mm/s, of a millivolt.
MM, STEP, MV = 40, round(25 * 40 / RATE), 400
# Seconds of a page and of a column of it, the lead below them, pages of a report, and samples that it shows.
PAGE, COLUMNS, RHYTHM, PAGES, VIEWS = 10.0, 4, "II", 6, 12
# Of a letter of the line below, about, in the same units.
WIDE = 62
# By how many mV a row reaches below and above 0 at least, and at most.
LOWEST, LEAST, MOST = 0.4, 1.3, 4.0
STYLE = """
.p{fill:#fffafa}.g{stroke:#f5dede;stroke-width:4}.G{stroke:#eec4c4;stroke-width:7}path{fill:none}
.w{fill:#2563eb;fill-opacity:.17}.n{fill:#2563eb;fill-opacity:.32}.m{stroke:#1d4ed8;stroke-width:13}
.y,.c{stroke:#111;stroke-width:10}.t{stroke:#d9480f;stroke-width:11;stroke-dasharray:36 22}
text{font:150px system-ui,sans-serif;fill:#111}.s{font-size:120px}
.km{fill:#1d4ed8}.kt{fill:#d9480f}path{stroke-linejoin:round}
@media(prefers-color-scheme:dark){.p{fill:#17181c}.g{stroke:#2a2327}.G{stroke:#473238}
.w{fill:#6ea8ff;fill-opacity:.22}.n{fill:#6ea8ff;fill-opacity:.36}.m{stroke:#8bbcff}.y,.c{stroke:#f4f4f4}
.t{stroke:#ffa94d}text{fill:#e8e8e8}.km{fill:#8bbcff}.kt{fill:#ffa94d}}
"""
MEASURED, TRUE = "Plain: measured", '<tspan class="kt">dashes: the truth</tspan>'
BANDS = '<tspan class="km">line: median; shades: 50 and 90 % of the samples</tspan>'


class Cell(NamedTuple):
    """A stretch of one lead.

    Attributes:
        label: Its name.
        lines: Values `[time]` in mV by the class of their style; NaN is a gap.
        areas: Pairs of lower and upper ends, likewise.
    """

    label: str
    lines: Mapping[str, Tensor]
    areas: Mapping[str, tuple[Tensor, Tensor]] = {}


def paper(rows: Sequence[Sequence[Cell]], foot: str) -> tuple[bytes, tuple[int, int]]:
    """Rows of stretches side by side as SVG, and its height and width in pixels.

    Args:
        rows: From the top.
        foot: A line of markup below them.
    """
    left, y, parts = 9 * MM, 2 * MM, list[str]()
    longest = max(sum(_length(cell) for cell in row) for row in rows)
    for row in rows:
        low, high = _reach(row)
        y += _up(high)
        parts.append(f'<path class="c" d="M{2 * MM} {y}h{MM}v{-MV}h{5 * MM}v{MV}h{MM}"/>')
        x = left
        for i, cell in enumerate(row):
            parts += [f'<path class="{k}" d="{_area(*v, x, y)}"/>' for k, v in cell.areas.items()]
            parts += [f'<path class="{k}" d="{_line(v, x, y)}"/>' for k, v in cell.lines.items()]
            if i:
                parts.append(
                    f'<path class="c" d="M{x} {y - MV // 2}v{-2 * MM}m0 {MV + 4 * MM}v{-2 * MM}"/>'
                )
            parts.append(
                f'<text x="{x + MM}" y="{y - _up(high) + 4 * MM}">{escape(cell.label)}</text>'
            )
            x += STEP * _length(cell)
        y += _up(-low, LOWEST)
    foot = f"25 mm/s, 10 mm/mV. {foot}"
    # A short record is no wider than its lines, and their explanation below is.
    wide = max(left + STEP * longest, WIDE * len(re.sub(r"<[^>]*>", "", foot)))
    width, height = wide + 2 * MM, y + 8 * MM
    # Whole squares of 5 mm.
    width, height = (5 * MM * math.ceil(side / (5 * MM)) for side in (width, height))
    grid = "".join(
        f'<path class="{name}" d="{"".join(f"M{i} 0v{height}" for i in range(0, width + 1, side))}'
        f'{"".join(f"M0 {i}h{width}" for i in range(0, height + 1, side))}"/>'
        for name, side in (("g", MM), ("G", 5 * MM))
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width // 10}" height="{height // 10}" '
        f'viewBox="0 0 {width} {height}"><style>{STYLE}</style><rect class="p" width="{width}" height="{height}"/>'
        f'{grid}{"".join(parts)}<text class="s" x="{2 * MM}" y="{height - 2 * MM}">{foot}</text>'
        "</svg>"
    )
    return svg.encode(), (height // 10, width // 10)


def _length(cell: Cell) -> int:
    return max(len(line) for line in cell.lines.values())


def _up(level: float, least: float = LEAST) -> int:
    """Room above or below 0 for a level in mV, in whole squares of 5 mm."""
    return 5 * MM * math.ceil(min(max(level, least), MOST) * 10 / 5)


def _reach(row: Sequence[Cell]) -> tuple[float, float]:
    every = torch.cat([
        *(line for cell in row for line in cell.lines.values()),
        *(end for cell in row for ends in cell.areas.values() for end in ends),
    ])
    known = every[every.isfinite()]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)


def _heights(values: Tensor, y: int) -> list[int]:
    return (y - MV * values.double().clamp(-MOST, MOST)).round().int().tolist()


def _line(values: Tensor, x: int, y: int) -> str:
    """A line in relative steps, broken where values are missing."""
    parts, last, known = list[str](), None, values.isfinite().tolist()
    for i, (height, there) in enumerate(
        zip(_heights(values.nan_to_num(0), y), known, strict=True)
    ):
        if there:
            parts.append(
                f"M{x + STEP * i} {height}l" if last is None else f"{STEP} {height - last} "
            )
        last = height if there else None
    return "".join(parts)


def _area(low: Tensor, high: Tensor, x: int, y: int) -> str:
    upper, lower = _heights(high, y), _heights(low, y)
    steps = "".join(f"{STEP} {b - a} " for a, b in pairwise(upper))
    back = lower[::-1]
    more = "".join(f"{-STEP} {b - a} " for a, b in pairwise(back))
    return f"M{x} {upper[0]}l{steps}0 {back[0] - upper[-1]} {more}z"


class Page(NamedTuple):
    """A stretch of a recording with what is drawn of its twelve leads.

    Attributes:
        start: Its first step.
        lines: `[12, time]` each, by the class of their style.
        areas: Lower and upper ends, likewise.
    """

    start: int
    lines: dict[str, Tensor]
    areas: dict[str, tuple[Tensor, Tensor]]

    def cell(self, lead: str, a: int = 0, b: int | None = None) -> Cell:
        """A stretch of a lead."""
        i = TWELVE.index(lead)
        lines = {name: values[i, a:b] for name, values in self.lines.items()}
        return Cell(lead, lines, {k: (u[i, a:b], v[i, a:b]) for k, (u, v) in self.areas.items()})

    def sheet(self) -> list[list[Cell]]:
        """Three rows of four leads, and one of them below."""
        n = next(iter(self.lines.values())).shape[1]
        ends = [round(i * n / COLUMNS) for i in range(COLUMNS + 1)]
        rows = [
            [self.cell(TWELVE[3 * k + row], ends[k], ends[k + 1]) for k in range(COLUMNS)]
            for row in range(3)
        ]
        return [*rows, [self.cell(RHYTHM)]]

    def every(self) -> list[list[Cell]]:
        """A row for each lead."""
        return [[self.cell(lead)] for lead in TWELVE]


def page_of(samples: Tensor, known: Tensor, truth: Tensor | None, start: int, length: int) -> Page:
    """What is drawn of a stretch.

    Args:
        samples: `[n, 8, time]`.
        known: What was measured, `[12, time]`; NaN where nothing was.
        truth: `[8, time]`, if it is known.
        start: Its first step.
        length: Its steps.
    """
    part = slice(start, start + length)
    x = twelve().float() @ samples[..., part].float()
    lines, areas = dict[str, Tensor](), {}
    if len(x) > 1:
        q = torch.quantile(x, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]), 0)
        lines["m"], areas = q[2], {"w": (q[0], q[4]), "n": (q[1], q[3])}
    else:
        lines["m"] = x[0]
    if truth is not None:
        lines["t"] = twelve().float() @ truth[:, part].float()
    lines["y"] = known[:, part].float()
    return Page(start, lines, areas)


def figures_of(outcome: Outcome, notice: str) -> Iterator[Figure]:
    """Pages of twelve leads with their bands, where most is missing; every lead in full; samples."""
    seen = seen_by(outcome.operator)
    known, missing = seen.all_known(outcome.y.cpu()), ~seen.known()
    total = missing.shape[1]
    length = min(total, round(PAGE * RATE))
    starts = [s for s in range(0, total, length) if total - s >= length / 4]
    lost = {s: int(missing[:, s : s + length].sum()) for s in starts}
    shown = sorted(sorted(starts, key=lambda s: -lost[s])[:PAGES])
    foot = f"{MEASURED}; {BANDS}" + (f"; {TRUE}" if outcome.truth is not None else "")
    more = (
        ""
        if len(shown) == len(starts)
        else f" The {len(shown)} pages of {len(starts)} where most is missing."
    )
    for s in shown:
        page = page_of(outcome.samples, known, outcome.truth, s, length)
        when = f"{s / RATE:g} to {min(s + length, total) / RATE:g} s"
        about = f"{when}: what was measured, the median of {len(outcome.samples)} samples, and the bands that hold "
        about += f"half and nine tenths of them.{more} {notice}"
        yield _drawn(f"ecg-{s / RATE:g}s.svg", page.sheet(), foot, about)
        part = missing[:, s : s + length]
        if not (part == part[:, :1]).all():
            yield _drawn(
                f"leads-{s / RATE:g}s.svg", page.every(), foot, f"{when}: each lead in full."
            )
    yield from _views(outcome, known, max(shown, key=lambda s: lost[s]), length)


def _views(outcome: Outcome, known: Tensor, start: int, length: int) -> Iterator[Figure]:
    """What was measured, the mean, the truth and each sample, on one page."""
    part = slice(start, start + length)
    measured = {"y": known[:, part].float()}

    def view(name: str, label: str, about: str, x: Tensor | None = None) -> Figure:
        lines = {} if x is None else {"m": twelve().float() @ x[:, part].float()}
        foot = MEASURED if x is None else f'{MEASURED}; <tspan class="km">line: {label}</tspan>'
        about = f"{about} From {start / RATE:g} s on."
        return _drawn(name, Page(start, lines | measured, {}).sheet(), foot, about, "view", label)

    yield view("measurement.svg", "measurement", "What was measured.")
    mean = "The mean of the samples: sharp where they agree, flat where they differ."
    yield view("mean.svg", "mean", mean, outcome.samples.mean(0))
    if outcome.truth is not None:
        yield view("truth.svg", "truth", "The truth, which no sampler saw.", outcome.truth)
    for seed, x in list(zip(outcome.seeds, outcome.samples, strict=True))[:VIEWS]:
        about = f"A sample (seed {seed}): one ECG that agrees with the measurement."
        yield view(f"samples/{seed}.svg", f"sample {seed}", about, x)


def sheet_of(name: str, samples: Tensor, caption: str) -> Figure:
    """The first samples `[n, 8, time]`, lead II of each."""
    blank = torch.full((12, samples.shape[2]), torch.nan)
    rows = [
        [
            page_of(x[None], blank, None, 0, round(PAGE * RATE))
            .cell(RHYTHM)
            ._replace(label=f"{RHYTHM}, {i}")
        ]
        for i, x in enumerate(samples[:8])
    ]
    return _drawn(
        str(name).removesuffix(".png") + ("" if name.endswith(".svg") else ".svg"),
        rows,
        "",
        caption,
    )


def _drawn(
    name: str,
    rows: list[list[Cell]],
    foot: str,
    caption: str,
    part: str = "trace",
    label: str = "",
) -> Figure:
    svg, size = paper(rows, foot)
    return Figure(name, svg, caption, part, label, size)
