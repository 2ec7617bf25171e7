"""Files of electrocardiograms in the formats that they come in, as they are: names, numbers, rate, units."""

import csv
import importlib
import math
import re
import warnings
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import InputError, require
from ..arrays import arrays_in, existing
from .leads import lead_of

# Millivolts of one unit.
UNITS = {
    **dict.fromkeys(("mv", "millivolt", "millivolts"), 1.0),
    **dict.fromkeys(("uv", "microvolt", "microvolts"), 1e-3),
    **dict.fromkeys(("v", "volt", "volts"), 1e3),
    **dict.fromkeys(("nv", "nanovolt", "nanovolts"), 1e-6),
}
# Bytes of a sample in those formats of WFDB in which that is one number.
BYTES = {"8": 1.0, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5}
# What arrays in files of several are called.
SIGNALS = ("truth", "measurement", "ecg", "x", "val", "signal", "signals", "data", "p_signal")
RATES = ("fs", "rate", "sampling_rate", "sample_rate", "frequency", "freq")
CLOCKS = {"time", "times", "t", "seconds", "s", "ms", "milliseconds", "elapsed time"}
NAMES = ("leads", "lead_names", "sig_name", "names", "channels")
# A rate in a comment: `# rate 500`, `# sampling frequency: 0.5 kHz`, `# 500 Hz`; but no heart rate, and no filter.
SAYS_RATE = re.compile(
    r"(?:^|[,;(]|\bsampl\w*)[\s_-]*(?:rate|freq\w*|fs|hz)\b[\s:=]*([\d.]+)\s*(k?)|^\s*([\d.]+)\s*(k?)hz\W*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Raw:
    """What stands in a file.

    Args:
        values: `[k, n]`, in its units; NaN is missing.
        names: Of the rows, as they are spelled; empty if the file has none.
        rate: Samples a second; None if the file does not say.
        units: Of each row; empty if the file does not say.
        steps: The integers that the values were made of, `[k, n]`, if it holds such.
        said: What was taken for granted, in sentences.
    """

    values: np.ndarray
    names: Sequence[str] = ()
    rate: float | None = None
    units: Sequence[str] = ()
    steps: np.ndarray | None = field(default=None, repr=False)
    said: tuple[str, ...] = ()


@contextmanager
def quiet() -> Generator[None]:
    """Without what a package warns of its own dependencies, which is no news to a user of this one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def extra(module: str) -> Any:
    """A package of the extra `ecg`.

    Raises:
        InputError: If it is not there.
    """
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"Files of ECGs are read with {module.partition('.')[0]}, which is not installed: pip install "
            "'posteria[ecg]'. Arrays (.npz with the leads' names and the rate fs) need nothing more."
        ) from error


def read_wfdb(path: Path) -> Raw:
    """A record of WFDB by its header (.hea); its signal files lie beside it."""
    wfdb = extra("wfdb")
    path = existing(path.with_suffix(".hea"))
    base = str(path.with_suffix(""))
    try:
        with quiet():
            head = wfdb.rdheader(base)
            if isinstance(head, wfdb.MultiRecord):
                record = wfdb.rdrecord(base)
                return Raw(record.p_signal.T, record.sig_name, float(record.fs), record.units)
            _check_length(path, head)
            record = wfdb.rdrecord(base, physical=False)
            found, values = record.calc_checksum(), record.dac(return_res=64).T
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(
            f"{path.name} names the file {Path(str(error.filename)).name}, which is not beside it."
        ) from error
    # A damaged record fails in many ways.
    except Exception as error:
        raise InputError(
            f"{path.name} cannot be read as a record of WFDB: its header or its samples are damaged."
        ) from error
    stated = head.checksum or [None] * len(found)
    plain = all(frames == 1 for frames in head.samps_per_frame)
    for name, is_, said in zip(record.sig_name, found, stated, strict=True):
        if plain and said is not None and (said - is_) % 65536:
            raise InputError(
                f"The checksum of {name} in {path.name} is {said % 65536}, and that of its samples is {is_}: the "
                "record is damaged, or its header is of another one."
            )
    names = [name or "" for name in record.sig_name]
    return Raw(
        values, names, float(record.fs), record.units, record.d_signal.T, _uncalibrated(path)
    )


def _uncalibrated(path: Path) -> tuple[str, ...]:
    """A sentence where a header has no gain, or 0, for which WFDB takes 200 steps a mV."""
    lines = [line for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    heads = [line.split() for line in lines if not line.startswith("#")][1:]
    # A header ends its lines early where it leaves everything to WFDB.
    without = [
        head for head in heads if len(head) < 3 or re.fullmatch(r"0(\.0*)?(\(.*|/.*)?", head[2])
    ]
    if not without:
        return ()
    return (
        f"{path.name} states no gain for {len(without)} of its {len(heads)} signals: 200 steps a mV are taken, as WFDB "
        "does, so that their size may be wrong.",
    )


def _check_length(path: Path, head: Any) -> None:
    """Raise unless the signal files have the length that the header states."""
    for name in dict.fromkeys(head.file_name or ()):
        own = [i for i, file in enumerate(head.file_name) if file == name]
        each = sum(head.samps_per_frame[i] for i in own)
        data, size = path.parent / name, BYTES.get(head.fmt[own[0]])
        if not data.exists():
            raise InputError(f"{path.name} names the file {name}, which is not beside it.")
        if size is None or not head.sig_len:
            continue
        there = data.stat().st_size - (head.byte_offset[own[0]] or 0)
        # Some formats fill up their last word.
        if not -1 < there - math.floor(head.sig_len * each * size) < 4:
            raise InputError(
                f"{path.name} says {head.sig_len} samples of {len(own)} leads in {name}, and that holds "
                f"{there / (each * size):g}: the record is cut, or its header is of another one."
            )


def read_edf(path: Path) -> Raw:
    """A file in EDF or EDF+; its annotations are left aside."""
    edfio = extra("edfio")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            signals = edfio.read_edf(existing(path)).signals
            columns = [np.asarray(signal.data, np.float64) for signal in signals]
    except InputError:
        raise
    except Exception as error:
        why = str(error).rstrip(".") if isinstance(error, Warning) else "its header is damaged"
        raise InputError(f"{path.name} cannot be read as EDF: {why}.") from error
    require(bool(columns), f"{path.name} holds no signal.")
    volts = [i for i, s in enumerate(signals) if s.physical_dimension.strip().lower()[-1:] == "v"]
    leads = [i for i, s in enumerate(signals) if lead_of(s.label)] or volts or range(len(signals))
    # Leads of one recording have one rate; what has another one (breath, muscles) is something else.
    rates = Counter(float(signals[i].sampling_frequency) for i in leads)
    rate = max(rates, key=lambda each: (rates[each], each))
    kept = [i for i in sorted({*leads, *volts}) if signals[i].sampling_frequency == rate]
    aside = [signals[i].label for i in leads if i not in kept]
    return Raw(
        np.stack([columns[i] for i in kept]),
        [signals[i].label for i in kept],
        rate,
        [signals[i].physical_dimension for i in kept],
        said=(
            f"{', '.join(aside)} of {path.name} have another rate than {rate:g} Hz and are left aside.",
        )
        if aside
        else (),
    )


def read_csv(path: Path) -> Raw:
    """A table with the names of the leads in its first line; a column `time` is in seconds, `ms` in milliseconds.

    The rate may stand in a comment before it, `# rate 500`, and the units behind the names, `II (uV)`.
    """
    text = existing(path).read_bytes().decode("utf-8-sig", "replace")
    lines = text.splitlines()
    notes = [line for line in lines[:20] if line.startswith("#")]
    body = [line for line in lines if line.strip() and not line.startswith("#")]
    require(len(body) > 1, f"{path.name} holds no line of names with numbers below it.")
    sign = max(";\t,", key=body[0].count)
    heads = [head.strip() for head in next(csv.reader([body[0]], delimiter=sign))]
    columns = len(heads)
    try:
        # Commas of decimals, where something else stands between columns.
        point = "," if sign == "," else "."
        rows = [line.replace('"', "").replace(",", point) for line in body[1:]]
        table = np.genfromtxt(rows, delimiter=sign, dtype=np.float64, ndmin=2)
    except ValueError as error:
        raise InputError(
            f"{path.name} has rows of other lengths than its {columns} names: {str(error).splitlines()[-1].strip()}."
        ) from error
    if table.shape[1] != columns or _is_number(heads[0]):
        raise InputError(
            f"{path.name} has {table.shape[1]} columns of numbers below a line of {columns} names; its first line is "
            "to name the leads, such as time,I,II,V1."
        )
    said = [found for note in notes for found in SAYS_RATE.finditer(note.lstrip("#% "))]
    rates = [float(found[1] or found[3]) * (1e3 if found[2] or found[4] else 1) for found in said]
    parts = [re.match(r"(.*?)\s*[\[(](.*?)[\])]\s*$", head) for head in heads]
    names = [part[1] if part else head for part, head in zip(parts, heads, strict=True)]
    units = [part[2] if part else "" for part in parts]
    clock = None
    for i, name in enumerate(names):
        if name.lower() in CLOCKS:
            thousand = {name.lower(), units[i].lower()} & {"ms", "milliseconds"}
            clock = table[:, i] / (1e3 if thousand else 1)
            names[i] = ""
    rates += [] if clock is None else [_rate_of(clock, path.name)]
    kept = [i for i, name in enumerate(names) if name]
    rate = _one_rate(rates, path.name)
    return Raw(table[:, kept].T, [names[i] for i in kept], rate, [units[i] for i in kept])


def _one_rate(rates: Sequence[float], name: str) -> float | None:
    """The rate that a file says, perhaps several times; None if it says none."""
    require(
        not rates or max(rates) <= 1.01 * min(rates),
        f"{name} says several rates: {', '.join(f'{rate:g}' for rate in rates)} Hz. Leave the wrong ones out of it.",
    )
    return rates[-1] if rates else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _rate_of(clock: np.ndarray, name: str) -> float:
    """Of samples at these seconds."""
    steps = np.diff(clock)
    rate = (len(clock) - 1) / (clock[-1] - clock[0]) if len(steps) and clock[-1] > clock[0] else 0
    # Times are rounded, to milliseconds perhaps.
    if not rate or not np.all(np.abs(steps * rate - 1) < 0.5):
        raise InputError(f"The times in {name} do not rise by equal steps of seconds.")
    # A rate of 499.99 is that of rounded times.
    return float(round(rate)) if abs(rate - round(rate)) < 1e-3 * rate else float(rate)


def read_mat(path: Path) -> Raw:
    """A file of MATLAB up to version 7."""
    io = extra("scipy.io")
    if path.with_suffix(".hea").exists():
        return read_wfdb(path)
    try:
        found = io.loadmat(existing(path), squeeze_me=True, chars_as_strings=True)
    except NotImplementedError as error:
        raise InputError(f"{path.name} is of MATLAB 7.3; save it with -v7, or as .npz.") from error
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path.name} cannot be read as a file of MATLAB.") from error
    return _of_arrays({k: v for k, v in found.items() if not k.startswith("__")}, path.name)


def read_arrays(path: Path) -> Raw:
    """An array (.npy), or several (.npz) of which one is the signal; others may be its rate, names and units."""
    with arrays_in(path) as arrays:
        return _of_arrays(dict(arrays), path.name)


def _of_arrays(arrays: Mapping[str, Any], file: str) -> Raw:
    numbers = {k: np.asarray(v) for k, v in arrays.items()}
    tables = {k: v for k, v in numbers.items() if v.ndim == 2 and v.dtype.kind in "iufb"}
    named = next((name for name in SIGNALS if name in tables), None)
    if named is None and len(tables) != 1:
        raise InputError(
            f"{file} holds {', '.join(f'{k} {v.shape}' for k, v in numbers.items()) or 'nothing'}; one array of leads "
            "in time is needed, [leads, time], named x."
        )
    values = tables[named or next(iter(tables))].astype(np.float64)
    names = _texts(numbers, NAMES)
    units = _texts(numbers, ("units", "unit"))
    rates = [v.reshape(-1) for k, v in numbers.items() if k.lower() in RATES]
    require(
        all(v.size == 1 and v.dtype.kind in "iuf" for v in rates),
        f"The rate (fs) in {file} is not one number.",
    )
    if values.shape[0] > values.shape[1] or (names and values.shape[0] != len(names)):
        values = values.T
    k = len(values)
    units = units * k if len(units) == 1 else units
    for what, many in (("names", names), ("has units of", units)):
        require(
            len(many) in {0, k}, f"{file} {what} {len(many)} leads, and its array has {k} of them."
        )
    clocks = [
        v.astype(np.float64)
        for name, v in numbers.items()
        if name.lower() in {"t", "time", "times"}
        and v.shape == values.shape[1:]
        and v.dtype.kind in "iuf"
    ]
    found = [float(v[0]) for v in rates] + [_rate_of(v, file) for v in clocks]
    return Raw(values, names, _one_rate(found, file), units)


def _texts(arrays: Mapping[str, np.ndarray], keys: Sequence[str]) -> list[str]:
    """The texts of the first of these that is there."""
    found = next((v for k, v in arrays.items() if k.lower() in keys), np.array([]))
    return [
        (text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)).strip()
        for text in found.reshape(-1).tolist()
    ]
