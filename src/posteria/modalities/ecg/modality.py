"""Electrocardiograms behind the interface of all kinds of data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import InputError, require, unknown
from ...core.space import Space
from ...operators import Operator
from ...priors.card import Card
from ..arrays import is_array, read_array
from ..base import Figure, Modality, Outcome, Signal
from ..tasks import Degradation, Option, Source, Task
from .coloured import Coloured, estimate_noise
from .figures import figures_of, sheet_of
from .files import RATE, Record, read_record
from .leads import EIGHT, TWELVE, independent, leads_of, rows_of
from .tasks import MASK, OPTIONS, TASKS, USUAL, seen_by
from .write import wfdb_files

NOT_MEDICAL = (
    "This is not a medical device: what was not measured is a guess of a model, not for diagnosis."
)
# Tasks that take what a file lacks as what is missing.
FILLING = ("gap", "bedside")


class ECG(Modality):
    """Electrocardiograms `[8 leads, time]` in mV at 100 Hz: I, II and V1 to V6, of which the other four follow."""

    name: ClassVar[str] = "ecg"
    about: ClassVar[str] = "(8 leads, time)"
    noun: ClassVar[str] = "ECG"
    written: ClassVar[str] = "as twelve leads in mV, at its own rate and length"
    suffixes: ClassVar[frozenset[str]] = frozenset({".hea", ".edf", ".csv", ".mat"})
    tasks: ClassVar[Mapping[str, Task]] = TASKS
    options: ClassVar[Mapping[str, Option]] = OPTIONS

    @override
    def of(self, card: Card) -> "ECG":
        data = card.data
        require(
            data.rate == RATE and data.units.lower() == "mv",
            f"ECGs are read in mV at {RATE:g} Hz, and the card of the prior {card.name!r} says "
            f"{f'{data.rate:g} Hz' if data.rate else 'no rate'} and units {data.units!r}: a network for them is "
            f'trained on such, and says rate = {RATE:g} and units = "mV" below [data] in its card.toml.',
        )
        return self

    @override
    def suits(self, space: Space) -> bool:
        return len(space.shape) == 2 and space.shape[0] == len(EIGHT)

    @override
    def read(self, path: Path, shape: tuple[int, ...], *, taker: str, fit: bool = False) -> Signal:
        record = read_record(path)
        two = record.rows(_first_two(record))
        limbs = torch.linalg.solve(rows_of(_first_two(record))[:, :2].float(), two)
        x = torch.cat([limbs, record.rows(EIGHT[2:])])
        _expect_whole(x, record, EIGHT, "is no clean ECG")
        return _signal(_fitted(x, shape[1], record.name, taker, fit), record, shape[1])

    @override
    def read_measurement(
        self, path: Path, degradation: Degradation, *, taker: str, std: float, fit: bool = False
    ) -> Signal:
        operator = degradation.operator
        kept = _kept(path)
        if kept is not None and tuple(kept.shape) == operator.codomain.shape:
            return Signal(kept, path.name)
        record, seen = read_record(path), seen_by(operator)
        rows = _fitted(record.rows(seen.leads), seen.mask.shape[1], record.name, taker, fit)
        _expect_whole(torch.where(seen.mask, rows, 0.0), record, seen.leads, "lacks something")
        if degradation.task == "clip":
            rows = _clipped(rows, record, seen.leads, float(degradation.options["limit"]), std)
        y = seen.measurement(torch.where(seen.mask, rows, 0.0))
        signal = _signal(y, record, rows.shape[1])
        derived = [lead for lead in record.there if lead not in seen.leads]
        limbs = independent([*seen.leads, *derived])[1]
        said = f"{', '.join(limbs)} follow from the other limb leads and are no measurements of their own."
        return replace(signal, said=(*signal.said, said)) if limbs else signal

    @override
    def read_option(
        self,
        option: str,
        path: Path,
        shape: tuple[int, ...],
        options: Mapping[str, Any],
        source: Source | None,
    ) -> tuple[Tensor, str]:
        if option != "mask":
            raise unknown("option that is read from a file", option, ["mask"])
        leads = independent(leads_of(options["keep"]))[0] or list(EIGHT)
        if source is not None and path == source.path and _kept(path) is None:
            record = read_record(path)
            missing = _fitted(record.rows(leads), shape[1], record.name, "the prior takes", True)
            seen = ~missing.isnan()
        else:
            mask = read_array(path, "mask")
            shapes, binary = {(shape[1],), (len(leads), shape[1])}, np.isin(mask, (0, 1)).all()
            wrong = f"shape {mask.shape}" if binary else "other values than 0 and 1"
            require(
                bool(binary) and mask.shape in shapes,
                f"The mask {path.name} has {wrong}; it holds 1 where {', '.join(leads)} are seen and 0 elsewhere, "
                f"{(len(leads), shape[1])} or {(shape[1],)} at {RATE:g} Hz.",
            )
            seen = torch.from_numpy(mask.astype(bool)).expand(len(leads), shape[1]).clone()
        if seen.all():
            raise InputError(
                f"{path.name} lacks nothing: no NaN, and no lead that is flat for a second. Say by --mask block, each, "
                "random or FILE what is missing."
            )
        share = 100 * float(1 - seen.float().mean())
        return seen, f"Missing is what {path.name} lacks: {share:.1f} % of {', '.join(leads)}."

    @override
    def stated_by(
        self, source: Source, task: str, options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], str]:
        if _kept(source.path) is not None:
            return {}, ""
        asked = leads_of(str(options.get("keep", "")))
        if source.simulate:
            keep = asked or leads_of(USUAL.get(task, ",".join(EIGHT)))
            return {"keep": ",".join(independent(keep)[0])}, NOT_MEDICAL
        record = read_record(source.path)
        record.rows(asked)
        keep = independent(asked or record.there)[0]
        if not keep:
            raise InputError(f"Every lead of {record.name} is flat or NaN throughout.")
        stated: dict[str, Any] = {"keep": ",".join(keep)}
        if task == "clip" and "limit" not in options:
            require(
                bool({*keep} & {*record.clipped}),
                f"No lead of {record.name} looks clipped: none holds its largest value again and again. Say by "
                "--option limit=1.5 at how many mV it was.",
            )
            stated["limit"] = float(
                f"{max(record.peaks[record.leads.index(k)] for k in keep):.6g}"
            )
        if task in FILLING and not {*options} & {*MASK}:
            lacks = task == "gap" or bool(record.rows(keep).isnan().any())
            stated["mask"] = str(source.path) if lacks else "none"
        return stated, NOT_MEDICAL

    @override
    def write(
        self, name: str, x: Tensor, like: Signal, operator: Operator | None = None
    ) -> Mapping[str, bytes]:
        rate = like.meta.get("rate")
        return {} if rate is None else wfdb_files(name, x, rate, like.meta["length"])

    @override
    def volume(self, like: Signal) -> int:
        # Twelve leads of 16 bits.
        return 24 * int(like.meta.get("length", 0))

    @override
    def figures(self, outcome: Outcome) -> Iterator[Figure]:
        return figures_of(outcome, NOT_MEDICAL)

    @override
    def uncertainty(self, samples: Tensor, operator: Operator) -> str:
        std = (rows_of(TWELVE).to(samples) @ samples).std(0)
        missing = ~seen_by(operator).known()
        values = std[missing] if missing.any() else std
        where = "where nothing was measured" if missing.any() else "over all leads"
        return f"±{float(values.mean()):.3f} mV {where}, ±{float(values.max()):.2f} at most"

    @override
    def sheet(self, name: str, samples: Tensor, caption: str) -> Figure:
        return sheet_of(name, samples, caption)

    @override
    def compare(self, name: str, rows: Mapping[str, Tensor], caption: str) -> list[Figure]:
        return [sheet_of(f"{name}-{row}.svg", x, f"{row}. {caption}") for row, x in rows.items()]

    @override
    def noise(self, std: float) -> str:
        return f"{std:g} mV"

    @override
    def estimated(self, y: Tensor, degradation: Degradation) -> float:
        if degradation.task not in {"leads", "gap", "noise"} or isinstance(
            seen_by(degradation.operator).listed, Coloured
        ):
            raise InputError(
                "--sigma auto estimates white noise of leads; say by --sigma how much there is beside a spectrum or "
                "of what was clipped."
            )
        return estimate_noise(seen_by(degradation.operator).values(y))

    @override
    def size_of(
        self, path: Path, task: Task, options: Mapping[str, Any], simulate: bool
    ) -> tuple[int, ...] | None:
        return None if _kept(path) is not None else (read_record(path).values.shape[1],)


def _first_two(record: Record) -> list[str]:
    """Two limb leads of which I and II follow."""
    limbs = [lead for lead in TWELVE[:6] if lead in record.there]
    lacking = [lead for lead in EIGHT[2:] if lead not in record.there]
    if len(limbs) < 2 or lacking:
        raise InputError(
            f"{record.name} has {', '.join(record.there)}; a clean ECG has two limb leads and V1 to V6. Without "
            "--simulate it is taken as the measurement, and the other leads are drawn."
        )
    return limbs[:2]


def _kept(path: Path) -> Tensor | None:
    """The measurement in the record of a run; None if it is a file of another kind."""
    if path.suffix.lower() != ".npz" or not path.exists():
        return None
    try:
        measured = read_array(path, "measurement")
    except InputError:
        # It has other arrays, or none: what reads recordings says so.
        return None
    return torch.from_numpy(measured).float() if measured.ndim == 1 else None


def _clipped(
    rows: Tensor, record: Record, leads: Sequence[str], limit: float, std: float
) -> Tensor:
    """Rows within the limit at which they were clipped, which a change of rate overshoots.

    Raises:
        InputError: If nothing of the file is at the limit, or something is beyond it.
    """
    most = max(record.peaks[record.leads.index(lead)] for lead in leads)
    if abs(most - limit) > 4 * std:
        how = "nothing is clipped" if most < limit else "it was not clipped there"
        raise InputError(
            f"{record.name} goes up to {most:.3g} mV in {', '.join(leads)}: with a limit of {limit:g} mV {how}. Leave "
            "--option limit out, and it is the largest value."
        )
    return rows.clamp(-limit, limit)


def _expect_whole(rows: Tensor, record: Record, leads: object, what: str) -> None:
    """Raise unless nothing is missing."""
    lost = rows.isnan()
    if not lost.any():
        return
    names = [lead for lead, row in zip(leads, lost, strict=True) if row.any()]  # type: ignore[call-overload]
    times = lost.any(0).nonzero().flatten() / RATE
    flat = f" ({record.flat} flat)" if record.flat else ""
    raise InputError(
        f"{record.name} {what}: {', '.join(names)} have NaN or are flat between {float(times[0]):.2f} and "
        f"{float(times[-1]):.2f} s{flat}. --task gap (with noise, bedside) takes that as missing and fills it, or "
        "leave the leads out of --keep."
    )


def _fitted(x: Tensor, length: int, name: str, taker: str, fit: bool) -> Tensor:
    """The first steps of a recording, if it has another length than is taken."""
    if x.shape[1] == length:
        return x
    if x.shape[1] < length or not fit:
        advice = "Add --fit to take its beginning." if x.shape[1] > length else "It is too short."
        raise InputError(
            f"{name} has {x.shape[1]} steps at {RATE:g} Hz; {taker} {length}. {advice}"
        )
    return x[:, :length]


def _signal(x: Tensor, record: Record, steps: int) -> Signal:
    """What was read of the first steps of a recording."""
    said, whole = list(record.said), record.values.shape[1]
    if steps < whole:
        said.append(
            f"{record.name} lasts {whole / RATE:.1f} s; its first {steps / RATE:g} s are taken, and files are written "
            "of these."
        )
    elif steps > 1024:
        said.append(
            f"{record.name} lasts {steps / RATE:.1f} s. The prior is local, so this is one posterior over all of it: "
            "nothing is cut and joined."
        )
    length = record.length if steps == whole else round(steps * record.rate / RATE)
    meta = {} if is_array(Path(record.name)) else {"rate": record.rate, "length": length}
    return Signal(x, record.name, meta, tuple(said))
