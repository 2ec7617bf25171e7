"""Sound files in their own numbers, and back into files of their kind and depth."""

import io
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import InputError
from ..arrays import existing

# How numbers of a depth are kept without loss, and the largest of them; other kinds are read as floats.
KEPT = {
    "PCM_S8": "int16",
    "PCM_U8": "int16",
    "PCM_16": "int16",
    "PCM_24": "int32",
    "PCM_32": "int32",
}
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
# Containers that keep every number; what came compressed with loss is written as WAV.
LOSSLESS = {
    "WAV": ".wav",
    "WAVEX": ".wav",
    "FLAC": ".flac",
    "AIFF": ".aiff",
    "W64": ".w64",
    "RF64": ".wav",
}
# Lines of libsndfile's log of a file whose length is not what it states; seconds that a recording lasts;
# samples by which a stated length may be off where that is rounded.
LIES = r"data : \d+ \(should be.*|.*Chunk size .* > file length.*|.*lacks an end-of-stream bit.*"
LEAST = 0.05
FRAME = 4096
# Samples at full scale, one after another, of which a clipped file has some.
CLIPPED = 3
# Their share, from which on they are many: a slow tone has half of that.
OFTEN = 0.02


def _package(name: str) -> Any:
    try:
        return import_module(name)
    # Without its library soundfile raises an OSError.
    except (ImportError, OSError) as error:
        raise InputError(
            f"Sound is read and written with the package {name}: pip install 'posteria[audio]'."
        ) from error


@dataclass(frozen=True)
class Head:
    """What a file says before its sound.

    Args:
        frames: Samples of each channel.
        rate: Samples a second.
        channels: How many.
    """

    frames: int
    rate: int
    channels: int

    def length(self, rate: float) -> int:
        """Samples of the same time at another rate."""
        return max(1, round(self.frames * rate / self.rate))


@dataclass(frozen=True)
class Recording:
    """A sound file.

    Args:
        path: Where it was.
        values: `[frames, channels]`, in its own numbers.
        rate: Samples a second.
        format: Of the container, as libsndfile names it.
        subtype: Of the numbers.
    """

    path: Path
    values: np.ndarray
    rate: int
    format: str
    subtype: str

    @property
    def floats(self) -> np.ndarray:
        """`[frames, channels]`, of which 1 is full scale; in single precision where that holds every number."""
        kept = self.values.dtype
        if kept.kind == "f":
            return self.values
        exact = "float32" if kept.itemsize == 2 else "float64"
        return np.asarray(self.values.astype(exact) / -float(np.iinfo(kept).min))

    @property
    def lossless(self) -> bool:
        """Whether a file of its own kind keeps its numbers."""
        whole = self.subtype in BITS or self.subtype in {"FLOAT", "DOUBLE"}
        return whole and self.format in LOSSLESS

    @property
    def top(self) -> float:
        """The largest value, of full scale 1, less a step: positive numbers of a depth end one step earlier."""
        most = np.abs(np.nan_to_num(self.floats, posinf=0, neginf=0)).max(initial=0)
        return float(most * (1 - 1e-6) - 1.5 * self.step)

    @property
    def clipped(self) -> int:
        """How many samples are at the largest value, with others beside them; below full scale only if many are."""
        count = int(sum(held(x, max(self.top, 1e-9)).sum() for x in self.floats.T))
        whole = self.step > 0 and self.top > 1 - 4 * self.step
        return count if whole or count > OFTEN * self.values.size else 0

    @property
    def step(self) -> float:
        """Of its numbers, of full scale 1; 0 for floats, and for what was compressed with loss."""
        return float(2.0 ** (1 - BITS[self.subtype])) if self.subtype in BITS else 0.0


def held(x: np.ndarray, level: float) -> np.ndarray:
    """Where a channel is at a level, or beyond it, with others beside it."""
    full = np.pad(np.abs(x) >= level, CLIPPED - 1)
    ends = np.convolve(full, np.ones(CLIPPED), "valid") == CLIPPED
    return np.asarray(np.convolve(ends, np.ones(CLIPPED), "valid") > 0)


def head_of(path: Path, least: float = LEAST) -> Head:
    """What a file says before its sound.

    Args:
        path: The file.
        least: Seconds that it lasts at least.

    Raises:
        InputError: If it is no sound file, holds no sound or too little, or lies about its length.
    """
    existing(path)
    soundfile = _package("soundfile")
    try:
        info = soundfile.info(str(path), verbose=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise InputError(
            f"{path.name} cannot be read as sound: it is damaged, or of a kind that libsndfile does not read."
        ) from error
    if info.frames < 1 or info.channels < 1 or info.samplerate < 1:
        raise InputError(f"{path.name} is empty: it holds no sound.")
    # What libsndfile tells of a header that it mends without a word; recordings that were streamed state no length.
    wrong = re.search(LIES, info.extra_info)
    if wrong and not re.search(r"data : (0|4294967295|2147483\d+) \(should", info.extra_info):
        raise InputError(
            f"{path.name} is damaged: it has another length than it states, so that it is cut or its header is of "
            f"another file (libsndfile: {wrong[0].strip()})."
        )
    seconds = info.frames / info.samplerate
    if seconds < least:
        raise InputError(
            f"{path.name} lasts {seconds:.2g} s; a recording lasts {least:g} at least."
        )
    return Head(info.frames, info.samplerate, info.channels)


def read_recording(path: Path, least: float = LEAST) -> Recording:
    """Read a sound file, once; for its arguments and errors see `head_of`.

    Raises:
        InputError: Also if it ends before it says.
    """
    head = head_of(path, least)
    stat = path.stat()
    return _read(path, head, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1)
def _read(path: Path, head: Head, *version: int) -> Recording:
    soundfile = _package("soundfile")
    try:
        with soundfile.SoundFile(str(path)) as file:
            kept = KEPT.get(file.subtype, "float64" if file.subtype == "DOUBLE" else "float32")
            values = file.read(dtype=kept, always_2d=True)
            recording = Recording(path, values, file.samplerate, file.format, file.subtype)
    except (RuntimeError, OSError, ValueError) as error:
        raise InputError(f"{path.name} is damaged: its sound cannot be decoded.") from error
    # Of what is compressed with loss the length is rounded to frames.
    if len(values) < head.frames - (0 if recording.lossless else FRAME):
        raise InputError(
            f"{path.name} is damaged: it says that it has {head.frames} samples, and ends after {len(values)}."
        )
    values.flags.writeable = False
    return recording


def resampled(x: np.ndarray, rate: float, to: float, length: int) -> np.ndarray:
    """Sound `[frames]` or `[frames, channels]` at another rate, of a length; filtered, where fewer samples are left."""
    if rate != to:
        x = _package("soxr").resample(x, rate, to, quality="HQ")
    x = x[:length]
    return np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)])


def encoded(x: np.ndarray, rate: int, subtype: str = "PCM_16", format: str = "WAV") -> bytes:
    """A file of sound `[frames]` or `[frames, channels]`, of which 1 is full scale, or of a file's own integers.

    Where it is louder than full scale it is written as floats, in which nothing is clipped.
    """
    if x.dtype.kind == "f" and subtype in BITS:
        if len(x) and np.abs(x).max() > 1:
            subtype, format = "FLOAT", "WAV"
        else:
            x = integers(x, subtype)
    # WAV files of 8 bits have no sign.
    subtype = "PCM_U8" if (subtype, format) == ("PCM_S8", "WAV") else subtype
    buffer = io.BytesIO()
    _package("soundfile").write(buffer, x, rate, subtype=subtype, format=format)
    return buffer.getvalue()


def integers(x: np.ndarray, subtype: str) -> np.ndarray:
    """Sound in the numbers that `Recording.values` has for a depth, rounded to that."""
    kept = np.dtype(KEPT[subtype])
    top, unit = 2.0 ** (BITS[subtype] - 1), 1 << (8 * kept.itemsize - BITS[subtype])
    return ((x * top).round().clip(-top, top - 1) * unit).astype(kept)


def put_back(recording: Recording, x: np.ndarray, changed: np.ndarray) -> tuple[str, bytes]:
    """A file with sound `[frames, channels]` in place where it changed, `[frames]`; suffix and content.

    The rest stays as it is to the last bit, but for a file that was compressed with loss, which becomes a WAV.
    """
    if not recording.lossless:
        whole = np.where(changed[:, None], x, recording.floats)
        return ".wav", encoded(whole, recording.rate)
    values = recording.values.copy()
    if values.dtype.kind == "f":
        values[changed] = x[changed]
    elif np.abs(x[changed]).max(initial=0) > 1:
        return ".wav", encoded(
            np.where(changed[:, None], x, recording.floats), recording.rate, "FLOAT"
        )
    else:
        values[changed] = integers(x[changed], recording.subtype)
    return LOSSLESS[recording.format], encoded(
        values, recording.rate, recording.subtype, recording.format
    )
