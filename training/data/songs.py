"""Songs of four stems, composed by a random rule and rendered: `python training/data/songs.py --out DIR`.

The rule knows keys, progressions of chords and a few ways in which each instrument plays; no pattern of anybody
else is in it. Needs `fluidsynth` and the soundfont FluidR3 (Debian: fluidsynth, fluid-soundfont-gm; MIT), and
`pip install mido scipy`. Song i is a function of its seed; what is there already is not made again.
"""

import argparse
import os
import random
import subprocess
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import wavfile
from scipy.signal import resample_poly

# A signal is so many times the waveform of full scale 1: its root mean square is about 0.5.
GAIN = 10.0
STEMS = ("bass", "drums", "guitar", "piano")
RATE = 11_025
# fluidsynth does not filter what it transposes; half of its rate is thrown away.
RENDERED = 2 * RATE
SOUNDFONT = "/usr/share/sounds/sf2/FluidR3_GM.sf2"
# Seeds from here on are never trained on.
HELD_OUT = 1_000_000
# Root mean squares of stems of full scale 1: the middle and the spread (of the logarithm) over songs.
LOUDNESS = {"bass": 0.045, "drums": 0.054, "guitar": 0.041, "piano": 0.032}
SPREAD = 0.4

TICKS = 480
SIXTEENTH = TICKS // 4
BARS = 16
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
# Degrees that follow a degree.
FOLLOWS = ((3, 4, 5, 1, 2, 0), (4, 4, 3), (5, 3), (4, 0, 1, 4), (0, 0, 5, 3), (3, 1, 4, 2), (0, 2))
# Programs of General MIDI that play a stem; for drums: kits.
PROGRAMS = {
    "bass": (32, 33, 33, 34, 35, 36, 37),
    "drums": (0, 0, 0, 8, 16, 25, 32, 40),
    "guitar": (24, 25, 25, 26, 27, 27, 28, 29, 30),
    "piano": (0, 0, 1, 2, 4, 5),
}
# Sixteenths of a bar at which hats, and strings, are struck.
EIGHTHS = range(0, 16, 2)
HATS = (EIGHTHS, EIGHTHS, range(0, 16, 4), range(16), (0, 3, 4, 7, 8, 11, 12, 15))
STRUMS = ((0, 4, 6, 8, 10, 12, 14), (0, 3, 6, 8, 11, 14), EIGHTHS, (0, 6, 8, 14))
KICK, SNARE, OPEN_HAT, CRASH, TOMS = 36, 38, 46, 49, (38, 45, 47, 48, 50, 43)


class Song:
    """A song of 16 bars.

    Attributes:
        notes: Of each stem: start, pitch, velocity and length, in ticks.
        tempo: Beats a minute.
    """

    def __init__(self, seed: int) -> None:
        self.random = draw = random.Random(seed)
        self.tempo = draw.uniform(72, 148)
        self.swing = draw.choice([0, 0, 0, 0.12, 0.2, 0.33]) if self.tempo < 135 else 0.0
        self.cents = draw.uniform(-50, 50)
        key, scale = draw.randrange(12), draw.choice([MAJOR, MAJOR, MINOR])
        tones = (0, 2, 4, 6) if draw.random() < 0.45 else (0, 2, 4)
        first, second = self._progression(), self._progression()
        degrees = [(second if bar // 4 % 4 == 2 else first)[bar % 4] for bar in range(BARS)]
        self.chords = [
            [key + scale[(degree + k) % 7] + 12 * ((degree + k) // 7) for k in tones]
            for degree in degrees
        ]
        self.programs = {stem: draw.choice(PROGRAMS[stem]) for stem in STEMS}
        # Four bars at a time, a stem may rest.
        self.rests = {stem: [draw.random() < 0.12 for _ in range(BARS // 4)] for stem in STEMS}
        self.loudness = {stem: LOUDNESS[stem] * np.exp(draw.gauss(0, SPREAD)) for stem in STEMS}
        self.notes: dict[str, list[tuple[int, int, int, int]]] = {stem: [] for stem in STEMS}
        for compose in (self._drums, self._bass, self._guitar, self._piano):
            compose()

    def _progression(self) -> list[int]:
        degrees = [self.random.choice([0, 0, 5, 3])]
        while len(degrees) < 4:
            degrees.append(self.random.choice(FOLLOWS[degrees[-1]]))
        return degrees

    def _play(
        self, stem: str, bar: int, place: float, pitch: int, velocity: float, length: float
    ) -> None:
        """A note at a sixteenth of a bar, a little loose in time and loudness."""
        swing = self.swing * SIXTEENTH if place % 4 == 2 else 0
        start = int((bar * 16 + place) * SIXTEENTH + swing + self.random.gauss(0, 5))
        velocity = min(124, max(12, int(velocity + self.random.gauss(0, 6))))
        if not self.rests[stem][bar // 4]:
            note = (max(0, start), pitch, velocity, max(20, int(length * SIXTEENTH)))
            self.notes[stem].append(note)

    def _drums(self) -> None:
        draw = self.random
        kick = {0, *draw.sample([2, 3, 6, 7, 8, 10, 11, 14], draw.randrange(1, 4))}
        kick |= {8} if draw.random() < 0.6 else set()
        snare = draw.choice([[4, 12], [4, 12], [8], [4, 12, 15], [4, 10, 12]])
        hats = draw.choice(HATS)
        cymbal = draw.choice([42, 42, 42, 51, 46, 70])
        for bar in range(BARS):
            fill = draw.choice([8, 10, 12]) if bar % 4 == 3 and draw.random() < 0.7 else 16
            for place in sorted(kick):
                self._play("drums", bar, place, KICK, 100, 1)
            for place in snare:
                if place < fill:
                    self._play("drums", bar, place, SNARE + 2 * (draw.random() < 0.1), 98, 1)
            for place in hats:
                if place < fill and draw.random() < 0.95:
                    pitch = cymbal if draw.random() < 0.95 else OPEN_HAT
                    self._play("drums", bar, place, pitch, 74 if place % 4 else 88, 1)
            for place in range(fill, 16):
                if draw.random() < 0.8:
                    self._play("drums", bar, place, draw.choice(TOMS), 80 + place, 1)
            if bar % 8 == 0:
                self._play("drums", bar, 0, CRASH, 96, 4)

    def _bass(self) -> None:
        draw = self.random
        style = draw.choice(["root", "fifth", "walk", "octave", "syncopated", "eighths"])
        low = 28 + draw.randrange(5)
        for bar, chord in enumerate(self.chords):
            root = low + (chord[0] - low) % 12
            following = low + (self.chords[(bar + 1) % BARS][0] - low) % 12
            third, fifth = root + (chord[1] - chord[0]) % 12, root + 7
            near = draw.choice([-1, 1, 2, -2])
            patterns: dict[str, list[tuple[int, int, float]]] = {
                "root": [(0, root, 7), (8, root, 6)],
                "fifth": [(0, root, 6), (6, root, 2), (8, fifth, 6), (14, root, 2)],
                "walk": [(0, root, 4), (4, third, 4), (8, fifth, 4), (12, following + near, 4)],
                "octave": [(i, root + 12 * (i % 4 == 2), 1.8) for i in range(0, 16, 2)],
                "eighths": [(i, root, 1.8) for i in range(0, 16, 2)],
                "syncopated": [
                    (0, root, 3), (3, root, 1), (6, fifth, 2), (10, root, 2),
                    (11, root + 12, 1), (14, following - 1, 2),
                ],
            }  # fmt: skip
            for place, pitch, length in patterns[style]:
                self._play("bass", bar, place, pitch, 92, 0.9 * length)

    def _guitar(self) -> None:
        draw = self.random
        style = draw.choice(["strum", "arpeggio", "chop", "power", "pick"])
        hits = draw.choice(STRUMS)
        chops, apart = draw.choice([(4, 12), (2, 6, 10, 14)]), draw.choice([2, 2, 4])
        middle = 55.0
        for bar, chord in enumerate(self.chords):
            voices = voicing(chord, 45, 79, middle)
            middle = sum(voices) / len(voices)
            strings = sorted({*voices, voices[0] + 12, min(voices[1] + 12, 84)})
            if style == "strum":
                for n, place in enumerate(hits):
                    for k, pitch in enumerate(strings if n % 2 == 0 else strings[::-1]):
                        self._play("guitar", bar, place + 9 * k / SIXTEENTH, pitch, 70, 2.2)
            elif style == "arpeggio":
                for n, k in enumerate((0, 2, 3, 1, 4, 3, 2, 1)):
                    self._play("guitar", bar, 2 * n, strings[k % len(strings)], 80, 3)
            elif style == "chop":
                for place, pitch in product(chops, voices):
                    self._play("guitar", bar, place, pitch, 78, 0.8)
            elif style == "power":
                root = 40 + (chord[0] - 40) % 12
                for place, pitch in product(hits, (root, root + 7, root + 12)):
                    self._play("guitar", bar, place, pitch, 88, 1.6)
            else:
                pitch = draw.choice(strings)
                for place in range(0, 16, apart):
                    if draw.random() < 0.75:
                        wanted = pitch + draw.choice([-4, -3, 3, 4, 5])
                        pitch = min((abs(p - wanted), p) for p in strings)[1]
                        self._play("guitar", bar, place, pitch, 82, 2)

    def _piano(self) -> None:
        draw = self.random
        style = draw.choice(["block", "comp", "alberti", "ballad", "stab"])
        comp, middle = draw.choice([[0, 6, 10], [0, 3, 8, 11], [2, 6, 12], [0, 4, 8, 12]]), 62.0
        for bar, chord in enumerate(self.chords):
            voices = voicing(chord, 52, 84, middle)
            middle, left = sum(voices) / len(voices), 36 + (chord[0] - 36) % 12
            if style == "block":
                for pitch in (*voices, left):
                    self._play("piano", bar, 0, pitch, 72, 14)
            elif style in {"comp", "stab"}:
                for place, pitch in product(comp, voices):
                    self._play("piano", bar, place, pitch, 74, 1.2 if style == "stab" else 2.6)
            elif style == "alberti":
                for n, k in enumerate((0, 2, 1, 2, 0, 2, 1, 2)):
                    self._play("piano", bar, 2 * n, voices[k], 70, 2.4)
            else:
                self._play("piano", bar, 0, left, 72, 8)
                self._play("piano", bar, 8, left + 7, 68, 8)
                for n in range(8):
                    if draw.random() < 0.8:
                        pitch = voices[n % len(voices)] + 12 * (draw.random() < 0.15)
                        self._play("piano", bar, 2 * n, pitch, 66, 4)

    def midi(self, stem: str) -> Any:
        """One stem, in the middle, tuned as the song is."""
        import mido

        channel = 9 if stem == "drums" else 0
        bend = round(8192 * self.cents / 200) if stem != "drums" else 0
        track = mido.MidiTrack([
            mido.MetaMessage("set_tempo", tempo=int(6e7 / self.tempo)),
            mido.Message("program_change", channel=channel, program=self.programs[stem]),
            mido.Message("pitchwheel", channel=channel, pitch=bend),
        ])
        events = [
            event
            for start, pitch, velocity, length in self.notes[stem]
            for event in ((start, 1, pitch, velocity), (start + length, 0, pitch, 0))
        ]
        last = 0
        for time, on, pitch, velocity in sorted(events):
            note = {"note": pitch, "velocity": velocity, "time": time - last}
            track.append(mido.Message("note_on" if on else "note_off", channel=channel, **note))
            last = time
        track.append(mido.MetaMessage("end_of_track", time=max(0, BARS * 16 * SIXTEENTH - last)))
        return mido.MidiFile(ticks_per_beat=TICKS, tracks=[track])

    def render(self, soundfont: str) -> NDArray[np.int16]:
        """The stems, `[4, time]` at `RATE` of full scale 32768; a stem that rests throughout is silent."""
        length = int(BARS * 4 * 60 / self.tempo * RATE)
        out = np.zeros((len(STEMS), length))
        for row, stem in zip(out, STEMS, strict=True):
            if self.notes[stem]:
                heard = fluidsynth(self.midi(stem), soundfont)[:length]
                row[: len(heard)] = heard * (self.loudness[stem] / heard.std())
        return np.round(32767 * np.clip(out, -1, 1)).astype(np.int16)


def excerpt(song: NDArray[np.int16], start: int, length: int) -> torch.Tensor:
    """A part of a song as a signal, `[4, length]`."""
    return torch.from_numpy(song[:, start : start + length].astype(np.float32)) * (GAIN / 32768)


def voicing(chord: Sequence[int], low: int, high: int, middle: float) -> list[int]:
    """The chord between two pitches, inverted so that it is near one."""
    found = []
    for octave in range(2, 7):
        voices = sorted(pitch % 12 + 12 * octave for pitch in chord)
        for k in range(len(voices)):
            inverted = voices[k:] + [pitch + 12 for pitch in voices[:k]]
            if low <= inverted[0] and inverted[-1] <= high:
                found.append(inverted)
    return min(found, key=lambda voices: abs(sum(voices) / len(voices) - middle))


def fluidsynth(midi: Any, soundfont: str) -> NDArray[np.float64]:
    """What is heard, mono at `RATE`, with fluidsynth's reverberation."""
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder) / "score.mid", Path(folder) / "sound.wav"
        midi.save(score)
        options = f"-n -i -q -g 0.6 -r {RENDERED} -R 1 -C 0 -o synth.dynamic-sample-loading=1 -O s16 -T wav -F"
        command = ["fluidsynth", *options.split(), str(sound), soundfont, str(score)]
        subprocess.run(command, check=True, capture_output=True)
        _, heard = wavfile.read(sound)
    ratio = Fraction(RATE, RENDERED)
    return np.asarray(resample_poly(heard.mean(1), ratio.numerator, ratio.denominator))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of songs, one .npy each")
    parser.add_argument("--songs", type=int, default=1000, help="to train on, 35 s each")
    parser.add_argument("--held-out", type=int, default=100)
    parser.add_argument("--soundfont", default=SOUNDFONT)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in (*range(HELD_OUT, HELD_OUT + options.held_out), *range(options.songs)):
        path = options.out / f"{seed:07}.npy"
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}.part")
            with part.open("wb") as file:
                np.save(file, Song(seed).render(options.soundfont))
            part.replace(path)


if __name__ == "__main__":
    main()
