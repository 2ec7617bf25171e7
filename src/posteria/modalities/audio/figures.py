"""Spectrograms, players, and how sure the level of each stem is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...operators import ChannelSum, Decimation, Inpainting, Operator
from ...operators.base import Composed
from ..base import Figure, Outcome, Scale, Sound
from ..image.pixels import HEAT, png
from .levels import levels_of
from .recording import encoded

# Samples of a window, and its lowest frequency that is shown; columns and rows of a spectrogram; samples that a page
# has room for.
WINDOW, LOWEST, COLUMNS, ROWS, VIEWS = 1024, 4, 1000, 96, 24
# Decibels of full scale, from the darkest colour to the lightest.
FAINT, LOUD = -100.0, -20.0
# Seconds of sound, of all players together, that a page holds; it plays the files beside it where there are more.
EMBEDDED = 600.0
SCALE = Scale(
    tuple(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in HEAT.astype(int)),
    tuple(f"{FAINT + (LOUD - FAINT) * k / 4:.0f}" for k in range(5)),
    "dB of full scale",
)


def beyond_sum(operator: Operator) -> Operator | None:
    """What was measured of the sum of the stems; None if that is the sum itself."""
    if isinstance(operator, Composed) and isinstance(operator.inner, ChannelSum):
        return operator.outer
    return None


def heard(operator: Operator, y: Tensor) -> Tensor:
    """A measurement as sound `[1, time]` at the prior's rate; what is missing is silent."""
    last = beyond_sum(operator)
    return last.pinv(y) if isinstance(last, Decimation | Inpainting) else y


def bands() -> Tensor:
    """What each row of a spectrogram takes of each frequency, `[ROWS, frequencies]`: each octave has as many rows."""
    lowest, n = LOWEST, WINDOW // 2 + 1
    edges = lowest * (n / lowest) ** (torch.arange(ROWS + 1) / ROWS)
    low, high, own = edges[:-1, None], edges[1:, None], torch.arange(n)
    return (high.minimum(own + 1) - low.maximum(own)).clamp(min=0) / (high - low)


def power_of(x: Tensor, gain: float) -> Tensor:
    """The power of sound `[..., time]` by frequency and time, `[..., ROWS, columns]`; 1 is a sine at full scale."""
    window, length = torch.hann_window(WINDOW, dtype=x.dtype), x.shape[-1]
    hop, rows, mixed = min(max(64, length // COLUMNS), WINDOW // 2), [], bands().to(x)
    for row in x.reshape(-1, length):
        spectrum = torch.stft(
            row[None], WINDOW, hop, WINDOW, window, pad_mode="constant", return_complex=True
        )
        power = mixed @ spectrum.abs().square()
        # Means over cells, of which a picture has fewer.
        rows.append(torch.nn.functional.adaptive_avg_pool1d(power, min(power.shape[-1], COLUMNS)))
    found = torch.cat(rows)
    return found.reshape(*x.shape[:-1], *found.shape[1:]) / (window.sum() / 2 * gain) ** 2


def drawn(power: Tensor) -> np.ndarray:
    """Powers `[rows of sound, frequency, time]` as colours, low frequencies at the bottom, one below the other."""
    level = (10 * power.clamp(min=1e-20).log10() - FAINT) / (LOUD - FAINT)
    place = level.clamp(0, 1).double().numpy()[:, ::-1] * (len(HEAT) - 1)
    knots = np.arange(len(HEAT))
    rows = np.stack([np.interp(place, knots, HEAT[:, c]) for c in range(3)], -1).astype(np.uint8)
    between = np.full((3, *rows.shape[2:]), 136, dtype=np.uint8)
    parts = [part for row in rows for part in (row, between)]
    # A short sound is shown as wide as a long one.
    return np.repeat(np.concatenate(parts[:-1]), -(-COLUMNS // (2 * rows.shape[2])), 1)


@dataclass(frozen=True)
class Player:
    """Shows sound.

    Args:
        rate: Samples a second.
        gain: Full scale in data units.
        labels: Of the rows.
        factor: By which everything is played, so that nothing is louder than full scale.
        embedded: Whether a page holds the sound.
    """

    rate: float
    gain: float
    labels: Sequence[str]
    factor: float = 1.0
    embedded: bool = True

    def sounds(self, x: Tensor, folder: str, labels: Sequence[str]) -> tuple[Sound, ...]:
        """A player of each row of `[rows, time]`."""
        made = []
        for label, row in zip(labels, x, strict=True):
            values = self.factor * row.double().numpy() / self.gain
            rate, name = round(self.rate), f"{folder}-{label}.wav" if label else f"{folder}.wav"
            shown = encoded(values, rate, "PCM_16", "FLAC") if self.embedded else None
            made.append(Sound(name, encoded(values, rate), label or "sound", shown))
        return tuple(made)

    def shown(
        self,
        x: Tensor,
        name: str,
        caption: str,
        part: str,
        label: str = "",
        labels: Sequence[str] | None = None,
    ) -> Figure:
        """The spectrograms of `[rows, time]`, one below the other, and their players."""
        picture = drawn(power_of(x, self.gain))
        rows = [str(i) for i in range(len(x))] if labels is None else labels
        sounds = self.sounds(x, name.removesuffix(".png"), rows)
        size = (picture.shape[0], picture.shape[1])
        return Figure(name, png(picture), caption, part, label, size, sounds=sounds)

    def axes(self, length: int) -> str:
        """What the sides of a spectrogram are, in a sentence."""
        low, high = LOWEST / WINDOW * self.rate, self.rate / 2
        quieter = f" Sound is played {1 / self.factor:.2g} times quieter, so that nothing clips."
        return (
            f"Across is time, {length / self.rate:.4g} s; upwards frequency by octaves, {low:.0f} to {high:.0f} Hz."
            f"{quieter if self.factor < 1 else ''}"
        )


def figures_of(outcome: Outcome, player: Player) -> Iterator[Figure]:
    """Levels by stem and second; measurement, mean, truth and each sample with players; where samples differ."""
    samples, operator = outcome.samples, outcome.operator
    length, count = samples.shape[-1], samples.shape[-2]
    y = heard(operator, outcome.y)
    peak = max(float(part.abs().max()) for part in (y, samples, samples.sum(-2)))
    views = min(len(samples), VIEWS) + 1 + (outcome.truth is not None)
    seconds = (1 + views * (count + 1)) * length / player.rate
    player = Player(
        player.rate,
        player.gain,
        player.labels,
        min(1.0, player.gain / peak) if peak else 1.0,
        seconds <= EMBEDDED,
    )
    mixed = beyond_sum(operator) is not None and count > 1
    rows = ", ".join(player.labels)
    axes = f"{'From top to bottom: ' + rows + '. ' if count > 1 else ''}{player.axes(length)}"

    def view(x: Tensor, name: str, label: str, caption: str, part: str = "view") -> Figure:
        figure = player.shown(x, f"{name}.png", f"{caption} {axes}", part, label, player.labels)
        if not mixed:
            return figure
        # What was measured is of the sum, which is what a person wants to hear restored.
        total = player.sounds(x.sum(0, keepdim=True), name, ["all"])
        return Figure(**{**vars(figure), "sounds": (*total, *figure.sounds)})

    yield levels_of(samples, outcome.truth, player.rate, player.gain, player.labels)
    measured = "What was measured: the sum of all stems." if count > 1 else "What was measured."
    caption = f"{measured} {player.axes(length)}"
    yield player.shown(y, "measurement.png", caption, "view", "measurement", [""])
    yield view(
        samples.mean(0), "mean", "mean", "The mean of the samples: quiet where they differ."
    )
    if outcome.truth is not None:
        yield view(outcome.truth, "truth", "truth", "The truth, which no sampler saw.")
    for i, (seed, x) in enumerate(zip(outcome.seeds, samples, strict=True)):
        about = f"A sample (seed {seed}): one answer that agrees with the measurement."
        part = "view" if i < VIEWS else "file"
        yield view(x, f"samples/{seed}", f"sample {seed}", about, part)
    if len(samples) > 1:
        yield _spread(samples, player, axes)


def _spread(samples: Tensor, player: Player, axes: str) -> Figure:
    """The power of what samples differ by."""
    mean, total = samples.mean(0), None
    for x in samples:
        power = power_of(x - mean, player.gain)
        total = power if total is None else total + power
    picture = drawn((total if total is not None else mean) / (len(samples) - 1))
    about = f"How uncertain the sound is: the power of what the samples differ by from their mean. {axes}"
    size = (picture.shape[0], picture.shape[1])
    return Figure("std.png", png(picture), about, "map", "uncertainty", size, scale=SCALE)
