"""Files of electrocardiograms that say a number which is no rate, have leads of two rates, are clipped or cut."""

from pathlib import Path

import numpy as np
import pytest
import torch

import posteria as po
from common.ecgs import all_twelve, eight, times, write_arrays, write_record
from posteria.modalities import MODALITIES, Source
from posteria.modalities.ecg.files import read_record
from posteria.modalities.ecg.formats import extra
from posteria.modalities.ecg.leads import EIGHT

ECG = MODALITIES["ecg"]


@pytest.mark.parametrize(
    ("note", "rate"),
    [
        ("# heart rate 72, sampling rate 500 Hz", 500),
        ("# offset 30, rate 500", 500),
        ("# Sampling_Frequency: 0.5 kHz", 500),
        ("# 500 Hz", 500),
        ("# sampled at 500 Hz, notch 50", None),
        ("# filter 0.05-150 Hz", None),
    ],
)
def test_a_rate_in_a_comment_is_no_other_number(
    note: str, rate: float | None, tmp_path: Path
) -> None:
    # Catches: a heart rate, an offset or a notch filter taken for the samples of a second; quotes around names.
    x = all_twelve(times(500, 2.0))[:2]
    rows = [",".join(f'"{v:.4f}"' for v in row) for row in x.T]
    (tmp_path / "a.csv").write_text("\n".join([note, '"I","II"', *rows]))
    if rate is None:
        with pytest.raises(po.InputError, match="does not say its rate"):
            read_record(tmp_path / "a.csv")
    else:
        assert read_record(tmp_path / "a.csv").rate == rate


def test_times_beside_an_array_say_its_rate(tmp_path: Path) -> None:
    # Catches: 500 samples a second taken for 100, since a file says times and no rate; milliseconds for seconds; texts
    # or another array by the name of s taken for times.
    texts = np.array(["0:00"] * 400)
    path = write_arrays(tmp_path / "b.npz", time=texts, s=np.zeros(400))
    assert read_record(path).rate == 100
    for name, clock in (("t", times(500)), ("time", 1e3 * times(500))):
        np.savez(tmp_path / "a.npz", x=eight(times(500)), leads=EIGHT, **{name: clock})
        if name == "t":
            record = read_record(tmp_path / "a.npz")
            assert record.rate == 500 and record.values.shape == (8, 400)
        else:
            with pytest.raises(po.InputError, match=r"a rate of 0\.5 Hz; an ECG has 20"):
                read_record(tmp_path / "a.npz")


def test_leads_of_an_edf_file_have_one_rate(tmp_path: Path) -> None:
    # Catches: muscles with more samples a second in place of the leads; leads of another rate that vanish unsaid.
    from edfio import Edf, EdfSignal

    x, fast = eight(times(250)), eight(times(500))
    signals = [EdfSignal(x[i], 250, label=EIGHT[i], physical_dimension="mV") for i in (1, 2, 3)]
    signals += [EdfSignal(fast[4], 500, label="V3", physical_dimension="mV")]
    signals += [EdfSignal(eight(times(1000))[5], 1000, label="EMG", physical_dimension="uV")]
    Edf(signals).write(tmp_path / "a.edf")
    record = read_record(tmp_path / "a.edf")
    assert record.leads == ("II", "V1", "V2") and record.rate == 250
    assert "V3 of a.edf have another rate than 250 Hz and are left aside." in record.said


def test_of_a_part_of_a_record_a_part_is_written(tmp_path: Path) -> None:
    # Catches: the last value held to the end of the record, as if that had been drawn (15 s of 20).
    path = write_record(tmp_path, seconds=6.0)
    signal = ECG.read(path, (8, 400), taker="it takes", fit=True)
    assert "rec.hea lasts 6.0 s; its first 4 s are taken" in " ".join(signal.said)
    for name, content in ECG.write("mean", signal.x, signal).items():
        (tmp_path / name).write_bytes(content)
    # Catches: files that were left out of the room that a run asks for on the disk.
    assert ECG.volume(signal) == (tmp_path / "mean.dat").stat().st_size
    again = extra("wfdb").rdrecord(str(tmp_path / "mean"))
    off = np.abs(again.p_signal.T - all_twelve(times(500)))
    assert again.sig_len == 2000 and off[:, 150:-150].max() < 5e-3


def test_the_limit_of_a_clipped_record_is_that_of_the_file(tmp_path: Path) -> None:
    # Catches: a limit of 1 mV where the file says another, values beyond the limit that no signal explains.
    x = all_twelve(times(500))[:2]
    path = write_record(tmp_path, leads=("I", "II"), values=x.clip(-0.2, 0.2))
    found = ECG.degradation("clip", (8, 400), {}, source=Source(path))
    assert found.options["limit"] == pytest.approx(0.2, abs=1e-3)
    y = ECG.read_measurement(path, found, taker="it measures", std=0.01).x
    assert y.abs().max() == pytest.approx(found.options["limit"])
    want = torch.from_numpy(x[:, ::5].clip(-0.2, 0.2)).float()
    assert (y.reshape(2, -1) - want).abs().max() < 0.05
    for limit, sentence in ((0.5, "nothing is clipped"), (0.1, "it was not clipped there")):
        other = ECG.degradation("clip", (8, 400), {"limit": limit}, source=Source(path))
        with pytest.raises(po.InputError, match=sentence):
            ECG.read_measurement(path, other, taker="it measures", std=0.01)
    with pytest.raises(po.InputError, match=r"No lead of whole\.hea looks clipped"):
        ECG.degradation("clip", (8, 400), {}, source=Source(write_record(tmp_path, "whole")))


def test_leads_that_hold_their_values_at_once_are_not_connected(tmp_path: Path) -> None:
    # Catches: half a second of zeros in all leads, where a transmission failed, taken for a measurement; an offset that
    # nobody names; a lead that rests by itself, as between beats, taken for one that is missing.
    x = all_twelve(times(500))
    x[:, 500:750] = 0
    x[6, 1000:1250] = 0.1
    x[7] += 0.6
    record = read_record(write_record(tmp_path, values=x))
    lost = record.values.isnan()
    assert lost[:, 101:149].all() and 600 <= int(lost.sum()) < 12 * 62
    assert any("V2 of rec.hea are more than 0.5 mV from 0" in said for said in record.said)
    two = read_record(write_record(tmp_path, "two", leads=("I", "II"), values=x[:2]))
    assert not two.values.isnan().any()


def test_every_name_that_may_mean_something_else_is_said(tmp_path: Path) -> None:
    # Catches: two modified leads of which both are said to be the first; an electrode of an EEG (C3) taken for V3
    # without a word.
    path = write_record(tmp_path, leads=("I", "II", "V3"), spelled=["MLI", "MLII", "C3"])
    said = read_record(path).said
    assert {"MLI (a modified lead) is taken as I.", "MLII (a modified lead) is taken as II."} <= {
        *said
    }
    assert "C3 (IEC's name of a chest lead) is taken as V3." in said
