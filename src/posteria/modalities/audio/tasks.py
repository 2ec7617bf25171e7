"""What sound goes through, by name; everything is measured of the sum of the stems."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...core.errors import InputError, require, unknown
from ...operators import ChannelSum, Clip, Convolution, Decimation, Inpainting, Operator
from ..tasks import Option, Task

Shape = tuple[int, ...]
# What each channel of a file counts for in what is read of it, and what a change of that changes of each channel.
STEREO = {
    "mid": ((0.5, 0.5), (1.0, 1.0)),
    "side": ((0.5, -0.5), (1.0, -1.0)),
    "left": ((1.0, 0.0), (1.0, 0.0)),
    "right": ((0.0, 1.0), (0.0, 1.0)),
}
OPTIONS: dict[str, Option] = {
    "stereo": Option("mid", "What is read of two channels: mid, side, left or right."),
    "scale": Option(
        1.0,
        "How many times louder INPUT is taken; default: what brings it to the loudness of the prior's songs.",
    ),
    "level": Option(
        0.3, "Of full scale, at which it was clipped; default: the largest sample of INPUT."
    ),
    "gap": Option(
        "middle",
        "START-END in seconds, several with commas; default: where INPUT is silent to the last bit or NaN, or the "
        "middle fifth to simulate.",
    ),
    "cutoff": Option(
        2000.0,
        "Hz above which nothing is known; default: half the rate of INPUT, or 2000 to simulate.",
    ),
    "kernel": Option("", "FILE with the impulse response of the room.", file=True),
}
READING = ("stereo", "scale")


def gaps_of(text: str, rate: float, length: int) -> Tensor:
    """Where something is missing, `[length]`, from START-END,START-END in seconds.

    Raises:
        InputError: If it is nothing of the kind, or lies outside.
    """
    if text == "middle":
        text = f"{0.4 * length / rate}-{0.6 * length / rate}"
    missing = torch.zeros(length, dtype=torch.bool)
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            start, end = float(first), float(last)
        except ValueError as error:
            raise InputError(
                f"A gap is START-END in seconds, such as 1.5-1.8,3-3.25; {part!r} is not."
            ) from error
        seconds = length / rate
        require(
            0 <= start < end <= seconds + 0.5 / rate + 1e-6,
            f"A gap begins before it ends, within the {seconds:.6g} s of the recording; {part!r} does not.",
        )
        missing[math.floor(start * rate + 1e-6) : math.ceil(end * rate - 1e-6)] = True
    require(not missing.all(), "The gap is all there is: nothing is heard.")
    return missing


def tasks_of(rate: float, gain: float) -> dict[str, Task]:
    """The tasks of sound at a rate, where `gain` is full scale in data units."""

    def build(last: Callable[..., Operator] | None) -> Callable[..., Operator]:
        def built(shape: Shape, stereo: str, scale: float, **options: object) -> Operator:
            if stereo not in STEREO:
                raise unknown("way to read two channels", stereo, STEREO)
            require(0 < scale < math.inf, f"A scale is above 0; {scale} is not.")
            mixed = ChannelSum(shape)
            if last is None:
                return mixed
            return last((1, shape[-1]), scale=scale, **options) @ mixed

        return built

    def clipped(shape: Shape, scale: float, level: float) -> Operator:
        require(0 < level <= 1, f"A level is above 0 and at most 1, full scale; {level} is not.")
        return Clip(shape, 1.0, level * scale * gain)

    def gapped(shape: Shape, scale: float, gap: str) -> Operator:
        return Inpainting(~gaps_of(gap, rate, shape[-1]), shape)

    def band(shape: Shape, scale: float, cutoff: float) -> Operator:
        length = round(2 * cutoff / rate * shape[-1])
        require(
            1 <= length < shape[-1],
            f"A cutoff is above 0 and below {rate / 2:g} Hz, up to which the prior draws; {cutoff:g} Hz is not.",
        )
        return Decimation(length, shape)

    def room(shape: Shape, scale: float, kernel: str | Tensor) -> Operator:
        if not isinstance(kernel, Tensor):
            raise InputError("Say by --kernel which file has the impulse response of the room.")
        return Convolution(kernel, shape)

    return {
        "separate": Task("stems were mixed: the sum of all of them", build(None), READING),
        "declip": Task("it was too loud: values are clipped", build(clipped), (*READING, "level")),
        "gap": Task("parts of it are missing", build(gapped), (*READING, "gap")),
        "bandwidth": Task("high frequencies are lost", build(band), (*READING, "cutoff")),
        "reverb": Task("it was heard in a room", build(room), (*READING, "kernel")),
    }
