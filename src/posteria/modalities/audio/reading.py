"""What is read of a recording: one channel, where it has gaps or is clipped, how loud it is."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...core.errors import InputError, require, unknown
from ..arrays import read_array
from .recording import CLIPPED, Recording, held
from .tasks import STEREO

# What a mixture's root mean square is in data units, of songs that the prior knows.
LOUD = (0.4, 2.0)
# Seconds and samples of silence to the last bit from which on it is a gap.
LEAST, FEW = 0.005, 4
# Standard deviations that the mean of a recording is from 0 at most.
OFFSET = 0.2
# Samples at the prior's rate around a gap that resampling mixes with it.
MARGIN = 32


def channel_of(recording: Recording, stereo: str) -> np.ndarray:
    """What is read of a recording, `[frames]`, of which 1 is full scale.

    Raises:
        InputError: If it has another number of channels than 1 or 2, or one and their difference is asked for.
    """
    x = recording.floats
    if stereo not in STEREO:
        raise unknown("way to read two channels", stereo, STEREO)
    if x.shape[1] == 1:
        require(
            stereo != "side",
            f"{recording.path.name} has one channel, which differs from no other; leave --stereo side out.",
        )
        return np.asarray(x[:, 0])
    if x.shape[1] != 2:
        raise InputError(
            f"{recording.path.name} has {x.shape[1]} channels; a measurement has one or two. Stems of a clean song are "
            "mixed first with --simulate."
        )
    return np.asarray(x @ np.array(STEREO[stereo][0], x.dtype))


def expect_finite(recording: Recording) -> None:
    """Raise `InputError` if a recording holds values that are not finite."""
    if not np.isfinite(recording.values).all():
        raise InputError(
            f"{recording.path.name} holds values that are NaN or infinite; --task gap restores what is NaN."
        )


def floats_of(path: Path, name: str, full: float) -> np.ndarray:
    """An array of floats, of which `full` is full scale.

    Raises:
        InputError: If it cannot be read, or holds integers, whose full scale nobody says.
    """
    array = read_array(path, name)
    require(
        array.dtype.kind == "f",
        f"{path.name} holds {array.dtype} values, whose full scale is not known; give floats, of which {full:g} is "
        "full scale, or a sound file.",
    )
    return array


def scale_of(x: np.ndarray, name: str) -> float:
    """What brings a mixture in data units to the loudness of the prior's songs.

    Raises:
        InputError: If it is silent.
    """
    level = float(np.std(x, dtype=np.float64))
    if level < 1e-4:
        raise InputError(
            f"{name} is silent, or holds one value throughout: there is nothing to restore in it. (What is taken of "
            "two channels says --stereo.)"
        )
    return 1.0 if LOUD[0] <= level <= LOUD[1] else float(f"{1 / level:.4g}")


def said_of_units(x: np.ndarray, gain: float, name: str) -> tuple[str, ...]:
    """What is to be said of the loudness of an array, which is taken as it is.

    Raises:
        InputError: If it is silent.
    """
    if scale_of(x, name) == 1:
        return ()
    return (
        f"{name} has a standard deviation of {np.std(x):.3g}, and songs of the prior have {LOUD[0]:g} to {LOUD[1]:g}: "
        f"arrays are taken as they are, in data units, of which {gain:g} are full scale.",
    )


def said_of_scale(scale: float, name: str) -> str:
    """A sentence on it; empty if there is nothing to say."""
    if scale == 1:
        return ""
    how = f"{scale:.3g} times louder" if scale > 1 else f"{1 / scale:.3g} times quieter"
    return f"{name} is taken {how}, as loud as the songs of the prior; files are written as loud as it is."


def silent_within(x: np.ndarray, rate: float) -> list[tuple[int, int]]:
    """Where a channel is NaN, or silent to the last bit; silence before the song and after it is no gap."""
    lost = (x == 0) | ~np.isfinite(x)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]]).astype(np.int8)))
    return [
        (int(a), int(b))
        for a, b in edges.reshape(-1, 2)
        if not np.isfinite(x[a:b]).all()
        or (b - a >= max(LEAST * rate, FEW) and a > 0 and b < len(x))
    ]


def gaps_in(x: np.ndarray, recording: Recording, to: float) -> tuple[str, str]:
    """The gaps that a channel of a recording has, in seconds, and a sentence on them.

    Args:
        x: The channel.
        recording: Where it is from.
        to: The prior's rate. If that is another, gaps are wider by what resampling mixes with them.

    Raises:
        InputError: If it has none.
    """
    name, rate = recording.path.name, recording.rate
    found = silent_within(x, rate)
    if not found:
        raise InputError(
            f"{name} has no gap: nothing within it is silent to the last bit for {1000 * LEAST:g} ms, or NaN. Say "
            "by --gap START-END in seconds where it is."
        )
    total, wider = sum(b - a for a, b in found) / rate, 0 if to == rate else MARGIN / to
    many = f"{len(found)} gaps" if len(found) > 1 else "one gap"
    return (
        ",".join(
            f"{max(a / rate - wider, 0):.6f}-{min(b / rate + wider, len(x) / rate):.6f}"
            for a, b in found
        ),
        f"{name} has {many}, of {total:.3g} s, where it is silent to the last bit or NaN.",
    )


def is_clipped(x: np.ndarray, level: float) -> np.ndarray:
    """Where a channel is at the level at which it was clipped, but for rounding."""
    return np.asarray(np.abs(x) >= level * (1 - 1e-4))


def plateaus(x: np.ndarray, step: float, p: Tensor, top: float, level: float) -> Tensor:
    """A clipped measurement at the prior's rate: flat where the file is, since resampling rounds it off.

    Args:
        x: The channel.
        step: Samples of the prior to one of it.
        p: The channel at the prior's rate, `[1, time]`, in data units.
        top: The level in data units.
        level: The level in the file.

    Raises:
        InputError: If nothing is clipped.
    """
    clipped = is_clipped(x, level)
    if not clipped.any():
        raise InputError(
            f"Nothing is clipped at a level of {level:g}; say another one by --level."
        )
    # Where the file is at the level on both sides: beside one alone the signal may be below it.
    signs = np.where(clipped, np.sign(x), 0)
    at = np.arange(p.shape[-1]) / step
    before, after = (
        signs[np.clip(edge, 0, len(x) - 1).astype(int)]
        for edge in (np.floor(at + 1e-9), np.ceil(at - 1e-9))
    )
    flat = torch.from_numpy(np.where(before == after, before, 0)).to(p)
    return torch.where(flat != 0, top * flat, p.clamp(-top, top))


def expect_clipped(x: np.ndarray, name: str) -> float:
    """The level at which a channel was clipped: its largest value.

    Raises:
        InputError: If it does not hold that.
    """
    level = float(f"{np.abs(x).max():.6g}")
    if not held(x, level * (1 - 1e-4)).any():
        raise InputError(
            f"{name} does not look clipped: no {CLIPPED} samples in a row have its largest value, {level:.3g} of full "
            "scale. Say by --level where it was, if it was filtered since."
        )
    return level


def said_of(
    recording: Recording,
    x: np.ndarray,
    stereo: str,
    task: str,
    rate: float,
    unit: float,
    std: float,
) -> tuple[str, ...]:
    """How a recording was read, in sentences.

    Args:
        recording: The file.
        x: The channel that was taken.
        stereo: How.
        task: What it went through.
        rate: That of the prior.
        unit: Full scale in data units.
        std: Of the noise, in data units.
    """
    name, said = recording.path.name, []
    if recording.values.shape[1] == 2:
        what, rest = {
            "mid": ("the mean of its two channels", "what they differ by stays as it is"),
            "side": ("half the difference of its two channels", "what they share stays as it is"),
            "left": ("the left channel", "the right one stays as it is"),
            "right": ("the right channel", "the left one stays as it is"),
        }[stereo]
        said.append(f"Of {name} {what} is taken{'' if task == 'separate' else f'; {rest}'}.")
    if recording.rate != rate:
        limit = f" What it has above {rate / 2:g} Hz is in none of the samples."
        if recording.rate < rate:
            limit = (
                f" That it holds nothing above {recording.rate / 2:g} Hz is taken for a measurement; --task bandwidth "
                "takes it for unknown."
            )
        said.append(
            f"{name} has {recording.rate} samples a second and is taken at {rate:g}."
            f"{limit if task != 'bandwidth' or recording.rate > rate else ''}"
        )
    known = x[np.isfinite(x)].astype(np.float64)
    if len(known) and abs(offset := float(known.mean())) > OFFSET * known.std():
        said.append(
            f"The samples of {name} have a mean of {offset:.2g} of full scale, and songs of the prior have none; take "
            "it away first, by a high-pass filter."
        )
    if task != "declip" and (count := recording.clipped):
        said.append(
            f"{name} is clipped: {count} of its samples, with others beside them, are at {recording.top:.3g} of full "
            "scale; --task declip restores such ones."
        )
    if task != "gap" and (lost := silent_within(x, recording.rate)):
        total = sum(b - a for a, b in lost) / recording.rate
        said.append(
            f"{name} is silent to the last bit for {total:.3g} s within, which is taken for a measurement; --task gap "
            "fills it."
        )
    if (rounding := recording.step / 12**0.5 * unit) > std / 2:
        said.append(
            f"Rounding to the depth of {name} leaves noise of {rounding:.2g} in data units, and --sigma says "
            f"{std:.2g}: samples are too sure with less than {max(rounding, std):.2g}."
        )
    if not recording.lossless:
        said.append(
            f"{name} was compressed with loss: what that left out is noise, which --sigma has to hold."
        )
    return tuple(said)
