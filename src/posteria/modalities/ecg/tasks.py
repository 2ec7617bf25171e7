"""What is measured of an electrocardiogram: some of the leads, parts of them, with noise of a spectrum."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ...core.errors import InputError, expect, require, unknown
from ...operators import Clip, Composed, Inpainting, Operator
from ...operators.pixel import ColorMixing
from ..tasks import Option, Task
from .coloured import Coloured, power
from .files import RATE
from .leads import EIGHT, LIMBS, TWELVE, independent, leads_of, rows_of, twelve

Shape = tuple[int, ...]
# What a watch and a monitor see, and a monitor with one electrode on the chest.
USUAL = {"leads": "I,II", "bedside": "I,II,V5"}
BLOCKS = ("block", "each")

OPTIONS: dict[str, Option] = {
    "keep": Option("", "Leads that are measured, such as I,II,V5; default: those of INPUT."),
    "mask": Option(
        "block",
        "What is missing: block (in all leads at once), each (a block in each lead), random (samples), none, or a FILE "
        "(.npy, 1 where it is seen); default: what INPUT itself lacks, NaN or flat, or block to simulate.",
        file=True,
    ),
    "seconds": Option(2.5, "Length of a block that is missing.", of={"mask": BLOCKS}),
    "share": Option(0.3, "Share of the samples that is seen.", of={"mask": ("random",)}),
    "wander": Option(
        0.0, "Wander of the baseline (below 0.5 Hz): its standard deviation in that of --sigma."
    ),
    "muscle": Option(
        0.0, "Noise of muscles (above 20 Hz): its standard deviation in that of --sigma."
    ),
    "limit": Option(
        1.0,
        "Where the amplifier clips, in mV; default: the largest value of INPUT, or 1 to simulate.",
    ),
    "seed": Option(0, "Seed of where a mask is.", of={"mask": (*BLOCKS, "random")}),
}


def _measure(
    shape: Shape,
    keep: str = "",
    mask: str | Tensor = "",
    seconds: float = 0.0,
    share: float = 0.0,
    seed: int = 0,
    wander: float = 0.0,
    muscle: float = 0.0,
    usual: str = "",
) -> Operator:
    """Some leads, some of the time, whitened."""
    if len(shape) != 2 or shape[0] != len(EIGHT):
        raise InputError(f"ECGs are of 8 leads in time, (8, time); this prior has {shape}.")
    require(
        min(wander, muscle) >= 0 and max(wander, muscle) < 1e4,
        f"The noise of wander and muscle is at least 0 times the white one; {wander:g} and {muscle:g} are not.",
    )
    leads = independent(leads_of(keep or usual))[0] or list(EIGHT)
    size = (len(leads), shape[1])
    if isinstance(mask, Tensor):
        seen = mask
        require(
            tuple(seen.shape) in {size, size[1:]} and bool(((seen == 0) | (seen == 1)).all()),
            f"A mask holds 1 where {', '.join(leads)} are seen and 0 elsewhere, {size} or {size[1:]}; this one has "
            f"shape {tuple(seen.shape)}, or other values.",
        )
    else:
        seen = _mask(mask, size, seconds, share, seed)
    seen = seen.bool().expand(size)
    plain = all(lead in EIGHT for lead in leads)
    if plain:
        whole = torch.zeros(shape, dtype=torch.bool)
        whole[[EIGHT.index(lead) for lead in leads]] = seen
        seen = whole
    coloured = wander > 0 or muscle > 0
    if coloured and isinstance(mask, str) and mask == "random":
        raise InputError(
            "Noise with a spectrum (wander, muscle) is of unbroken stretches; take --mask block or each with it."
        )
    variances = partial(power, rate=RATE, wander=wander, muscle=muscle)
    outer = Coloured(seen, variances) if coloured else Inpainting(seen)
    return outer if plain else outer @ ColorMixing(rows_of(leads), shape)


def _mask(kind: str, shape: Shape, seconds: float, share: float, seed: int) -> Tensor:
    """Where leads are seen, `[leads, time]`."""
    seen, (k, n) = torch.ones(shape, dtype=torch.bool), shape
    generator = torch.Generator().manual_seed(seed)
    if kind in {"", "none"}:
        return seen
    if kind == "random":
        require(
            0 < share <= 1, f"The share that is seen is above 0 and at most 1; {share:g} is not."
        )
        count = max(1, round(share * k * n))
        seen.view(-1)[torch.randperm(k * n, generator=generator)[count:]] = False
        return seen
    if kind not in BLOCKS:
        raise unknown("mask", kind, [*BLOCKS, "random", "none", "FILE"])
    length = round(seconds * RATE)
    require(
        0 < length < n,
        f"A block that is missing has more than 0 and less than the {n / RATE:g} seconds of the signal; "
        f"{seconds:g} is not.",
    )
    starts = torch.randint(n - length + 1, (k if kind == "each" else 1,), generator=generator)
    for i, start in enumerate(starts.tolist()):
        seen[i if kind == "each" else slice(None), start : start + length] = False
    return seen


def _clipped(shape: Shape, keep: str, limit: float) -> Operator:
    inner = _measure(shape, keep)
    return Clip(inner.codomain.shape, gain=1.0, level=limit) @ inner


MASK = ("mask", "seconds", "share", "seed")
TASKS: dict[str, Task] = {
    "leads": Task(
        "only some leads were measured", partial(_measure, usual=USUAL["leads"]), ("keep",)
    ),
    "gap": Task("parts of the leads are missing", _measure, ("keep", *MASK)),
    "noise": Task(
        "noise: white, a wandering baseline, muscles", _measure, ("keep", "wander", "muscle")
    ),
    "bedside": Task(
        "some leads, with parts that are missing, and noise",
        partial(_measure, usual=USUAL["bedside"]),
        ("keep", *MASK, "wander", "muscle"),
    ),
    "clip": Task("the amplifier clipped", _clipped, ("keep", "limit")),
}


class Seen(NamedTuple):
    """What an operator measures of the twelve leads.

    Attributes:
        leads: Those that are measured, of the twelve.
        mask: Where, `[k, time]`.
        listed: The operator that lists what is seen of them.
    """

    leads: list[str]
    mask: Tensor
    listed: Inpainting

    def values(self, y: Tensor) -> Tensor:
        """A measurement in mV, `[k, time]`; NaN is missing."""
        values = self.listed.values(y) if isinstance(self.listed, Coloured) else y
        rows = torch.full(self.listed.domain.shape, torch.nan, dtype=y.dtype)
        rows[self.listed.mask.cpu()] = values.cpu()
        return rows[self.listed.mask.any(1).cpu()]

    def measurement(self, rows: Tensor) -> Tensor:
        """The measurement of rows `[k, time]` in mV."""
        whole = torch.zeros(self.listed.domain.shape, dtype=rows.dtype)
        whole[self.listed.mask.any(1)] = rows
        return self.listed(whole)

    def known(self) -> Tensor:
        """Where each of the twelve is measured, or follows from what is, `[12, time]`."""
        known = torch.zeros(12, self.mask.shape[1], dtype=torch.bool)
        known[[TWELVE.index(lead) for lead in self.leads]] = self.mask
        limbs = len(LIMBS)
        known[:limbs] |= known[:limbs].sum(0) >= 2
        return known

    def all_known(self, y: Tensor) -> Tensor:
        """What is known by a measurement of all twelve, `[12, time]` in mV; NaN where nothing is."""
        rows = self.values(y).double()
        out = torch.full((12, rows.shape[1]), torch.nan, dtype=torch.float64)
        out[[TWELVE.index(lead) for lead in self.leads]] = rows
        pair = [lead for lead in self.leads if lead in LIMBS]
        if len(pair) == 2:
            two = torch.linalg.solve(
                rows_of(pair)[:, :2], rows[[self.leads.index(p) for p in pair]]
            )
            every = twelve()[: len(LIMBS), :2] @ two
            out[: len(LIMBS)] = torch.where(every.isnan(), out[: len(LIMBS)], every)
        return out


def seen_by(operator: Operator) -> Seen:
    """What an operator of these tasks measures."""
    inner = (
        operator.inner
        if isinstance(operator, Composed) and isinstance(operator.outer, Clip)
        else operator
    )
    rows, listed = list(EIGHT), inner
    if isinstance(inner, Composed):
        mixing, listed = expect(inner.inner, ColorMixing, by="An ECG"), inner.outer
        rows = [
            next(lead for lead in TWELVE if torch.equal(rows_of([lead])[0], row.cpu()))
            for row in mixing.matrices[0]
        ]
    listed = expect(listed, Inpainting, by="An ECG")
    own = listed.mask.any(1).cpu()
    return Seen(
        [r for r, s in zip(rows, own.tolist(), strict=True) if s], listed.mask[own].cpu(), listed
    )
