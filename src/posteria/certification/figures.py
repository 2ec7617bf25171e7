"""Rank histograms and coverage curves, as SVG that follows the colours of a page."""

import math
from collections.abc import Sequence
from html import escape

import torch
from torch import Tensor

from .certificate import Curve, Statistic

WARNING, PLAIN = "#d97706", "#4682b4"
# Sizes in the units of a figure, which is scaled to the width that it is given.
WIDTH, HEIGHT = 160, 72
LEFT, WIDE, TALL = 36, 320, 200
# Percentage points that a curve of coverage shows at most.
RANGES = (2, 5, 10, 20, 50)
# Of curves that are drawn together.
COLOURS = (PLAIN, "#7c9a3b", "#9467bd")


def binomial_interval(n: int, p: float, mass: float = 0.99) -> tuple[int, int]:
    """The central interval of a binomial count that holds at least `mass`."""
    k = torch.arange(n + 1, dtype=torch.float64)
    log = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    below = (log + k * math.log(p) + (n - k) * math.log1p(-p)).exp().cumsum(0)
    tail = (1 - mass) / 2
    return int((below < tail).sum()), int((below < 1 - tail).sum())


def bins_of(ranks: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Counts of neighbouring ranks in at most 10 bins, and the shares that they should have."""
    bins = min(10, max(5, len(ranks) // 5), n + 1)
    which = torch.arange(n + 1) * bins // (n + 1)
    counts = torch.bincount(which[ranks], minlength=bins)
    return counts, torch.bincount(which, minlength=bins).double() / (n + 1)


def histogram(tested: Statistic, samples: int, level: float) -> str:
    """The ranks of a statistic, with a band that holds each bar of an exact sampler in 99 % of the cases."""
    counts, shares = bins_of(torch.tensor(tested.ranks), samples)
    m, bins = len(tested.ranks), len(counts)
    bands = [binomial_interval(m, float(share)) for share in shares]
    top = 1.05 * max(int(counts.max()), *(high for _, high in bands))
    step = WIDTH / bins
    colour = WARNING if min(tested.adjusted) < level else PLAIN
    parts = []
    for i, (count, (low, high)) in enumerate(zip(counts.tolist(), bands, strict=True)):
        tall, upper, lower = (HEIGHT * value / top for value in (count, high, low))
        parts += [
            _box(i * step, HEIGHT - upper, step, upper - lower, "currentColor", 0.15),
            _box(i * step + 1, HEIGHT - tall, step - 2, tall, colour, 0.8),
        ]
    about = f"{tested.name}: {m} ranks in {bins} bins, {', '.join(map(str, counts.tolist()))}"
    return _svg(WIDTH, HEIGHT, about, parts)


def coverage(curves: dict[str, Curve]) -> str:
    """Coverage less credibility in percentage points, with two standard errors; 0 where samples are exact."""
    ends = {
        name: [(s - t - 2 * e, s - t + 2 * e) for t, s, e in _points(curve)]
        for name, curve in curves.items()
    }
    far = max(100 * abs(end) for band in ends.values() for pair in band for end in pair)
    most = next((each for each in RANGES if each > far), 100)

    def place(level: float, off: float) -> str:
        return f"{LEFT + WIDE * level:.1f},{TALL / 2 * (1 - 100 * off / most):.1f}"

    ticks = [
        *(
            f'<text x="{LEFT + WIDE * t}" y="{TALL + 14}" text-anchor="middle">{100 * t:.0f} %</text>'
            for t in (0.1, 0.5, 0.9)
        ),
        *(
            f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value}</text>'
            for y, value in ((10, f"+{most}"), (TALL / 2, 0), (TALL - 10, f"-{most}"))
        ),
    ]
    parts = [
        f'<g font-size="11" fill="currentColor" opacity=".7">{"".join(ticks)}</g>',
        f'<g stroke="currentColor" fill="none" opacity=".5"><rect x="{LEFT}" width="{WIDE}" height="{TALL}"/>'
        f'<path d="M{place(0, 0)}L{place(1, 0)}" stroke-dasharray="4 4"/></g>',
    ]
    for i, ((name, curve), colour) in enumerate(zip(curves.items(), COLOURS, strict=False)):
        above = [place(t, high) for t, (_, high) in zip(curve.levels, ends[name], strict=True)]
        below = [place(t, low) for t, (low, _) in zip(curve.levels, ends[name], strict=True)]
        middle = [place(0, 0), *(place(t, s - t) for t, s, _ in _points(curve)), place(1, 0)]
        parts += [
            f'<polygon points="{" ".join([*above, *below[::-1]])}" fill="{colour}" opacity=".25"/>',
            f'<polyline points="{" ".join(middle)}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{LEFT + 10}" y="{20 + 18 * i}" font-size="13" fill="{colour}">{escape(name)}</text>',
        ]
    about = "; ".join(f"{name}: 90 % intervals hold {c.stated(0.9)}" for name, c in curves.items())
    return _svg(LEFT + WIDE + 4, TALL + 18, about, parts)


def _points(curve: Curve) -> list[tuple[float, float, float]]:
    """Credibility, coverage and its error."""
    return list(zip(curve.levels, curve.coverage, curve.error, strict=True))


def _box(x: float, y: float, width: float, height: float, fill: str, opacity: float) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(height, 0.0):.1f}" fill="{fill}" '
        f'opacity="{opacity}"/>'
    )


def _svg(width: int, height: int, about: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(about)}">'
    return "".join([head, *parts, "</svg>"])
