"""The level of each stem in each second, with the interval that samples give it."""

from collections.abc import Sequence
from html import escape

import torch
from torch import Tensor

from ..base import Figure

# Sizes in the units of the drawing; decibels of full scale that it spans; seconds that it has room for.
WIDTH, HEIGHT, LEFT, TOP = 880, 60, 70, 6
FLOOR, CEILING, MOST = -50.0, -10.0, 240
# Of the interval: its share, and so its ends.
SHARE = 0.9
STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#333}.a{stroke:#8888;fill:none}.b{fill:#4682b4;opacity:.3}"
    ".m{stroke:#4682b4;stroke-width:2;fill:none}.t{stroke:#d97706;stroke-width:2;fill:none;stroke-dasharray:5 3}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>"
)


def levels(x: Tensor, rate: float, gain: float) -> tuple[Tensor, float]:
    """Root mean squares of sound `[..., time]` in dB of full scale, `[..., parts]`, and the seconds of a part."""
    seconds = max(1.0, -(-x.shape[-1] // (MOST * rate)))
    step = min(round(seconds * rate), x.shape[-1])
    # One row at a time, in double precision.
    rows = [row.double().unfold(-1, step, step).square().mean(-1) for row in x.flatten(0, -2)]
    parts = torch.stack(rows).reshape(*x.shape[:-1], -1).sqrt() / gain
    return 20 * parts.clamp(min=1e-8).log10(), step / rate


def levels_of(
    samples: Tensor, truth: Tensor | None, rate: float, gain: float, labels: Sequence[str]
) -> Figure:
    """A drawing of the levels of samples `[n, stems, time]`: median, 90 % interval, and the truth if it is known."""
    found, seconds = levels(samples, rate, gain)
    tail = (1 - SHARE) / 2
    low, middle, high = torch.quantile(found, torch.tensor([tail, 0.5, 1 - tail]).double(), 0)
    known = None if truth is None else levels(truth, rate, gain)[0]
    n, height = found.shape[-1], TOP + (HEIGHT + 10) * len(labels) + 10
    step = (WIDTH - LEFT) / n
    parts = []
    for i, label in enumerate(labels):
        top = TOP + i * (HEIGHT + 10)

        def up(value: float, top: float = top) -> float:
            share = (min(max(value, FLOOR), CEILING) - FLOOR) / (CEILING - FLOOR)
            return top + HEIGHT * (1 - share)

        def stairs(values: Sequence[float]) -> list[str]:
            return [
                f"{LEFT + (k + end) * step:.1f},{up(value):.1f}"
                for k, value in enumerate(values)
                for end in (0, 1)
            ]

        # To the right along its top and back along its bottom.
        band = [*stairs(high[i].tolist()), *stairs(low[i].tolist())[::-1]]
        parts += [
            f'<rect class="a" x="{LEFT}" y="{top}" width="{WIDTH - LEFT}" height="{HEIGHT}"/>',
            f'<text x="0" y="{top + 14}">{escape(label)}</text>',
            *(
                f'<text x="{LEFT - 6}" y="{up(v) + 4:.0f}" text-anchor="end" opacity=".7">{v:.0f}</text>'
                for v in (-40.0, -20.0)
            ),
            f'<polygon class="b" points="{" ".join(band)}"/>',
            f'<polyline class="m" points="{" ".join(stairs(middle[i].tolist()))}"/>',
        ]
        if known is not None:
            parts.append(f'<polyline class="t" points="{" ".join(stairs(known[i].tolist()))}"/>')
    parts += [
        f'<text x="{LEFT}" y="{height - 4}">0 s</text>',
        f'<text x="{WIDTH}" y="{height - 4}" text-anchor="end">{n * seconds:.4g} s</text>',
    ]
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f"{STYLE}{''.join(parts)}</svg>"
    )
    each = "second" if seconds <= 1 else f"{seconds:.3g} seconds"
    whose = " of each stem" if samples.shape[-2] > 1 else ""
    about = f"The level{whose} in each {each}, in dB of full scale: median and 90 % interval of the samples"
    if known is not None:
        inside = ((known >= low) & (known <= high)).double().mean()
        about += (
            f", and the truth (dashed), which is inside in {100 * float(inside):.0f} % of them"
        )
    return Figure("levels.svg", svg.encode(), about + ".", "trace", "levels", (height, WIDTH))
