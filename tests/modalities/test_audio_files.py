"""Sound in and out: every kind of file has one meaning, what was not restored keeps its bits, and the rest is said."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import posteria as po
from common.stems import AUDIO, GAIN, NAMES, RATE, measured, song
from posteria.modalities import Source
from posteria.modalities.audio import Audio
from posteria.modalities.audio.recording import head_of, read_recording
from posteria.modalities.registry import modality_of
from posteria.operators import ChannelSum
from posteria.priors.card import Card, Data

T = 500
SHAPE = (4, T)


@pytest.mark.parametrize(
    "kind, subtype, bits",
    [
        *(
            ("wav", s, b)
            for s, b in (
                ("PCM_U8", 8),
                ("PCM_16", 16),
                ("PCM_24", 24),
                ("PCM_32", 32),
                ("FLOAT", 24),
                ("DOUBLE", 50),
            )
        ),
        *(("flac", s, b) for s, b in (("PCM_S8", 8), ("PCM_16", 16), ("PCM_24", 24))),
        ("aiff", "PCM_16", 16),
        ("ogg", "VORBIS", 4),
        ("mp3", "MPEG_LAYER_III", 3),
    ],
)
def test_every_kind_is_read_in_full_scale_and_keeps_its_bits(
    kind: str, subtype: str, bits: int, tmp_path: Path
) -> None:
    # Catches: a depth whose full scale is another's, a cut to 16 bits, samples outside the gap that change.
    path = tmp_path / f"song.{kind}"
    rate = 8000 if kind == "mp3" else RATE
    t = np.arange(rate // 2) / rate
    x = 0.2 * np.sin(2 * np.pi * 40 * t)
    soundfile.write(path, x, rate, subtype=subtype)
    signal, found = measured(path, "gap", gap="0.1-0.15")
    want = torch.from_numpy(GAIN * x[:: rate // RATE]).float()
    whole = found.operator.outer.adjoint(signal.x)[0]
    seen = found.operator.outer.mask[0]
    inside = slice(20, -20)
    lossless = kind in {"wav", "flac", "aiff"}
    error = (whole - want)[seen][inside].abs().max() / GAIN
    assert error < (max(2.0 ** (1 - bits), 1e-4) if lossless else 0.02)
    # Silence in the gap, and nothing else is touched.
    stems = torch.zeros(SHAPE)
    made = AUDIO.write("mean", stems, signal, found.operator)
    ((name, content),) = made.items()
    assert name == f"mean.{kind if lossless else 'wav'}"
    (tmp_path / name).write_bytes(content)
    # Stems are WAV files, whatever the input was.
    mono, task = measured(path, "separate", (1, T))
    for part, stem in AUDIO.write("s", torch.zeros(1, T), mono, task.operator).items():
        (tmp_path / part).write_bytes(stem)
        assert part == "s-sound.wav" and not read_recording(tmp_path / part).values.any()
    before, after = read_recording(path), read_recording(tmp_path / name)
    gap = np.zeros(len(x), dtype=bool)
    gap[round(0.1 * rate) : round(0.15 * rate)] = True
    if lossless:
        assert (after.rate, after.subtype, after.format) == (
            before.rate,
            before.subtype,
            before.format,
        )
        assert np.array_equal(after.values[~gap], before.values[~gap])
    assert np.abs(after.floats[gap]).max() < (
        0.02 if kind in {"ogg", "mp3"} else 2.0 ** (1 - min(bits, 20))
    )


def test_stems_are_written_as_loud_and_as_deep_as_the_input(tmp_path: Path) -> None:
    # Catches: a gain or a loudness that is not undone, stems in another order, a rate that is the prior's.
    path = tmp_path / "quiet.wav"
    soundfile.write(
        path, 0.002 * np.random.default_rng(1).standard_normal(2 * T), 2 * RATE, subtype="PCM_24"
    )
    signal, found = measured(path, "separate")
    scale = found.options["scale"]
    assert scale == pytest.approx(1 / (0.002 * GAIN), rel=0.1)
    assert any("times louder" in said for said in found.said)
    assert signal.x.square().mean().sqrt() == pytest.approx(0.7, abs=0.1)
    t = torch.arange(T) / RATE
    stems = (
        torch.stack([torch.sin(2 * torch.pi * f * t) for f in (20, 40, 60, 80)])
        * scale
        * GAIN
        * 0.01
    )
    made = AUDIO.write("3", stems, signal, found.operator)
    assert list(made) == [f"3-{stem}.wav" for stem in NAMES]
    for (name, content), f in zip(made.items(), (20, 40, 60, 80), strict=True):
        (tmp_path / name).write_bytes(content)
        got, rate = soundfile.read(tmp_path / name)
        assert rate == 2 * RATE and soundfile.info(tmp_path / name).subtype == "PCM_24"
        want = 0.01 * np.sin(2 * np.pi * f * np.arange(2 * T) / rate)
        assert np.abs(got - want)[40:-40].max() < 2e-4
    # Beyond full scale nothing is clipped: it is written as floats.
    ((_, content), *_) = AUDIO.write("4", 300 * stems, signal, found.operator).items()
    (tmp_path / "loud.wav").write_bytes(content)
    assert soundfile.info(tmp_path / "loud.wav").subtype == "FLOAT"
    assert np.abs(soundfile.read(tmp_path / "loud.wav")[0]).max() > 2


def test_stereo_is_mid_side_left_or_right(tmp_path: Path) -> None:
    # Catches: a sum in place of a mean, a side that is lost when the mid is put back.
    path = tmp_path / "two.wav"
    x = song(path, 2, subtype="DOUBLE")
    change = torch.linspace(-0.2, 0.2, T)
    for stereo, read, back in (
        ("mid", x.mean(1), (1, 1)),
        ("side", (x[:, 0] - x[:, 1]) / 2, (1, -1)),
        ("left", x[:, 0], (1, 0)),
        ("right", x[:, 1], (0, 1)),
    ):
        signal, found = measured(path, "reverb", kernel=torch.ones(1).double(), stereo=stereo)
        unit = GAIN * found.options["scale"]
        assert np.allclose(signal.x[0] / unit, read, atol=1e-6)
        stems = torch.zeros(SHAPE)
        stems[2] = signal.x[0] + unit * change
        ((_, content),) = AUDIO.write("mean", stems, signal, found.operator).items()
        (tmp_path / "back.wav").write_bytes(content)
        got = soundfile.read(tmp_path / "back.wav")[0]
        assert np.allclose(got, x + change.numpy()[:, None] * np.array(back), atol=1e-6)
        assert any(stereo in said or "channels" in said for said in signal.said)


def test_what_is_told_by_the_file_itself(tmp_path: Path) -> None:
    # Catches: a gap at the wrong second, silence before a song that is a gap, a level or a cutoff of nobody's.
    path = tmp_path / "song.wav"
    x = song(path)[:, 0]
    holes = x.copy()
    holes[:30] = holes[100:150] = 0
    holes[300:303] = np.nan
    soundfile.write(path, holes, RATE, subtype="DOUBLE")
    signal, found = measured(path, "gap")
    seen = torch.ones(T, dtype=torch.bool)
    seen[100:150] = seen[300:303] = False
    assert torch.equal(found.operator.outer.mask[0], seen)
    assert found.options["gap"] == "0.100000-0.150000,0.300000-0.303000"
    assert "2 gaps, of 0.053 s" in found.said[0]
    assert torch.allclose(signal.x, torch.from_numpy(GAIN * holes).float()[seen])
    # The gap that stands in the record is the gap.
    again = AUDIO.degradation("gap", SHAPE, found.options, source=Source(path))
    assert torch.equal(again.operator.outer.mask, found.operator.outer.mask)

    soundfile.write(path, x.clip(-0.12, 0.12), RATE, subtype="DOUBLE")
    signal, found = measured(path, "declip")
    assert found.options["level"] == pytest.approx(0.12)
    assert torch.allclose(
        signal.x[0], torch.from_numpy(GAIN * x.clip(-0.12, 0.12)).float(), atol=1e-5
    )
    ((_, content),) = AUDIO.write(
        "mean", torch.from_numpy(GAIN * x).float().expand(4, -1) / 4, signal, found.operator
    ).items()
    (tmp_path / "back.wav").write_bytes(content)
    got = soundfile.read(tmp_path / "back.wav")[0]
    assert np.allclose(got, x, atol=1e-6) and np.array_equal(
        got[np.abs(x) < 0.119], x[np.abs(x) < 0.119]
    )

    slow = tmp_path / "slow.wav"
    song(slow, rate=RATE // 4)
    signal, found = measured(slow, "bandwidth")
    assert found.options["cutoff"] == RATE / 8 and signal.x.shape == (1, T // 4)
    ((_, content),) = AUDIO.write("mean", torch.zeros(SHAPE), signal, found.operator).items()
    (tmp_path / "fast.wav").write_bytes(content)
    assert soundfile.info(tmp_path / "fast.wav").samplerate == RATE


@pytest.mark.parametrize("rate", [800, 1600, 4000])
def test_what_is_clipped_at_another_rate_is_where_the_file_is_clipped_on_both_sides(
    rate: int, tmp_path: Path
) -> None:
    # Catches: flat parts that are wider than those of the file by half a sample of the prior at each end: a fifth of
    # what was said to be clipped was not, with four samples to one.
    t = np.arange(2 * rate) / rate
    fast = np.arange(2 * RATE) / RATE
    tones = [(37, 0.3, 1.0), (61, 0.25, 2.0), (113, 0.2, 3.0), (171, 0.15, 0.5)]
    x, truth = (sum(a * np.sin(2 * np.pi * f * s + p) for f, a, p in tones) for s in (t, fast))
    path = tmp_path / "loud.wav"
    soundfile.write(path, x.clip(-0.4, 0.4), rate, subtype="DOUBLE")
    signal, found = measured(path, "declip", (4, 2 * RATE))
    top = 0.4 * GAIN * found.options["scale"]
    flat, want = (signal.x[0].abs() >= 0.9999 * top).numpy(), np.abs(truth) >= 0.4
    assert (flat & ~want).sum() < 0.02 * want.sum()
    assert (want & ~flat).sum() < 0.35 * want.sum()


def test_a_clean_song_is_a_folder_or_channels_in_order(tmp_path: Path) -> None:
    # Catches: stems by the alphabet and not by their names, a song that is louder than the one of its stems.
    folder = tmp_path / "song"
    folder.mkdir()
    names = ("zoo", "drums", "alto", "bass")
    audio = Audio(RATE, GAIN, names)
    x = np.concatenate([song(folder / f"{name}.flac", seed=i) for i, name in enumerate(names)], 1)
    soundfile.write(tmp_path / "song.wav", x, RATE, subtype="DOUBLE")
    assert audio.is_one(folder) and not audio.is_one(tmp_path)
    want = torch.from_numpy(GAIN * x.T).float()
    for path in (folder, tmp_path / "song.wav"):
        signal = audio.read(path, SHAPE, taker="it takes")
        changed = any("as loud as the songs" in said for said in signal.said)
        scale = 1 / float((GAIN * x.sum(1)).std()) if changed else 1.0
        assert torch.allclose(signal.x, scale * want, rtol=2e-3, atol=1e-3)
        assert audio.size_of(path, audio.tasks["separate"], {}, True) == (T,)
    assert audio.read(folder, (4, 100), taker="it takes", fit=True).x.shape == (4, 100)
    assert "The channels of song.wav are taken as zoo, drums, alto, bass" in signal.said[0]
    song(folder / "vocals.wav")
    (said, *_) = audio.read(folder, SHAPE, taker="it takes").said
    assert said == "Left aside, of no stem that the prior draws: vocals.wav in song."
    song(folder / "bass.wav")
    with pytest.raises(po.InputError, match=r"several files of one stem; leave out bass\.flac"):
        audio.read(folder, SHAPE, taker="it takes")


def test_without_the_package_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(po.InputError, match=r"pip install 'posteria\[audio\]'"):
        head_of(Path(__file__))


def test_a_prior_of_stems_has_this_modality() -> None:
    card = Card(
        name="s",
        reader="local",
        path=".",
        modality="audio",
        data=Data(rate=RATE, names=NAMES, gain=GAIN),
    )
    assert modality_of(po.Space(SHAPE), "s", card) == AUDIO
    for shape, data in (((4, T), Data(rate=RATE)), ((5, T), card.data)):
        with pytest.raises(po.CapabilityError, match="with as many names in the card"):
            modality_of(po.Space(shape), "s", replace(card, data=data))
    with pytest.raises(po.InputError, match=r"does not say how many samples.*write rate = 44100"):
        modality_of(po.Space(SHAPE), "s", replace(card, data=Data(names=NAMES)))
    # Catches: five stems that are no stems, since the usual ones are four.
    five = replace(card, data=Data(rate=RATE, names=(*NAMES, "voice")))
    assert modality_of(po.Space((5, T)), "s", five).suits(po.Space((1, T)))
    assert isinstance(AUDIO.degradation("separate", SHAPE, {}).operator, ChannelSum)
    assert AUDIO.noise(0.01) == "0.01 in data units (-60 dB of full scale)"


def test_sheets_have_players_and_rows_of_several_methods_do_not_mix() -> None:
    # Catches: a sheet of stems that shows one of them, players in another order than the spectrograms.
    x = torch.stack([torch.stack([k * _tone(f)[:T] for f in (20, 40, 60, 80)]) for k in (1, 2)])
    sheet = AUDIO.sheet("samples.png", x, "two")
    assert [sound.name for sound in sheet.sounds] == ["samples-0.wav", "samples-1.wav"]
    rows = AUDIO.compare("compare", {"cfg": x, "apg": x}, "both")
    assert [figure.name for figure in rows] == ["compare-cfg.png", "compare-apg.png"]
    assert rows[0].content == rows[1].content == sheet.content


def _tone(f: float) -> Tensor:
    return torch.sin(2 * torch.pi * f * torch.arange(4000) / RATE)


def test_a_spectrogram_has_a_tone_where_it_is() -> None:
    # Catches: frequencies upside down, a full scale that is another one, an octave that is not one.
    from posteria.modalities.audio.figures import LOWEST, ROWS, WINDOW, power_of

    for f in (20, 80, 320):
        power = power_of(GAIN * _tone(f), GAIN)
        row = int(power.mean(-1).argmax())
        low = LOWEST / WINDOW * RATE
        assert abs(row / ROWS - np.log(f / low) / np.log((RATE / 2) / low)) < 0.03
    assert 10 * power_of(GAIN * _tone(40), GAIN).sum(0).log10().mean() == pytest.approx(0, abs=3)
