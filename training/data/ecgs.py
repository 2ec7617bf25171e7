"""The data of `ecg`: LUDB, samples of the PhysioNet Challenge 2021, and ECGs that a published generator drew."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
RATE = 100
# How often an example to train on is one of the generator's.
GENERATED = 0.3
# Lengths of examples, and between what the rate of their time is drawn, so that a record of 1000 samples holds them.
CROPS = ((960, 0.85, 1.03), (800, 0.96, 1.22))
# From the heart's dipole (X left, Y down, Z back) to the leads: Dower, Machado, Osborne, Clin. Cardiol. 3 (1980), 87.
DOWER = torch.tensor([
    [0.632, -0.235, 0.059], [0.235, 1.066, -0.132], [-0.515, 0.157, -0.917], [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277], [1.213, 0.127, -0.601], [1.125, 0.127, -0.086], [0.831, 0.076, 0.230],
])  # fmt: skip
# Of the challenge's diagnoses, the rhythms; the first that a record has counts.
RHYTHMS = {
    "164889003": "atrial fibrillation",
    "164890007": "atrial flutter",
    "426177001": "sinus bradycardia",
    "427084000": "sinus tachycardia",
    "427393009": "sinus arrhythmia",
    "426783006": "sinus rhythm",
}


@dataclass(frozen=True)
class Records:
    """Real ECGs of one source in mV, `[n, 8, 1000]` at 100 Hz, one a patient, with their rhythms."""

    source: str
    x: Tensor
    rhythm: list[str]
    held_out: Tensor

    @property
    def train(self) -> Tensor:
        """Those to train on."""
        return self.x[~self.held_out]

    @property
    def test(self) -> Tensor:
        """Those of patients that no recipe sees."""
        return self.x[self.held_out]

    @property
    def test_rhythm(self) -> list[str]:
        """Of `test`."""
        return [name for name, out in zip(self.rhythm, self.held_out, strict=True) if out]


def _records(source: str, x: NDArray[np.float32], leads: Any, rhythm: list[str]) -> Records:
    """A fifth of the patients is held out, of each rhythm alike, by a fixed seed."""
    names = [str(name).lower() for name in leads]
    signals = torch.from_numpy(x[:, [names.index(lead.lower()) for lead in LEADS]]).float()
    shuffled = np.random.default_rng(0).permutation(len(x))
    order = sorted(shuffled, key=lambda i: rhythm[i])
    held_out = torch.zeros(len(x), dtype=torch.bool)
    held_out[torch.tensor(order[2::5])] = True
    return Records(source, signals, rhythm, held_out)


def real(folder: Path) -> list[Records]:
    """LUDB and the challenge's samples."""
    # The raw integers of LUDB, in microvolts, over 1000: its headers scale each lead for itself.
    ludb = np.load(folder / "ludb" / "ludb_12lead_100hz_adu1000_f32.npz")
    own = [str(name).partition(";")[0].lower() for name in ludb["rhythm"]]
    challenge = np.load(folder / "ecg_challenge2021_samples_12lead_100hz_mV.npz")
    codes = [str(row).split(",") for row in challenge["dx_snomed"]]
    named = [next((RHYTHMS[c] for c in RHYTHMS if c in row), "other") for row in codes]
    return [
        _records("LUDB", ludb["x"], ludb["leads"], own),
        _records("Challenge", challenge["x"], challenge["leads"], named),
    ]


class ECGs:
    """Real and generated ECGs to train on."""

    def __init__(self, folder: Path) -> None:
        self.real = real(folder)
        generated = np.load(folder / "ecg_deepfake_8lead_100hz_uV.npz")["x"]
        self.generated = torch.from_numpy(generated).float() / 1000
        self.train = torch.cat([records.train for records in self.real])

    def crops(self, n: int, rng: np.random.Generator) -> Tensor:
        """Random parts to train on, `[n, 8, time]`, with another rate, axis, electrode positions and gain."""
        length, slow, fast = CROPS[rng.integers(len(CROPS))]
        pools = [self.generated if rng.random() < GENERATED else self.train for _ in range(n)]
        x = torch.stack([pool[rng.integers(len(pool))] for pool in pools])
        rate = slow * (fast / slow) ** rng.random(n)
        start = 1 + rng.random(n) * (x.shape[-1] - 4 - rate * (length - 1))
        at = torch.from_numpy(start[:, None] + rate[:, None] * np.arange(length))
        return moved(placed(turned(x, rng), rng), at) * _spread(rng, n, 0.15)[:, None, None]


def _spread(rng: np.random.Generator, n: int, std: float) -> Tensor:
    return torch.from_numpy(np.exp(std * rng.normal(size=n))).float()


def moved(x: Tensor, at: Tensor) -> Tensor:
    """Signals `[n, 8, time]` at times `[n, length]` in samples, by cubic splines of Catmull and Rom."""
    whole = at.floor().long()
    f = (at - whole).float()[:, None]
    a, b, c, d = (
        x.gather(2, (whole + k)[:, None].expand(-1, x.shape[1], -1)) for k in (-1, 0, 1, 2)
    )
    out: Tensor = b + f / 2 * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))
    return out


def turned(x: Tensor, rng: np.random.Generator, degrees: float = 12.0) -> Tensor:
    """ECGs whose dipole is turned about a random axis; what is no dipole stays."""
    vector = torch.from_numpy(rng.normal(size=(len(x), 3)) * np.deg2rad(degrees)).float()
    cross = torch.linalg.cross(torch.eye(3).expand(len(x), 3, 3), vector[:, None].expand(-1, 3, 3))
    change = DOWER @ (torch.linalg.matrix_exp(cross) - torch.eye(3)) @ torch.linalg.pinv(DOWER)
    out: Tensor = x + change @ x
    return out


def placed(x: Tensor, rng: np.random.Generator, far: float = 0.15) -> Tensor:
    """ECGs whose electrodes on the chest are a part of their distance further along, `far` of it on average."""
    chest = x[:, 2:]
    slope = torch.gradient(chest, dim=1)[0]
    shift = torch.from_numpy(far * rng.normal(size=(len(x), 6, 1))).float()
    return torch.cat([x[:, :2], chest + shift * slope], 1)
