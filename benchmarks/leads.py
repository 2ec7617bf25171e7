"""What is seen of ECGs at 100 Hz, and linear and Gaussian estimates of the rest."""

import math

import numpy as np
import torch
from torch import Tensor

from ecgs import DOWER, LEADS, Records

TIME, STD = 1000, 0.05
SHAPE = (len(LEADS), TIME)
BASELINES = ("ridge", "dipole", "interpolation", "gaussian process")
# From I, II, V1, ..., V6 to twelve leads, the limb leads first: Einthoven's and Goldberger's laws.
TWELVE = torch.zeros(12, 8)
TWELVE[:6, :2] = torch.tensor([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]])
TWELVE[6:, 2:] = torch.eye(6)


def _leads(*names: str) -> Tensor:
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[[LEADS.index(name) for name in names]] = True
    return mask


def _gap() -> Tensor:
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[:, 400:650] = False
    return mask


def _blocks() -> Tensor:
    mask, rng = torch.ones(SHAPE, dtype=torch.bool), np.random.default_rng(0)
    for row in mask:
        start = rng.integers(TIME // 2)
        row[start : start + TIME // 2] = False
    return mask


# What is seen.
TASKS: dict[str, tuple[str, Tensor]] = {
    "I": ("lead I seen, the others missing", _leads("I")),
    "I, II": ("leads I and II seen", _leads("I", "II")),
    "I, II, V2": ("leads I, II and V2 seen", _leads("I", "II", "V2")),
    "gap": ("2.5 s missing in all leads", _gap()),
    "blocks": ("half of each lead missing, in blocks at different times", _blocks()),
    "noise": ("all seen", torch.ones(SHAPE, dtype=torch.bool)),
}


class Baselines:
    """Linear and Gaussian estimates, fitted to the training part of the real records."""

    def __init__(self, records: list[Records]) -> None:
        x = torch.cat([each.train for each in records]).double()
        self.mean = x.mean((0, 2))
        x = x - self.mean[:, None]
        power = torch.fft.rfft(x, 2 * TIME)
        spectra = torch.einsum("nat,nbt->tab", power, power.conj()) / len(x) / TIME
        self.processes: dict[str, tuple[Tensor, Tensor]] = {}
        # Of lead a later than b by t, whose lags are weighed so that it is a covariance.
        self.lags = torch.fft.irfft(spectra, 2 * TIME, dim=0)

    def covariance(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Between entries of flattened signals, of a stationary process."""
        (a, s), (b, t) = ((i // TIME, i % TIME) for i in (rows[:, None], columns[None]))
        out: Tensor = self.lags[(s - t) % (2 * TIME), a, b]
        return out

    def process(self, task: str) -> tuple[Tensor, Tensor]:
        """Gain and standard deviation of the exact posterior of a stationary Gaussian process, of all entries."""
        if task in self.processes:
            return self.processes[task]
        seen, every = TASKS[task][1].flatten().nonzero()[:, 0], torch.arange(math.prod(SHAPE))
        inner = self.covariance(seen, seen) + STD**2 * torch.eye(len(seen))
        root = torch.linalg.cholesky(inner)
        half = torch.linalg.solve_triangular(root, self.covariance(seen, every), upper=False)
        variance = self.lags[0].diagonal().repeat_interleave(TIME) - half.square().sum(0)
        gain = torch.linalg.solve_triangular(root.mT, half, upper=True).mT
        self.processes[task] = gain, variance.clamp(min=1e-12).sqrt()
        return self.processes[task]

    def __call__(self, method: str, task: str, y: Tensor) -> tuple[Tensor, Tensor | None] | None:
        """An estimate of the whole and its standard deviation, if it has one; None where it says nothing."""
        mask, mean = TASKS[task][1], self.mean[:, None]
        filled = torch.zeros(SHAPE, dtype=torch.double)
        filled[mask] = y.double()
        by_lead = bool((mask.all(1) | ~mask.any(1)).all()) and not mask.all()
        seen = mask[:, 0]
        if method == "gaussian process":
            gain, std = self.process(task)
            return (gain @ (filled - mean)[mask]).reshape(SHAPE) + mean, std.reshape(SHAPE)
        if method == "ridge" and by_lead:
            now = self.lags[0]
            noisy = now[seen][:, seen] + STD**2 * torch.eye(int(seen.sum()))
            gain = torch.linalg.solve(noisy, now[seen]).mT
            std = (now - gain @ now[seen]).diagonal().sqrt()
            return gain @ (filled - mean)[seen] + mean, std[:, None].expand(SHAPE)
        if method == "dipole" and by_lead:
            lead_field = DOWER.double()
            return lead_field @ torch.linalg.pinv(lead_field[seen]) @ filled[seen], None
        if method == "interpolation" and not by_lead and not mask.all():
            pairs, times = zip(mask, filled, strict=True), np.arange(TIME)
            rows = [np.interp(times, row.nonzero()[:, 0], x[row]) for row, x in pairs]
            return torch.from_numpy(np.stack(rows)), None
        return None
