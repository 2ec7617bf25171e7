"""What is seen of ECGs at 100 Hz, and linear and Gaussian estimates of the rest."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from data.ecgs import DOWER, LEADS, Records
from posteria.modalities import MODALITIES
from posteria.modalities.ecg.leads import twelve
from posteria.operators import Inpainting, Operator

TIME, STD = 1000, 0.05
SHAPE = (len(LEADS), TIME)
BASELINES = ("ridge", "dipole", "interpolation", "gaussian process")
TWELVE = twelve().float()
# Where an amplifier of `clip` ends, in mV.
LIMIT = 0.5


@dataclass(frozen=True)
class Seen:
    """What a task sees of a record, before noise of `STD` is added, and which entries `[8, time]` it lists."""

    about: str
    operator: Operator
    mask: Tensor
    gap: tuple[int, int] | None = None

    @property
    def by_lead(self) -> bool:
        """Whether leads are seen as a whole or not at all, under white noise."""
        return bool((self.mask.all(1) | ~self.mask.any(1)).all()) and not self.mask.all()

    def missing(self, x: Tensor) -> Tensor:
        """Entries of the twelve leads that cannot be read off what is seen of a record; all, if there are none."""
        seen = self.mask if self.linear else x.abs() < LIMIT
        return TWELVE.abs() @ (~seen).float() > 0 if not seen.all() else torch.ones(12, TIME) > 0

    @property
    def linear(self) -> bool:
        """Whether nothing is clipped."""
        return isinstance(self.operator, Inpainting)

    def of(self, x: Tensor, noise: Tensor) -> Tensor:
        """The measurement of a record, both `[8, time]`."""
        seen: Tensor = self.operator(x)
        return seen + STD * noise[self.mask].reshape(seen.shape)


def _task(about: str, name: str, **options: Any) -> Seen:
    operator = MODALITIES["ecg"].degradation(name, SHAPE, options).operator
    every = torch.ones(SHAPE, dtype=torch.bool)
    return Seen(about, operator, operator.mask if isinstance(operator, Inpainting) else every)


def _part(about: str, starts: ArrayLike, length: int, *, together: bool = False) -> Seen:
    """Of each lead a part is missing that begins at a time of its own, or all at once."""
    first, time = torch.as_tensor(starts)[:, None], torch.arange(TIME)
    mask = ((time < first) | (time >= first + length)).expand(SHAPE)
    gap = (int(first[0]), int(first[0]) + length - 1) if together else None
    return Seen(about, Inpainting(mask), mask, gap)


TASKS = {
    "I": _task("lead I seen, the others missing", "leads", keep="I"),
    "I, II": _task("leads I and II seen", "leads", keep="I,II"),
    "I, II, V2": _task("leads I, II and V2 seen", "leads", keep="I,II,V2"),
    "gap": _part("2.5 s missing in all leads", [400], 250, together=True),
    "blocks": _part(
        "half of each lead missing, in blocks at different times",
        np.random.default_rng(0).integers(TIME // 2, size=len(LEADS)),
        TIME // 2,
    ),
    "noise": _task("all seen", "noise"),
    "wander": _task(
        "all seen, the baseline wandering by 0.2 mV and muscles of 0.1 mV",
        "noise",
        wander=4.0,
        muscle=2.0,
    ),
    "bedside": _task(
        "leads I, II and V5 seen but for 2.5 s, the baseline wandering by 0.2 mV",
        "bedside",
        keep="I,II,V5",
        mask="block",
        wander=4.0,
    ),
    "clip": _task(f"clipped at {LIMIT} mV", "clip", limit=LIMIT),
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

    @staticmethod
    def suits(method: str, task: str) -> bool:
        """Whether an estimate says anything of a task."""
        seen = TASKS[task]
        if method == "gaussian process":
            return seen.linear
        return seen.by_lead if method != "interpolation" else task in {"gap", "blocks", "clip"}

    def process(self, task: str) -> tuple[Tensor, Tensor]:
        """Gain and standard deviation of the exact posterior of a stationary Gaussian process, of all entries."""
        if task not in self.processes:
            seen = TASKS[task].operator
            time = torch.arange(TIME)
            # Of entry (a, s) with every other, a lead at a time.
            rows = [self.lags[time[:, None] - time, a].mT for a in range(len(LEADS))]
            between = torch.cat([seen(row) for row in rows])
            inner = seen(between.mT.reshape(-1, *SHAPE)) + STD**2 * torch.eye(between.shape[1])
            root = torch.linalg.cholesky(inner)
            half = torch.linalg.solve_triangular(root, between.mT, upper=False)
            variance = self.lags[0].diagonal().repeat_interleave(TIME) - half.square().sum(0)
            gain = torch.linalg.solve_triangular(root.mT, half, upper=True).mT
            # One at a time: they have up to half a gigabyte.
            self.processes = {task: (gain, variance.clamp(min=1e-12).sqrt())}
        return self.processes[task]

    def __call__(self, method: str, task: str, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """An estimate of the whole and its standard deviation, if it has one."""
        mean, mask = self.mean[:, None], TASKS[task].mask
        if method == "gaussian process":
            gain, std = self.process(task)
            off = y.double() - TASKS[task].operator(mean.expand(SHAPE))
            return (gain @ off).reshape(SHAPE) + mean, std.reshape(SHAPE)
        filled, seen = torch.zeros(SHAPE, dtype=torch.double), mask[:, 0]
        filled[mask] = y.double().flatten()
        if method == "ridge":
            now = self.lags[0]
            noisy = now[seen][:, seen] + STD**2 * torch.eye(int(seen.sum()))
            gain = torch.linalg.solve(noisy, now[seen]).mT
            std = (now - gain @ now[seen]).diagonal().sqrt()
            return gain @ (filled - mean)[seen] + mean, std[:, None].expand(SHAPE)
        if method == "dipole":
            lead_field = DOWER.double()
            return lead_field @ torch.linalg.pinv(lead_field[seen]) @ filled[seen], None
        if not TASKS[task].linear:
            return filled, None
        pairs, times = zip(mask, filled, strict=True), np.arange(TIME)
        return torch.from_numpy(
            np.stack([np.interp(times, m.nonzero()[:, 0], x[m]) for m, x in pairs])
        ), None
