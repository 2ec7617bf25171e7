"""Files to electrocardiograms in mV, at the rate of the prior."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...core.errors import InputError, require
from ..arrays import existing, is_array
from .coloured import stretches
from .formats import UNITS, Raw, extra, read_arrays, read_csv, read_edf, read_mat, read_wfdb
from .leads import EIGHT, TWELVE, independent, lead_of, off_einthoven, plain_name

READERS = {
    ".hea": read_wfdb,
    ".dat": read_wfdb,
    ".edf": read_edf,
    ".csv": read_csv,
    ".mat": read_mat,
}
# Of every prior, in Hz; files have rates in between these.
RATE, SLOWEST, FASTEST = 100.0, 20.0, 1e5
# Seconds of one value after which a lead, or three and more at once, are taken for leads that are not connected.
FLAT, APART = 1.0, 0.2
# By how much of the lead, or by how many mV, Einthoven's relations may be missed: rounding, and leads of other moments.
OFF, ROUNDING = 0.03, 0.02
# A step of a record whose gains cannot be right, in mV.
STEP = 1e-3
# Seconds that hold a beat; mV that some lead spans at least, that leads of a prior reach, and that none has.
BEAT, FAINT, HIGH, MOST = 1.0, 0.05, 5.0, 20.0
# mV that a lead is from 0 for half of the time at most.
OFFSET = 0.5
# Samples in a row, and the share of such ones, that have the largest value of a lead that was clipped.
RUN, OFTEN = 4, 0.005


@dataclass(frozen=True)
class Record:
    """A recording at the rate of the prior.

    Args:
        name: Of its file.
        values: `[k, time]`, in mV; NaN is missing.
        leads: Names of the rows, in the order of the twelve.
        rate: Of the file, in Hz.
        length: Samples of the file.
        said: How it was read, in sentences.
        gone: Leads that hold nothing: all NaN, or one value.
        flat: Stretches of one value, in words.
        peaks: The largest absolute value of each row in the file.
        clipped: Leads that hold their largest value again and again.
    """

    name: str
    values: Tensor
    leads: tuple[str, ...]
    rate: float
    length: int
    said: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    flat: str = ""
    peaks: tuple[float, ...] = ()
    clipped: tuple[str, ...] = ()

    @property
    def there(self) -> list[str]:
        """The leads that hold something."""
        return [lead for lead in self.leads if lead not in self.gone]

    def rows(self, leads: Sequence[str]) -> Tensor:
        """Some of them, `[k, time]`.

        Raises:
            InputError: If one is not there.
        """
        for lead in leads:
            if lead not in self.leads:
                raise InputError(
                    f"{self.name} has no lead {lead}; it has {', '.join(self.leads)}."
                )
            if lead in self.gone:
                raise InputError(
                    f"The lead {lead} of {self.name} is missing: it is flat or NaN throughout. Leave it out of --keep, "
                    "and it is drawn with the others."
                )
        return self.values[[self.leads.index(lead) for lead in leads]]


def read_record(path: Path) -> Record:
    """A recording, in mV at 100 Hz, with the leads that are of the twelve.

    Raises:
        InputError: If it cannot be read, has none of the twelve leads or one of them twice, or says no rate or unit
            that is known.
    """
    stat = existing(path).stat()
    return _read(path, (stat.st_mtime_ns, stat.st_size))


# A run looks at its file several times.
@functools.lru_cache(maxsize=1)
def _read(path: Path, stamp: tuple[int, int]) -> Record:
    read = READERS.get(path.suffix.lower())
    if read is None and not is_array(path):
        raise InputError(
            f"{path.name} is of no kind that ECGs are read from: {', '.join(READERS)}, .npy, .npz."
        )
    raw = read_arrays(path) if read is None else read(path)
    if raw.values.ndim != 2 or raw.values.shape[1] < 2:
        raise InputError(f"{path.name} holds no samples.")
    said = list[str]()
    rate = _rate(raw, path, said)
    rows, leads = _leads(raw, path, said)
    values = _millivolts(raw, rows, path, said)
    gone, flat = _flat(values, leads, rate)
    together = _constant(values, rate, APART) if len(values) > 2 else []
    for row in values:
        for a, b in (*_constant(row[None], rate), *together):
            row[a:b] = np.nan
    values = _checked(values, raw, rows, leads, path, said)
    clipped = _plausible(values, leads, gone, rate, path, said)
    length = values.shape[1]
    peaks = np.nan_to_num(np.abs(values)).max(1)
    x = torch.from_numpy(resampled(values, rate, RATE, path.name).astype(np.float32))
    if rate != RATE:
        slow = f" That it holds nothing above {rate / 2:g} Hz is taken for a measurement."
        said.append(
            f"{path.name} has {rate:g} Hz and is taken at {RATE:g} Hz.{slow if rate < RATE else ''}"
        )
    said += raw.said
    if gone:
        said.append(f"{', '.join(gone)} of {path.name} hold nothing and are taken as missing.")
    return Record(
        path.name,
        x,
        tuple(leads),
        rate,
        length,
        tuple(said),
        tuple(gone),
        flat,
        tuple(peaks.tolist()),
        tuple(clipped),
    )


def _rate(raw: Raw, path: Path, said: list[str]) -> float:
    rate = raw.rate
    if rate is None and not is_array(path):
        raise InputError(
            f"{path.name} does not say its rate: give it a column time (in seconds), a line '# rate 500' before the "
            "names, or (in a file of MATLAB or .npz) a number fs."
        )
    if rate is None:
        said.append(f"{path.name} says no rate (fs), and is taken at {RATE:g} Hz.")
        return RATE
    if not SLOWEST <= rate <= FASTEST:
        raise InputError(
            f"{path.name} has a rate of {rate:g} Hz; an ECG has {SLOWEST:g} to {FASTEST:g}."
        )
    return rate


def _leads(raw: Raw, path: Path, said: list[str]) -> tuple[list[int], list[str]]:
    """Which rows are leads of the twelve, in their order, and their names."""
    count = len(raw.values)
    names = list(raw.names)
    if not names:
        if count not in {8, 12}:
            raise InputError(
                f"{path.name} has {count} leads and does not name them; give an .npz with their names (leads), or all "
                "8 or 12 of them."
            )
        names = list(EIGHT if count == 8 else TWELVE)
        said.append(f"{path.name} names no leads; its {count} are taken as {', '.join(names)}.")
    found = dict[str, int]()
    for i, name in enumerate(names):
        lead = lead_of(name)
        if lead in found:
            raise InputError(
                f"{path.name} has the lead {lead} twice, as {names[found[lead]]!r} and {name!r}; leave one out of it."
            )
        if lead is not None:
            found[lead] = i
    aside = [name or "?" for name in names if lead_of(name) is None]
    if not found:
        raise InputError(
            f"{path.name} has none of the twelve leads; its signals are named {', '.join(aside)}."
        )
    if aside:
        said.append(f"{', '.join(aside)} of {path.name} are none of the twelve and left aside.")
    for about, start in (("a modified lead", "ML"), ("IEC's name of a chest lead", "C")):
        said += [
            f"{names[i]} ({about}) is taken as {lead}."
            for lead, i in found.items()
            if plain_name(names[i]).startswith(start)
        ]
    leads = sorted(found, key=TWELVE.index)
    return [found[lead] for lead in leads], leads


def _unit(text: str) -> str:
    """A unit with the letter u for the micro of either alphabet."""
    return text.strip().replace("\u00b5", "u").replace("\u03bc", "u")


def _millivolts(raw: Raw, rows: list[int], path: Path, said: list[str]) -> np.ndarray:
    factors, names = [], [_unit(raw.units[i]) if raw.units else "" for i in rows]
    for unit in names:
        if unit and unit.lower() not in UNITS:
            raise InputError(
                f"{path.name} is in {unit!r}; the units of an ECG are {', '.join(('mV', 'uV', 'V', 'nV'))}."
            )
        factors.append(UNITS[unit.lower() or "mv"])
    other = sorted({unit for unit in names if unit and UNITS[unit.lower()] != 1})
    if other:
        said.append(f"{path.name} is in {', '.join(other)} and is taken in mV.")
    if not all(names):
        said.append(f"{path.name} says no units, and is taken in mV.")
    values: np.ndarray = raw.values[rows] * np.array(factors)[:, None]
    values[np.isinf(values)] = np.nan
    most = float(np.nanmax(np.abs(values), initial=0))
    if most > MOST:
        raise InputError(
            f"{path.name} goes up to {most:.3g} mV, and an ECG to a few; say its units, such as uV, in the file, or "
            "take its offset away."
        )
    if most > HIGH:
        said.append(f"{path.name} goes up to {most:.3g} mV, beyond what the prior was trained on.")
    return values


def _plausible(
    values: np.ndarray, leads: list[str], gone: list[str], rate: float, path: Path, said: list[str]
) -> list[str]:
    """Raise if values can be those of no ECG, and say what else is strange; the leads that look clipped.

    Raises:
        InputError: If it is too faint in all leads, or two leads are one.
    """
    there = {lead: row for lead, row in zip(leads, values, strict=True) if lead not in gone}
    seconds = values.shape[1] / rate
    if seconds < BEAT:
        said.append(
            f"{path.name} lasts {seconds:.2g} s, in which there is no beat that the prior knows."
        )
    spans = {lead: float(np.nanmax(row) - np.nanmin(row)) for lead, row in there.items()}
    faint = [lead for lead, span in spans.items() if span < FAINT]
    if faint:
        most = max(spans[lead] for lead in faint)
        require(
            len(faint) < len(spans),
            f"No lead of {path.name} spans more than {most:.2g} mV, and those of an ECG span one or so; say their "
            "units, such as V, in the file.",
        )
        said.append(
            f"{', '.join(faint)} of {path.name} span {most:.2g} mV at most, less than most leads of an ECG. Leave them "
            "out of --keep if they are of another unit than the others, or not connected."
        )
    off = [lead for lead, row in there.items() if abs(float(np.nanmedian(row))) > OFFSET]
    if off:
        said.append(
            f"{', '.join(off)} of {path.name} are more than {OFFSET:g} mV from 0 for half of the time: an offset, of "
            "which the prior knows little; take it away first."
        )
    copies = [
        (a, b)
        for a, b in itertools.combinations(there, 2)
        if np.array_equal(there[a], there[b], equal_nan=True)
    ]
    if copies:
        raise InputError(
            f"{path.name} has one lead under two names: {' and '.join(copies[0])} are the same to the last bit. Leave "
            "the wrong one out of the file."
        )
    clipped = [lead for lead, row in there.items() if _held(row) > OFTEN]
    if clipped:
        said.append(
            f"{', '.join(clipped)} of {path.name} look clipped: the largest value is held again and again. --task clip "
            "takes what is there as the least that it may have been."
        )
    return clipped


def _held(row: np.ndarray) -> float:
    """The share of a lead that is at its highest or lowest value with others beside it."""
    ends = torch.from_numpy((row == np.nanmax(row)) | (row == np.nanmin(row)))
    return sum(b - a for a, b in stretches(ends) if b - a >= RUN) / len(row)


def _checked(
    values: np.ndarray, raw: Raw, rows: list[int], leads: list[str], path: Path, said: list[str]
) -> np.ndarray:
    """The values, or those of its integers where gains that differ from lead to lead break Einthoven's relations."""

    def off(rows: np.ndarray) -> tuple[str, float, bool]:
        lead, worst = off_einthoven(torch.from_numpy(rows), leads)
        own = [row for row, name in zip(rows, leads, strict=True) if name in TWELVE[:6]]
        level = max((float(np.nanstd(row)) for row in own if not np.isnan(row).all()), default=0)
        return lead, worst, worst > max(OFF * level, ROUNDING)

    with np.errstate(all="ignore"):
        lead, worst, bad = off(values)
        if not bad:
            return values
        if raw.steps is not None:
            steps = STEP * raw.steps[rows].astype(np.float64)
            if not off(steps)[2]:
                said.append(
                    f"The gains of the leads in {path.name} break Einthoven's relations ({lead} by {worst:.2g} mV), "
                    "which its integers keep: these are taken, with a step of 1 uV in every lead; if it is another, "
                    "correct the gains."
                )
                return np.where(np.isnan(values), np.nan, steps)
    own, others = independent(lead for lead in leads if lead in TWELVE[:6])
    said.append(
        f"{lead} of {path.name} is not what {' and '.join(own)} say of it (Einthoven): off by {worst:.2g} mV rms, "
        f"so that a lead is of another moment, swapped or wrongly scaled. {' and '.join(own)} are believed, and "
        f"{', '.join(others)} left aside."
    )
    return values


def _constant(rows: np.ndarray, rate: float, least: float = FLAT) -> list[tuple[int, int]]:
    """Stretches in which each of the rows holds a value, or none, longer than connected leads do."""
    steps = np.diff(rows)
    same = torch.from_numpy(((steps == 0) | np.isnan(steps)).all(0) & (steps == 0).any(0))
    return [(a, b + 1) for a, b in stretches(same) if b + 1 - a >= least * rate]


def _flat(values: np.ndarray, leads: list[str], rate: float) -> tuple[list[str], str]:
    """Leads that hold nothing, and stretches of others that are flat, in words."""
    gone, flat = [], []
    for lead, row in zip(leads, values, strict=True):
        known = row[~np.isnan(row)]
        if not len(known) or known.min() == known.max():
            gone.append(lead)
            continue
        flat += [
            f"{lead} from {a / rate:.2f} to {b / rate:.2f} s"
            for a, b in _constant(row[None], rate)
        ]
    more = f" and {len(flat) - 3} more" if len(flat) > 3 else ""
    return gone, ", ".join(flat[:3]) + more


def resampled(values: np.ndarray, rate: float, wanted: float, name: str) -> np.ndarray:
    """Values `[k, n]` at another rate, by a polyphase filter that keeps what both rates have; NaN stays missing.

    Raises:
        InputError: If the rates are in no ratio of whole numbers that holds over the recording.
    """
    if rate == wanted:
        return values
    ratio = Fraction(wanted / rate).limit_denominator(5000)
    n = values.shape[1]
    if not ratio or abs(float(ratio) * rate / wanted - 1) * n > 0.5:
        raise InputError(
            f"{name} has a rate of {rate:.10g} Hz, which no ratio of whole numbers takes to {wanted:g} Hz."
        )
    signal = extra("scipy.signal")

    def change(rows: np.ndarray) -> np.ndarray:
        made: np.ndarray = signal.resample_poly(
            rows, ratio.numerator, ratio.denominator, axis=1, padtype="line"
        )
        return made

    missing = np.isnan(values)
    if not missing.any():
        return change(values)
    filled, places = values.copy(), np.arange(n)
    for row, lost in zip(filled, missing, strict=True):
        row[lost] = np.interp(places[lost], places[~lost], row[~lost]) if not lost.all() else 0
    made = change(filled)
    # What a hundredth of the filter reads of a missing sample is missing.
    made[np.abs(change(missing.astype(np.float64))) > 0.01] = np.nan
    return made
