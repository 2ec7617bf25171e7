"""What is done to ECGs before a prior is trained on them, and how patients are held out."""

import numpy as np
import torch

from data.beats import axis, beats, found, rate, width
from data.ecgs import DOWER, _records, moved, placed, turned


def test_a_record_between_its_samples_is_a_cubic() -> None:
    # Catches: neighbours taken a sample off, a weight with the wrong sign; splines of Catmull and Rom are exact for
    # parabolas.
    time = torch.arange(40, dtype=torch.float64)
    x = torch.stack([time, 0.1 * time**2 - time]).expand(3, 2, 40)
    at = 1 + 36 * torch.rand(3, 50, generator=torch.Generator().manual_seed(0)).double()
    expected = torch.stack([at, 0.1 * at**2 - at], 1)
    assert torch.allclose(moved(x, at), expected, atol=1e-4)


def test_turning_the_heart_turns_its_dipole_alone() -> None:
    # Catches: a rotation of leads rather than of the dipole, one that stretches it, one that touches what is no dipole.
    rng = np.random.default_rng(0)
    vector = torch.randn(5, 3, 20, generator=torch.Generator().manual_seed(0))
    other = torch.randn(5, 8, 20, generator=torch.Generator().manual_seed(1))
    inverse = torch.linalg.pinv(DOWER)
    other -= DOWER @ inverse @ other
    out = turned(DOWER @ vector + other, rng)
    assert torch.allclose((inverse @ out).norm(dim=1), vector.norm(dim=1), atol=1e-4)
    assert not torch.allclose(inverse @ out, vector, atol=1e-2)
    assert torch.allclose(out - DOWER @ inverse @ out, other, atol=1e-4)


def test_electrodes_move_along_the_chest_alone() -> None:
    # Catches: limb leads mixed with those of the chest, a slope between V1 and II.
    x = torch.zeros(4, 8, 6)
    x[:, 2:] = torch.arange(6.0)[:, None]
    out = placed(x, np.random.default_rng(0))
    assert torch.equal(out[:, :2], x[:, :2])
    shift = out[:, 2:] - x[:, 2:]
    assert 0.05 < shift.std() < 0.4


def test_a_fifth_of_each_rhythm_is_held_out() -> None:
    # Catches: a record on both sides, a rhythm that is only on one, a split that depends on the run.
    rhythm = ["a"] * 50 + ["b"] * 10 + ["a"] * 5
    x = np.arange(65, dtype=np.float32)[:, None, None] * np.ones((1, 8, 4), np.float32)
    names = ("v1", "v2", "v3", "v4", "v5", "v6", "i", "ii")
    one, two = (_records("s", x, names, rhythm) for _ in range(2))
    assert torch.equal(one.held_out, two.held_out)
    assert (one.test_rhythm.count("a"), one.test_rhythm.count("b")) == (11, 2)
    assert not set(one.train[:, 0, 0].tolist()) & set(one.test[:, 0, 0].tolist())


def test_beats_and_the_axis_of_a_record_made_by_hand() -> None:
    # Catches: a wave after the beat counted as one, two beats for the two slopes of one, an axis turned the other way.
    time = torch.arange(1000.0)
    centres = torch.tensor([40.0, 130, 215, 310, 390, 490, 570, 660, 750, 840, 930])
    since = time - centres[:, None]
    narrow, broad = (
        (-((since - d) / w).square() / 2).exp().sum(0) for d, w in ((0, 1.5), (28, 8))
    )
    angle = torch.tensor(50.0).deg2rad()
    one, two = angle.cos(), (angle - torch.tensor(60.0).deg2rad()).cos()
    beat = narrow + 0.3 * broad
    x = torch.stack([one * beat, two * beat, *(0.5 * beat for _ in range(6))])
    at = beats(x)
    assert len(at) == len(centres)
    assert np.abs(at - centres.numpy()).max() <= 2
    assert abs(found(at, at[1:], (0, 999)) - 20 / 21) < 1e-9
    assert abs(axis(x[:2]) - 50) < 3


def test_intervals_and_widths_are_of_the_beats_in_a_part() -> None:
    # Catches: beats outside the part, an interval over its edge, a rate where milliseconds are meant.
    at = np.array([100, 180, 300, 700])
    assert [round(rate(at, part)) for part in ((90, 310), (290, 310))] == [1000, 200]
    x = torch.zeros(8, 1000)
    for centre, length in ((180, 4), (300, 8), (700, 16)):
        x[:, centre - length // 2 : centre + length // 2] = torch.arange(1.0, length + 1)
    # Down again in one step, which is as long as the ramp is high: its steps are a fifth of that, or less.
    parts = ((690, 710), (170, 190), (800, 900))
    assert [round(width(x, at, part)) for part in parts] == [10, 50, 0]
