"""Files of ECGs: every format to the same numbers, and one sentence for what cannot be read."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

import posteria as po
from common.ecgs import all_twelve, eight, times, write_arrays, write_record
from posteria.modalities import MODALITIES, Source
from posteria.modalities.ecg.files import read_record, resampled
from posteria.modalities.ecg.formats import extra
from posteria.modalities.ecg.leads import EIGHT, TWELVE, independent, lead_of, leads_of, twelve
from posteria.modalities.ecg.tasks import seen_by

ECG = MODALITIES["ecg"]
Write = Callable[[Path], Path]


@pytest.mark.parametrize(
    ("lead", "spelled"),
    {
        "I": ["i", "Lead I", "DI", "D1", "ECG I", "MLI", "EKG-I"],
        "II": ["II", "MLII", "lead_ii", "ECG II-REF"],
        "aVR": ["AVR", "avr", "aVR ", "ECG aVR", "a.V.R"],
        "V1": ["v1", "C1", "ECG V1", "V 1"],
        None: [
            *("-aVR", "aVR-", "aVR(-)", "(-)aVR", "ECG -aVR", "I-II", "II-I", "V1-V2"),
            *("V7", "vx", "RESP", "ECG", "", "V10", "abp"),
        ],
    }.items(),
)
def test_leads_are_known_by_their_usual_names(lead: str | None, spelled: list[str]) -> None:
    # Catches: one name taken for another; a lead upside down (-aVR, aVR(-)) taken as aVR; a difference of two taken for
    # a third (I-II as III, which is II-I).
    assert {lead_of(name) for name in spelled} == {lead}


def test_four_leads_follow_from_two() -> None:
    # Catches: a sign or a half of Einthoven and Goldberger; a lead that follows and counts as a measurement.
    i, ii = 0.7, 1.1
    x = torch.tensor([i, ii, *range(6)], dtype=torch.float64)
    expected = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2, *range(6)]
    assert (twelve() @ x).tolist() == pytest.approx(expected)
    assert independent(TWELVE) == (list(EIGHT), ["III", "aVR", "aVL", "aVF"])
    assert independent(["aVF", "V2", "III"]) == (["III", "aVF", "V2"], [])
    assert leads_of("v5, ii  i") == ["I", "II", "V5"]


def edf(folder: Path) -> Path:
    from edfio import Edf, EdfSignal

    values = 1e3 * all_twelve(times(500))
    signals = [
        EdfSignal(v, 500, label=f"ECG {n}", physical_dimension="uV")
        for n, v in zip(TWELVE, values, strict=True)
    ]
    Edf([*signals, EdfSignal(np.arange(40.0), 10, label="Resp", physical_dimension="bpm")]).write(
        folder / "rec.edf"
    )
    return folder / "rec.edf"


def table(sign: str, decimal: str = ".", first: str = "time") -> Write:
    def write(folder: Path) -> Path:
        clock, values = times(250), 1e3 * all_twelve(times(250))
        lines = [sign.join([first, *(f"{name.lower()} (uV)" for name in TWELVE)])]
        for t, row in zip(clock, values.T, strict=True):
            cells = [f"{t:.3f}", *(f"{value:.3f}" for value in row)]
            lines.append(sign.join(cells).replace(".", decimal))
        (folder / "rec.csv").write_text("\n".join(lines))
        return folder / "rec.csv"

    return write


def matlab(folder: Path) -> Path:
    names = np.array(TWELVE, dtype=object)
    values = 1e-3 * all_twelve(times(400)).T
    scipy.io.savemat(folder / "rec.mat", {"val": values, "fs": 400, "leads": names, "units": "V"})
    return folder / "rec.mat"


FORMATS: dict[str, Write] = {
    **{
        f"wfdb {fmt}": lambda folder, fmt=fmt: write_record(folder, fmt=fmt)
        for fmt in ("16", "24", "32")
    },
    "wfdb 212": lambda folder: write_record(folder, fmt="212", gain=700, rate=360),
    "wfdb uV": lambda folder: write_record(folder, unit="uV", rate=1000),
    "wfdb below": lambda folder: write_record(folder, rate=62.5),
    "edf": edf,
    "csv": table(","),
    "csv of Europe": table(";", ","),
    "mat": matlab,
    "npz": lambda folder: write_arrays(folder / "rec.npz"),
    "npz turned": lambda folder: write_arrays(folder / "rec.npz", x=eight(times(100)).T),
}


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_same_millivolts(write: Write, tmp_path: Path) -> None:
    # Catches: a gain, a unit, a rate, a baseline or an order of leads that is not that of the file.
    signal = ECG.read(write(tmp_path), (8, 400), taker="it takes")
    off = (signal.x.double() - torch.from_numpy(eight(times(100)))).abs()
    # At the ends the filter reads what it does not know.
    assert float(off[:, 25:-25].max()) < 4e-3 and float(off.max()) < 0.2
    said = " ".join(signal.said)
    assert ("Hz and is taken at 100 Hz" in said) == ("npz" not in str(signal.name))


def test_what_is_written_is_the_same_record_at_its_own_rate(tmp_path: Path) -> None:
    # Catches: a rate that is not turned back, leads that break Einthoven's relations, another unit or length.
    signal = ECG.read(write_record(tmp_path, seconds=4.002), (8, 401), taker="it takes")
    files = ECG.write("mean", signal.x, signal)
    assert set(files) == {"mean.hea", "mean.dat"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    again = extra("wfdb").rdrecord(str(tmp_path / "mean"))
    assert again.sig_name == list(TWELVE) and again.fs == 500 and again.sig_len == 2001
    assert set(again.units) == {"mV"} and set(again.adc_gain) == {1000}
    off = np.abs(again.p_signal.T - all_twelve(times(500, 4.002)))
    assert off[:, 150:-150].max() < 5e-3
    i, ii, iii, avr = again.p_signal.T[:4]
    # Each lead is rounded to a step by itself.
    assert np.abs(ii - i - iii).max() <= 2e-3 and np.abs(avr + (i + ii) / 2).max() <= 2e-3
    assert not ECG.write("mean", signal.x, po.modalities.Signal(signal.x, "a.npz"))


def test_a_record_that_breaks_einthoven_is_told_so(tmp_path: Path) -> None:
    # Catches: leads that contradict each other and are used without a word; a record of rounding that is blamed.
    assert not any("Einthoven" in s for s in read_record(write_record(tmp_path)).said)
    values = all_twelve(times(100))
    values[2] += 0.3 * np.sin(times(100))
    path = write_record(tmp_path, "off", 100, values=values)
    assert re.search(
        r"III of off.hea is not what I and II say of it \(Einthoven\): off by 0\.2 mV rms",
        " ".join(read_record(path).said),
    )
    assert torch.allclose(
        ECG.read(path, (8, 400), taker="").x[:2].double(), torch.from_numpy(values[:2]), atol=1e-3
    )


def test_integers_are_believed_where_gains_cannot_be_right(tmp_path: Path) -> None:
    # Catches: leads that are each scaled by a gain of their own, as in LUDB, taken for millivolts.
    path = write_record(tmp_path, gain=1000, rate=100, baseline=0)
    lines = path.read_text().splitlines()
    gained = [
        re.sub(r"1000(\.0)?\(0\)/mV", f"{700 + 90 * i}(0)/mV", line)
        for i, line in enumerate(lines)
    ]
    path.write_text("\n".join(gained) + "\n")
    record = read_record(path)
    assert any("which its integers keep: these are taken" in s for s in record.said)
    assert torch.allclose(
        record.values.double(), torch.from_numpy(all_twelve(times(100))), atol=1e-3
    )


def test_what_is_missing_stays_missing_at_another_rate() -> None:
    # Catches: a gap that is filled by the filter; one that grows by more than the filter reads.
    values = all_twelve(times(500))
    values[3, 500:1000] = np.nan
    lost = np.isnan(resampled(values, 500, 100, "rec"))
    assert lost[3, 100:200].all() and 100 <= lost[3].sum() <= 112 and not lost[[0, 11]].any()


def flat(folder: Path, lead: str, a: int = 0, b: int = 400) -> Path:
    values = all_twelve(times(100))
    values[TWELVE.index(lead), a:b] = 0.25
    return write_record(folder, "flat", 100, values=values)


def test_flat_leads_are_offered_as_missing(tmp_path: Path) -> None:
    # Catches: an electrode that is off, taken for a heart that stands still.
    path = flat(tmp_path, "V2")
    assert read_record(path).gone == ("V2",)
    stated, _ = ECG.stated_by(Source(path), "leads", {})
    assert stated == {"keep": "I,II,V1,V3,V4,V5,V6"}
    with pytest.raises(po.InputError, match=r"The lead V2 of flat\.hea is missing"):
        ECG.stated_by(Source(path), "leads", {"keep": "V2"})
    path = flat(tmp_path, "V3", 100, 250)
    degradation = ECG.degradation("noise", (8, 400), {}, source=Source(path))
    with pytest.raises(po.InputError, match=r"V3 from 1\.00 to 2\.50 s flat.*--task gap"):
        ECG.read_measurement(path, degradation, taker="", std=0.05)
    filled = ECG.degradation("gap", (8, 400), {}, source=Source(path))
    assert filled.options["keep"] == ",".join(EIGHT)
    lost = ~seen_by(filled.operator).mask
    assert lost.sum() == 150 and lost[EIGHT.index("V3"), 100:250].all()
    y = ECG.read_measurement(path, filled, taker="", std=0.05).x
    assert torch.allclose(
        y, filled.operator(torch.from_numpy(eight(times(100))).float()), atol=1e-3
    )


def test_what_is_strange_is_said(tmp_path: Path) -> None:
    # Catches: uncalibrated records, slow ones, clipped ones and leads of two units that are taken without a word; a
    # flat lead for which Einthoven's relations are said to be broken, and the others left aside.
    path = write_record(tmp_path, rate=40, gain=200.0)
    path.write_text(path.read_text().replace(" 200.0(10)/mV", " 0(10)/mV", 3))
    said = " ".join(read_record(path).said)
    assert "states no gain for 3 of its 12 signals: 200 steps a mV are taken" in said
    assert "That it holds nothing above 20 Hz is taken for a measurement" in said
    assert "lasts 0.5 s, in which" in read_record(write_record(tmp_path, "a", seconds=0.5)).said[0]
    x = eight(times(100))
    x[3:] *= 1e-3
    said = " ".join(read_record(write_arrays(tmp_path / "mixed.npz", x=x)).said)
    assert "V2, V3, V4, V5, V6 of mixed.npz span 0.00" in said
    x = all_twelve(times(500))
    x[3] = 0.1
    record = read_record(write_record(tmp_path, "flat", values=x))
    assert record.gone == ("aVR",) and "Einthoven" not in " ".join(record.said)
    x[1] = x[1].clip(-0.2, 0.2)
    path = write_record(tmp_path, "clipped", leads=("I", "II"), values=x[:2])
    assert read_record(path).clipped == ("II",)
    assert "II of clipped.hea look clipped" in " ".join(read_record(path).said)


def cut(folder: Path) -> Path:
    path = write_record(folder)
    data = path.with_suffix(".dat")
    data.write_bytes(data.read_bytes()[:-4000])
    return path


def swapped(folder: Path) -> Path:
    path = write_record(folder)
    data = bytearray(path.with_suffix(".dat").read_bytes())
    data[1000] ^= 255
    path.with_suffix(".dat").write_bytes(bytes(data))
    return path


def alone(folder: Path) -> Path:
    path = write_record(folder)
    path.with_suffix(".dat").unlink()
    return path


def text(name: str, content: str) -> Write:
    def write(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return write


def cut_edf(folder: Path) -> Path:
    path = edf(folder)
    path.write_bytes(path.read_bytes()[:-20000])
    return path


def same(folder: Path) -> Path:
    x = eight(times(100))
    x[4] = x[2]
    return write_arrays(folder / "a.npz", x=x)


WRONG: dict[str, tuple[Write, str]] = {
    "one under two names": (same, "one lead under two names: V1 and V3 are the same to the last"),
    "faint": (
        lambda f: write_arrays(f / "a.npz", x=1e-3 * eight(times(100))),
        r"No lead of a\.npz spans more than 0\.\d+ mV.*such as V",
    ),
    "offset": (
        lambda f: write_arrays(f / "a.npz", x=30 + eight(times(100))),
        r"goes up to 3\d\.\d mV.*take its offset away",
    ),
    "two rates": (
        lambda f: write_arrays(f / "a.npz", fs=[100.0, 500.0]),
        r"The rate \(fs\) in a\.npz is not one number",
    ),
    "length": (cut, r"says 2000 samples of 12 leads in rec\.dat, and that holds 1833"),
    "checksum": (
        swapped,
        r"The checksum of \w+ in rec\.hea is \d+, and that of its samples is \d+",
    ),
    "no data": (alone, r"rec\.hea names the file rec\.dat, which is not beside it"),
    "no header": (text("a.hea", "what\nis this"), r"a\.hea cannot be read as a record of WFDB"),
    "twice": (
        lambda f: write_record(f, leads=("I", "II", "II"), spelled=["I", "II", "MLII"]),
        r"has the lead II twice, as 'II' and 'MLII'; leave one",
    ),
    "none": (
        lambda f: write_record(f, leads=("I", "II"), spelled=["RESP", "-aVR"]),
        r"none of the twelve leads; its signals are named RESP, -aVR",
    ),
    "slow": (
        lambda f: write_record(f, rate=4, seconds=10),
        "a rate of 4 Hz; an ECG has 20 to 100000",
    ),
    "odd": (
        lambda f: write_arrays(
            f / "a.npz", x=np.random.default_rng(0).normal(size=(8, 40000)), fs=100.0013
        ),
        r"rate of 100\.0013 Hz, which no ratio of whole numbers takes to 100 Hz",
    ),
    "rate twice": (
        lambda f: write_arrays(f / "a.npz", frequency=50.0),
        r"a\.npz says several rates: 50, 100 Hz|a\.npz says several rates: 100, 50 Hz",
    ),
    "clock and comment": (
        text("a.csv", "# rate 100\ntime,II\n0,1\n0.005,2\n0.01,1"),
        "says several rates: 100, 200 Hz. Leave the wrong ones out",
    ),
    "few units": (
        lambda f: write_arrays(f / "a.npz", units=["mV"] * 3),
        "has units of 3 leads, and its array has 8",
    ),
    "units": (
        lambda f: write_arrays(f / "a.npz", units="bpm"),
        "a.npz is in 'bpm'; the units of an ECG are",
    ),
    "steps": (
        lambda f: write_arrays(f / "a.npz", x=4e3 * eight(times(100))),
        "say its units, such as uV",
    ),
    "names": (
        lambda f: write_arrays(f / "a.npz", leads=["I", "II"]),
        "names 2 leads, and its array has",
    ),
    "unnamed": (
        lambda f: write_arrays(f / "a.npz", x=np.ones((3, 400)), leads=[]),
        "has 3 leads and does not name them",
    ),
    "no rate": (
        text("a.csv", "I,II\n0.1,0.2\n0.2,0.1\n0.1,0.3"),
        "does not say its rate: give it a column time",
    ),
    "no names": (text("a.csv", "0.1,0.2\n0.2,0.1\n0.1,0.3"), "first line is to name the leads"),
    "ragged": (
        text("a.csv", "time,II\n0,1\n0.01\n0.02,1"),
        "rows of other lengths than its 2 names",
    ),
    "clock": (text("a.csv", "time,II\n0,1\n0.01,2\n0.5,1"), "do not rise by equal steps"),
    "cut edf": (cut_edf, r"rec\.edf cannot be read as EDF: Incomplete data record"),
    "no edf": (text("a.edf", "none " * 99), r"a\.edf cannot be read as EDF"),
    "no mat": (text("a.mat", "none " * 99), r"a\.mat cannot be read as a file of MATLAB"),
    "kind": (text("a.xyz", "1"), r"a\.xyz is of no kind that ECGs are read from: \.hea"),
    "few": (
        lambda f: write_record(f, leads=("I", "V1"), rate=100),
        "has I, V1; a clean ECG has two limb leads and V1 to V6. Without --simulate",
    ),
    "short": (
        lambda f: write_record(f, rate=100, seconds=3),
        "has 300 steps at 100 Hz; it takes 400. It is too short",
    ),
    "long": (
        lambda f: write_record(f, rate=100, seconds=6),
        "it takes 400. Add --fit to take its beginning",
    ),
}


@pytest.mark.parametrize(("write", "sentence"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_is_one_sentence(write: Write, sentence: str, tmp_path: Path) -> None:
    # Catches: a traceback of a reader; a damaged record that is restored.
    with pytest.raises(po.InputError, match=sentence):
        ECG.read(write(tmp_path), (8, 400), taker="it takes")


def test_a_reader_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    path = write_record(tmp_path)

    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(
        po.InputError,
        match=r"read with wfdb, which is not installed: pip install 'posteria\[ecg\]'",
    ):
        read_record(path)
