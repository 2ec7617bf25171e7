"""Sound behind the interface of all kinds of data."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import InputError, require, unknown
from ...core.space import Space
from ...operators import Clip, Decimation, Inpainting, Operator
from ...priors.card import Card
from ..arrays import is_array, read_array
from ..base import Figure, Modality, Outcome, Signal
from ..tasks import Degradation, Option, Source, Task
from . import figures
from .figures import Player, beyond_sum
from .reading import (
    channel_of,
    expect_clipped,
    expect_finite,
    floats_of,
    gaps_in,
    is_clipped,
    plateaus,
    said_of,
    said_of_scale,
    said_of_units,
    scale_of,
)
from .recording import Recording, encoded, head_of, put_back, read_recording, resampled
from .tasks import OPTIONS, STEREO, gaps_of, tasks_of


@dataclass(frozen=True)
class Audio(Modality):
    """Sound `[stems, time]`, of which a file holds the sum.

    Args:
        rate: Samples a second.
        gain: Full scale in data units.
        names: Of the stems.
    """

    name: ClassVar[str] = "audio"
    about: ClassVar[str] = "(1, time), or (stems, time) with as many names in the card"
    noun: ClassVar[str] = "recording"
    written: ClassVar[str] = "in place, or a stem of it, in its own rate and depth"
    suffixes: ClassVar[frozenset[str]] = frozenset({
        *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
        *(".aif", ".aiff", ".w64", ".caf", ".au"),
    })
    options: ClassVar[Mapping[str, Option]] = OPTIONS
    sigma: ClassVar[float] = 0.01

    rate: float = 11025.0
    gain: float = 10.0
    names: tuple[str, ...] = ("bass", "drums", "guitar", "piano")
    tasks: Mapping[str, Task] = field(init=False, compare=False, repr=False)  # type: ignore[misc]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tasks_of(self.rate, self.gain))

    @override
    def of(self, card: Card) -> "Audio":
        data = card.data
        require(
            data.rate is not None and 0 < data.rate < np.inf,
            f"The prior {card.name!r} draws sound, and its card does not say how many samples of it make a second: "
            "write rate = 44100, or what it is, below [data] in the card.toml of its folder.",
        )
        return Audio(float(data.rate or 0), data.gain, data.names)

    @override
    def is_one(self, folder: Path) -> bool:
        return bool(self._stems(folder))

    def _stems(self, folder: Path) -> list[Path]:
        """The file of each stem in a folder; none if one of them is not there."""
        files = {path.stem.lower(): path for path in self._sounds(folder)}
        found = [files[name] for name in self.names if name in files]
        return found if len(found) == len(self.names) else []

    def _sounds(self, folder: Path) -> list[Path]:
        return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in self.suffixes]

    @override
    def suits(self, space: Space) -> bool:
        return len(space.shape) == 2 and space.shape[0] in {1, len(self.names)} - {0}

    @override
    def noise(self, std: float) -> str:
        return f"{std:.4g} in data units ({20 * np.log10(std / self.gain):.0f} dB of full scale)"

    @override
    def size_of(
        self, path: Path, task: Task, options: Mapping[str, Any], simulate: bool
    ) -> tuple[int, ...]:
        if is_array(path):
            shape = read_array(path, "truth" if simulate else "measurement").shape
            if not simulate and math.prod(shape) != shape[-1]:
                raise InputError(
                    f"{path.name} has shape {shape}; the array of a recording is one row, (time,) or (1, time)."
                )
            return (shape[-1],)
        first = (self._stems(path) or [path])[0] if path.is_dir() else path
        return (head_of(first).length(self.rate),)

    @override
    def read(self, path: Path, shape: tuple[int, ...], *, taker: str, fit: bool = False) -> Signal:
        parts, how = self._clean(path, shape[0], taker)
        x = torch.stack([self._fitted(part, path, shape[-1], taker, fit) for part in parts])
        cut = self._said_of_part(path, len(parts[0]), shape[-1])
        if is_array(path):
            units = said_of_units(x.sum(0).numpy(), self.gain, path.name)
            return Signal(x, path.name, said=(*cut, *units))
        scale = scale_of(x.sum(0).numpy(), path.name)
        said = (how, *cut, said_of_scale(scale, path.name))
        return Signal(scale * x, path.name, said=tuple(filter(None, said)))

    def _clean(self, path: Path, channels: int, taker: str) -> tuple[list[np.ndarray], str]:
        """Each stem in data units, at the prior's rate, and how they were found in a sentence if that is a question."""
        if is_array(path):
            array = floats_of(path, "truth", self.gain)
            if array.ndim != 2 or len(array) != channels or not np.isfinite(array).all():
                raise InputError(
                    f"{path.name} has shape {array.shape}; {taker} {channels} channels of finite numbers."
                )
            return list(array), ""
        if path.is_dir():
            files = self._stems(path)
            aside = [file for file in self._sounds(path) if file not in files]
            twice = [file.name for file in aside if file.stem.lower() in self.names]
            require(
                not (files and twice),
                f"{path} has several files of one stem; leave out {' and '.join(twice)}, or what is beside it.",
            )
            if not files:
                raise InputError(
                    f"{path} is a folder without a file of each stem: {', '.join(self.names)}."
                )
            found = [(file, self._mono(read_recording(file), "mid")) for file in files]
            lengths = {len(part) for _, part in found}
            if len(lengths) > 1:
                raise InputError(
                    f"The stems in {path} are not of one length; {taker} stems of one song."
                )
            names = ", ".join(file.name for file in aside)
            said = f"Left aside, of no stem that the prior draws: {names} in {path.name}."
            return [part for _, part in found], said if aside else ""
        recording = read_recording(path)
        expect_finite(recording)
        have = recording.values.shape[1]
        if have == channels > 1:
            columns = [recording.floats[:, c] for c in range(channels)]
            said = (
                f"The channels of {path.name} are taken as {', '.join(self.names)}, in that order."
            )
            return [self._at_rate(column, recording) for column in columns], said
        if channels == 1:
            return [self._mono(recording, "mid")], ""
        raise InputError(
            f"{path.name} has {have} channel{'s' * (have != 1)}; to simulate, {taker} {channels} stems: a folder with "
            f"a file of each ({', '.join(self.names)}), or one file with them as its channels, in that order."
        )

    def _said_of_part(self, path: Path, have: int, length: int) -> tuple[str, ...]:
        """A sentence if a recording has more samples than are taken."""
        lasts, first = have / self.rate, length / self.rate
        part = f"{path.name} lasts {lasts:.2f} s; its first {first:.2f} s are taken."
        return (part,) if have > length else ()

    def _mono(self, recording: Recording, stereo: str) -> np.ndarray:
        """One channel, in data units and at the prior's rate."""
        expect_finite(recording)
        return self._at_rate(channel_of(recording, stereo), recording)

    def _at_rate(self, x: np.ndarray, recording: Recording) -> np.ndarray:
        length = max(1, round(len(x) * self.rate / recording.rate))
        return np.asarray(self.gain * resampled(x, recording.rate, self.rate, length))

    def _fitted(self, x: np.ndarray, path: Path, length: int, taker: str, fit: bool) -> Tensor:
        if len(x) < length or (len(x) > length and not fit):
            have, want = (n / self.rate for n in (len(x), length))
            raise InputError(
                f"{path.name} has {len(x)} samples at {self.rate:g} Hz ({have:.2f} s); {taker} {length} ({want:.2f} s)."
                f"{' Add --fit to take its beginning.' if len(x) > length else ''}"
            )
        return torch.from_numpy(np.ascontiguousarray(x[:length], dtype=np.float32))

    @override
    def stated_by(
        self, source: Source, task: str, options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], str]:
        if is_array(source.path) or source.simulate:
            return {}, ""
        if source.path.is_dir():
            raise InputError(
                f"{source.path} holds the stems of a clean song; add --simulate to mix and degrade them."
            )
        recording = read_recording(source.path)
        stereo = str(options.get("stereo", "mid"))
        x = channel_of(recording, stereo)
        stated: dict[str, Any] = {}
        if "scale" not in options:
            stated["scale"] = scale_of(self.gain * np.nan_to_num(x), source.path.name)
        said = said_of_scale(stated.get("scale", 1.0), source.path.name)
        if task == "gap" and "gap" not in options:
            stated["gap"], how = gaps_in(x, recording, self.rate)
            said = f"{how} {said}".strip()
        if task == "declip":
            require(
                recording.values.shape[1] == 1 or stereo not in {"mid", "side"},
                f"{source.path.name} has two channels, each of which is clipped by itself; say --stereo left or "
                "--stereo right.",
            )
        if task == "declip" and "level" not in options:
            stated["level"] = expect_clipped(x, source.path.name)
        cutoff = float(options.get("cutoff", 0))
        if task == "bandwidth" and cutoff > recording.rate / 2:
            raise InputError(
                f"{source.path.name} holds nothing above {recording.rate / 2:g} Hz, half its rate; a cutoff of "
                f"{cutoff:g} Hz says that it does."
            )
        if task == "bandwidth" and not cutoff:
            if recording.rate >= self.rate:
                raise InputError(
                    f"{source.path.name} has {recording.rate} samples a second, which could hold all frequencies; say "
                    "by --cutoff from how many Hz on they are lost."
                )
            stated["cutoff"] = recording.rate / 2
        return stated, said

    @override
    def read_measurement(
        self, path: Path, degradation: Degradation, *, taker: str, std: float, fit: bool = False
    ) -> Signal:
        operator, last = degradation.operator, beyond_sum(degradation.operator)
        length = operator.domain.shape[-1]
        if is_array(path):
            return self._measured_array(path, operator, taker)
        recording = read_recording(path)
        options = degradation.options
        stereo, scale = str(options["stereo"]), float(options["scale"])
        x = channel = channel_of(recording, stereo)
        if degradation.task == "gap":
            x = np.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
        else:
            expect_finite(recording)
        x_there = self._at_rate(x, recording)
        p = scale * self._fitted(x_there, path, length, taker, fit)[None]
        unit = scale * self.gain
        said = said_of(recording, channel, stereo, degradation.task, self.rate, unit, std)
        said += self._said_of_part(path, len(x_there), length)
        meta = {
            "recording": recording,
            "stereo": stereo,
            "scale": scale,
            "taken": p,
            "task": degradation.task,
            "options": dict(options),
        }
        if isinstance(last, Clip):
            p = plateaus(x, self.rate / recording.rate, p, last.level, float(options["level"]))
        elif isinstance(last, Decimation | Inpainting):
            p = last(p)
        return Signal(p, path.name, meta, said)

    def _measured_array(self, path: Path, operator: Operator, taker: str) -> Signal:
        y = torch.from_numpy(floats_of(path, "measurement", self.gain).astype(np.float32))
        shape = operator.codomain.shape
        y = y.reshape(shape) if y.numel() == operator.codomain.size else y
        if tuple(y.shape) != shape or not y.isfinite().all():
            finite = "" if y.isfinite().all() else " with NaN or infinity in it"
            raise InputError(
                f"{path.name} has shape {tuple(y.shape)}{finite}; {taker} {shape}, of finite numbers."
            )
        return Signal(y, path.name, said=said_of_units(y.numpy(), self.gain, path.name))

    @override
    def read_option(
        self,
        option: str,
        path: Path,
        shape: tuple[int, ...],
        options: Mapping[str, Any],
        source: Source | None,
    ) -> tuple[Tensor, str]:
        if option != "kernel":
            raise unknown("option that is read from a file", option, ["kernel"])
        if is_array(path):
            array = floats_of(path, "kernel", 1)
            require(
                array.size == array.shape[-1],
                f"{path.name} has shape {array.shape}; an impulse response is one row, (time,) or (1, time).",
            )
            return torch.from_numpy(array.ravel().astype(np.float64)), ""
        x = self._mono(read_recording(path, least=0.0), "mid") / self.gain
        peak = float(np.abs(x).max(initial=0))
        if not peak:
            raise InputError(f"{path.name} is silent, and no impulse response.")
        return torch.from_numpy(
            x / peak
        ), f"The largest sample of {path.name} is taken as 1, the direct sound."

    @override
    def write(
        self, name: str, x: Tensor, like: Signal, operator: Operator | None = None
    ) -> Mapping[str, bytes]:
        recording = like.meta.get("recording")
        if not isinstance(recording, Recording):
            return {}
        unit = self.gain * like.meta["scale"]
        rate = max(recording.rate, round(self.rate))
        frames = round(len(recording.values) * rate / recording.rate)

        def there(signal: Tensor) -> np.ndarray:
            return resampled(signal.double().numpy() / unit, self.rate, rate, frames)

        if like.meta["task"] == "separate":
            # Of a recording of which a part was taken, stems are as long as that.
            frames = min(frames, round(x.shape[-1] * rate / self.rate))
            depth = recording.subtype if recording.lossless else "PCM_16"
            return {
                f"{name}-{stem}.wav": encoded(there(part), rate, depth)
                for stem, part in zip(self._labels(x), x, strict=True)
            }
        delta = there(x.sum(0) - like.meta["taken"][0])
        mix = np.array(STEREO[like.meta["stereo"]][1][: recording.values.shape[1]])
        mix = mix if len(mix) > 1 else np.ones(1)
        if rate != recording.rate:
            before = resampled(recording.floats, recording.rate, rate, frames)
            return {f"{name}.wav": encoded(before + delta[:, None] * mix, rate)}
        before = np.nan_to_num(recording.floats)
        changed = self._changed(like, recording)
        suffix, content = put_back(recording, before + delta[:, None] * mix, changed)
        return {name + suffix: content}

    @override
    def volume(self, like: Signal) -> int:
        recording = like.meta.get("recording")
        if not isinstance(recording, Recording):
            return 0
        apart = like.meta["task"] == "separate"
        numbers = len(recording.values) * max(1.0, self.rate / recording.rate)
        each = len(self.names) if apart else recording.values.shape[1]
        return math.ceil(numbers * each * recording.values.itemsize)

    def _changed(self, like: Signal, recording: Recording) -> np.ndarray:
        """Where a file of the input's own rate is replaced."""
        frames, options = len(recording.values), like.meta["options"]
        if like.meta["task"] == "gap":
            return gaps_of(options["gap"], recording.rate, frames).numpy()
        if like.meta["task"] == "declip":
            x = channel_of(recording, like.meta["stereo"])
            return is_clipped(x, options["level"])
        return np.ones(frames, dtype=bool)

    def _labels(self, x: Tensor) -> tuple[str, ...]:
        return self.names if x.shape[-2] == len(self.names) else ("sound",)

    def player(self, x: Tensor) -> Player:
        """What shows signals `[..., stems, time]`."""
        return Player(self.rate, self.gain, self._labels(x))

    @override
    def figures(self, outcome: Outcome) -> Iterable[Figure]:
        return figures.figures_of(outcome, self.player(outcome.samples))

    @override
    def uncertainty(self, samples: Tensor, operator: Operator) -> str:
        share = samples.var(0).mean() / samples.square().mean().clamp(min=1e-12)
        what = "the sound" if samples.shape[-2] == 1 else "a stem"
        return f"{float(share.sqrt()):.2f} of the root mean square of {what}, {10 * float(share.log10()):.1f} dB"

    @override
    def sheet(self, name: str, samples: Tensor, caption: str) -> Figure:
        return self.player(samples).shown(samples[:8].sum(-2), name, caption, "sheet")

    @override
    def compare(self, name: str, rows: Mapping[str, Tensor], caption: str) -> list[Figure]:
        return [
            self.player(x).shown(x[:8].sum(-2), f"{name}-{row}.png", caption, "strip", row)
            for row, x in rows.items()
        ]

    @override
    def metrics(self, truth: Tensor, samples: Tensor) -> dict[str, Tensor]:
        found = super().metrics(truth, samples)
        return found if len(truth) > 1 else {k: v for k, v in found.items() if k == "si_sdr"}
