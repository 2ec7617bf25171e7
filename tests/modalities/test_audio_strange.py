"""Files of sound that lie, lack or hide something: each is refused, or said, in a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import posteria as po
from common.stems import AUDIO, RATE, measured, song
from posteria.modalities import Source
from posteria.modalities.audio.recording import head_of, read_recording

T = 500
SHAPE = (4, T)


def wrong(tmp_path: Path) -> list[tuple[str, Any]]:
    files = {
        name: tmp_path / f"{name}.wav"
        for name in (
            "text",
            "empty",
            "silent",
            "three",
            "short",
            "nan",
            "loud",
            "cut",
            "two",
            "half",
            "lies",
            "still",
            "instant",
        )
    }
    files["text"].write_text("no sound")
    soundfile.write(files["empty"], np.zeros(0), RATE)
    soundfile.write(files["silent"], np.zeros(T), RATE)
    song(files["three"], 3)
    song(files["short"], seconds=0.2)
    x = song(files["two"], 2)
    soundfile.write(
        files["nan"], np.where(np.arange(T) == 7, np.nan, x[:, 0]), RATE, subtype="FLOAT"
    )
    song(files["cut"], seconds=0.5, subtype="PCM_16")
    content = files["cut"].read_bytes()
    files["cut"].write_bytes(content[:40] + content[40:44] + b"")
    files["half"].write_bytes(content[: len(content) // 2])
    files["lies"].write_bytes(content[:40] + (100).to_bytes(4, "little") + content[44:])
    soundfile.write(files["still"], np.full(T, 0.3), RATE)
    soundfile.write(files["instant"], x[:20], RATE)
    soundfile.write(tmp_path / "vorbis.ogg", np.tile(x[:, 0], 40), RATE)
    (tmp_path / "cut.ogg").write_bytes((tmp_path / "vorbis.ogg").read_bytes()[:9000])
    np.save(tmp_path / "column.npy", x[:, :1])
    np.save(tmp_path / "quiet.npy", 0 * x[:, 0])
    np.save(tmp_path / "nan.npy", np.nan * x[:, 0])
    np.save(tmp_path / "bits.npy", (x.T * 32767).astype("i2"))
    np.save(tmp_path / "still4.npy", np.zeros(SHAPE))
    np.save(tmp_path / "room.npy", x[:9])
    (tmp_path / "folder").mkdir()
    song(tmp_path / "folder" / "bass.wav")

    def read(name: str, **more: Any) -> Any:
        return lambda: measured(files[name], **{"task": "separate", **more})

    def sized(name: str) -> Any:
        return lambda: AUDIO.size_of(tmp_path / f"{name}.npy", AUDIO.tasks["separate"], {}, False)

    def clean(path: Path) -> Any:
        return lambda: AUDIO.read(path, SHAPE, taker="the prior 'stems' takes")

    return [
        ("text.wav cannot be read as sound: it is damaged", read("text")),
        ("empty.wav is empty", read("empty")),
        ("cut.wav is empty", read("cut")),
        ("silent.wav is silent", read("silent")),
        ("still.wav is silent, or holds one value", read("still")),
        (r"half.wav is damaged: .*\(libsndfile: data : 1000 \(should be", read("half")),
        ("lies.wav is damaged: it has another length than it states", read("lies")),
        (
            "cut.ogg is damaged: .*lacks an end-of-stream bit",
            lambda: head_of(tmp_path / "cut.ogg"),
        ),
        ("instant.wav lasts 0.02 s", read("instant")),
        # Catches: numbers of a file taken for data units, of which 10 are full scale; two channels of a room
        # taken in turns.
        ("bits.npy holds int16 values", lambda: measured(tmp_path / "bits.npy", "separate")),
        ("bits.npy holds int16 values", clean(tmp_path / "bits.npy")),
        (
            "bits.npy holds int16.*of which 1 is",
            read("two", task="reverb", kernel=str(tmp_path / "bits.npy")),
        ),
        (
            r"room.npy has shape \(9, 2\)",
            read("two", task="reverb", kernel=str(tmp_path / "room.npy")),
        ),
        ("still4.npy is silent", clean(tmp_path / "still4.npy")),
        (r"column.npy has shape \(500, 1\); the array of a recording is one row", sized("column")),
        ("quiet.npy is silent", lambda: measured(tmp_path / "quiet.npy", "separate")),
        (r"shape \(1, 500\) with NaN", lambda: measured(tmp_path / "nan.npy", "separate")),
        ("two.wav does not look clipped", read("two", task="declip", stereo="left")),
        ("holds nothing above 500 Hz", read("two", task="bandwidth", cutoff="600")),
        ("three.wav has 3 channels; a measurement has one or two", read("three")),
        (r"short.wav has 200 samples at 1000 Hz \(0.20 s\); it measures 500", read("short")),
        ("nan.wav holds values that are NaN", read("nan")),
        ("two channels, each of which is clipped by itself", read("two", task="declip")),
        ("Did you mean 'mid'", read("two", stereo="mit")),
        ("two.wav has no gap", read("two", task="gap", stereo="left")),
        ("'1:2' is not", read("two", task="gap", gap="1:2")),
        (
            "within the 0.5 s of the recording; '0.7-0.9' does not",
            read("two", task="gap", gap="0.7-0.9"),
        ),
        ("nothing is heard", read("two", task="gap", gap="0-0.5")),
        ("say by --cutoff", read("two", task="bandwidth")),
        ("below 500 Hz, up to which", read("two", task="bandwidth", cutoff="500")),
        ("level is above 0 and at most 1", read("two", task="declip", stereo="left", level="2")),
        (
            "Nothing is clipped at a level of 0.9",
            read("two", task="declip", stereo="left", level="0.9"),
        ),
        ("cutoff takes a finite number", read("two", task="bandwidth", cutoff="nan")),
        ("short.wav has one channel, which differs from no other", read("short", stereo="side")),
        ("Say by --kernel", read("two", task="reverb")),
        (
            "two.wav has 2 channels; to simulate, the prior 'stems' takes 4 stems",
            clean(files["two"]),
        ),
        ("three.wav has 3 channels", clean(files["three"])),
        ("without a file of each stem: bass, drums, guitar, piano", clean(tmp_path / "folder")),
        ("add --simulate to mix", lambda: measured(tmp_path / "folder", "separate")),
        ("There is no file", clean(tmp_path / "none.wav")),
    ]


def test_what_is_no_song_is_one_sentence(tmp_path: Path) -> None:
    for sentence, act in wrong(tmp_path):
        with pytest.raises(po.InputError, match=sentence):
            act()


def test_clipped_sound_is_said(tmp_path: Path) -> None:
    # Catches: single samples at full scale, which are no clipping; runs of them that are not counted whole; floats
    # above 1, which are none; sound that was clipped and made quieter.
    path = tmp_path / "loud.wav"
    x = 0.1 * np.ones(T)
    x[50] = x[60] = 1
    soundfile.write(path, x, RATE)
    assert read_recording(path).clipped == 0
    x[100:107] = 1
    x[200:203] = -1
    soundfile.write(path, x, RATE)
    assert read_recording(path).clipped == 10
    assert any(
        "is clipped: 10 of its samples" in said for said in measured(path, "separate")[0].said
    )
    loud = song(path, seed=1)[:, 0]
    soundfile.write(path, 40 * loud, RATE, subtype="FLOAT")
    assert read_recording(path).clipped == 0
    slow = np.cumsum(loud)
    slow = slow / np.abs(slow).max()
    for top in (0.3, 1.0):
        soundfile.write(path, (top * slow).clip(-0.15, 0.15), RATE)
        assert read_recording(path).clipped > 0.5 * (np.abs(top * slow) > 0.15).sum()


def test_what_a_file_cannot_know_is_said(tmp_path: Path) -> None:
    # Catches: frequencies that a slow file has not, silence within, rounding to 8 bits and loss by compression, all
    # of which would be taken for a measurement with the noise of --sigma; arrays of another loudness.
    x = song(tmp_path / "a.wav")[:, 0]
    for name, values, rate, subtype, sentence in (
        (
            "slow.wav",
            x,
            RATE // 2,
            None,
            "That it holds nothing above 250 Hz is taken for a measur",
        ),
        (
            "hole.wav",
            np.where(np.arange(T) // 50 == 3, 0, x),
            RATE,
            None,
            "silent to the last bit",
        ),
        (
            "deep.wav",
            x,
            RATE,
            "PCM_U8",
            "leaves noise of 0.023 in data units, and --sigma says 0.01",
        ),
        ("lossy.ogg", np.tile(x, 20), 8000, "VORBIS", "compressed with loss"),
    ):
        soundfile.write(tmp_path / name, values, rate, subtype=subtype)
        length = round(len(values) * RATE / rate)
        said = measured(tmp_path / name, "separate", (4, length))[0].said
        assert any(sentence in each for each in said), said
    assert not measured(tmp_path / "a.wav", "separate")[0].said
    np.save(tmp_path / "a.npy", x)
    (said,) = measured(tmp_path / "a.npy", "separate")[0].said
    assert "has a standard deviation of 0.101, and songs" in said
    np.save(tmp_path / "stems.npy", np.stack([x / 2] * 4))
    (said,) = AUDIO.read(tmp_path / "stems.npy", SHAPE, taker="it takes").said
    assert "has a standard deviation of 0.203, and songs" in said
    # Catches: an offset, which no song of the prior has, and which a louder reading makes tens of units.
    soundfile.write(tmp_path / "offset.wav", 0.5 + 0.1 * x, RATE)
    said = " ".join(measured(tmp_path / "offset.wav", "separate")[0].said)
    assert "The samples of offset.wav have a mean of 0.5 of full scale" in said


def test_of_a_part_of_a_song_a_part_is_written(tmp_path: Path) -> None:
    # Catches: stems that are silent to the end of a song of which the beginning was taken, as if that had been drawn;
    # impulse responses of a few milliseconds refused as no recordings.
    song(tmp_path / "a.wav")
    found = AUDIO.degradation(
        "separate", (4, 300), {}, source=Source(tmp_path / "a.wav", fit=True)
    )
    signal = AUDIO.read_measurement(
        tmp_path / "a.wav", found, taker="it measures", std=0.01, fit=True
    )
    assert "a.wav lasts 0.50 s; its first 0.30 s are taken." in signal.said
    for name, content in AUDIO.write("mean", torch.ones(4, 300), signal, found.operator).items():
        (tmp_path / name).write_bytes(content)
        assert soundfile.info(tmp_path / name).frames == 300
    # Catches: files that were left out of the room that a run asks for on the disk.
    whole = measured(tmp_path / "a.wav", "separate")[0]
    size = sum(map(len, AUDIO.write("mean", torch.ones(4, 500) / 10, whole).values()))
    assert size - 4 * 100 < AUDIO.volume(whole) <= size
    soundfile.write(tmp_path / "room.wav", np.array([0.5, 0.25]), RATE)
    kernel, _ = AUDIO.read_option("kernel", tmp_path / "room.wav", (4, 300), {}, None)
    assert kernel.tolist() == pytest.approx([1.0, 0.5], abs=1e-3)
