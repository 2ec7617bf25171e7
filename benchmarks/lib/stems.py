"""Songs of four stems for measures: excerpts, what separates them without a network, and stems of known spectra."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import posteria as po
from data.songs import GAIN, HELD_OUT, RATE as RATE, STEMS as STEMS, excerpt

LENGTH = 24_576


def excerpts(songs: Path, *, held_out: bool, most: int | None = None) -> dict[str, Tensor]:
    """2.23 s of songs by name, a third of the way in, `[4, time]` in units of the prior: held out or trained on."""
    paths = [p for p in sorted(songs.glob("*.npy")) if (int(p.stem) >= HELD_OUT) == held_out]
    files = {path.stem: np.load(path, mmap_mode="r") for path in paths[:most]}
    return {name: excerpt(song, song.shape[1] // 3, LENGTH) for name, song in files.items()}


def slakh(folder: Path) -> dict[str, Tensor]:
    """Excerpts of one track of Slakh2100, at half its rate, which nothing here is tuned on."""
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    rows = [wavfile.read(folder / f"{stem}.wav")[1] / 32768 for stem in STEMS]
    song = torch.from_numpy(resample_poly(np.stack(rows), 1, 2, axis=1)).float() * GAIN
    starts = range(5 * RATE, song.shape[1] - LENGTH, 6 * RATE)
    return {f"{start // RATE} s": song[:, start : start + LENGTH] for start in starts}


# What needs no network. Masks are on a short-time Fourier transform of 93 ms.


def stft(x: Tensor) -> Tensor:
    """`[..., time]` to `[..., frequencies, frames]`."""
    return torch.stft(x, 1024, 256, window=torch.hann_window(1024), return_complex=True)


def masked(mixture: Tensor, powers: Tensor) -> Tensor:
    """The mixture `[time]` in shares of powers `[4, frequencies, frames]`, `[4, time]`."""
    shares = powers / powers.sum(0).clamp(min=1e-12)
    return torch.istft(
        shares * stft(mixture), 1024, 256, window=torch.hann_window(1024), length=len(mixture)
    )


def factors(v: Tensor, w: Tensor, steps: int, *, learn: bool) -> tuple[Tensor, Tensor]:
    """`v ~ w h` by multiplicative steps on the Kullback-Leibler divergence (Lee, Seung, 2001); `learn` moves `w`."""
    h = torch.full((w.shape[1], v.shape[1]), float(v.mean()))
    for _ in range(steps):
        h = h * (w.mT @ (v / (w @ h + 1e-9))) / w.sum(0)[:, None]
        if learn:
            w = w * ((v / (w @ h + 1e-9)) @ h.mT) / h.sum(1)
            w = w / w.sum(0)
    return w, h


@cache
def learnt(songs: Path, components: int = 32) -> tuple[Tensor, Tensor]:
    """Of the first 100 training songs: mean powers `[4, frequencies, 1]` and non-negative factors of magnitudes."""
    parts = [stft(x) for x in excerpts(songs, held_out=False, most=100).values()]
    size = torch.stack(parts, 2).abs().flatten(2)
    start = torch.rand(4, size.shape[1], components, generator=torch.Generator().manual_seed(0))
    pairs = zip(size, start, strict=True)
    found = [factors(v, w / w.sum(0), 100, learn=True)[0] for v, w in pairs]
    return size.square().mean(2, keepdim=True), torch.stack(found)


def by_masks(method: str, truth: Tensor, songs: Path) -> Tensor:
    """A baseline's stems of the sum."""
    mixture = truth.sum(0)
    if method == "oracle mask":
        return masked(mixture, stft(truth).abs().square())
    powers, parts = learnt(songs)
    if method == "Wiener, mean spectra":
        return masked(mixture, powers)
    v = stft(mixture).abs()
    _, h = factors(v, torch.cat(list(parts), 1), 100, learn=False)
    stems = [w @ part for w, part in zip(parts, h.chunk(4), strict=True)]
    return masked(mixture, torch.stack(stems).square())


BASELINES = ("oracle mask", "Wiener, mean spectra", "non-negative factors")


def gaussian_stems(time: int = 32) -> po.Gaussian:
    """Four stationary stems on a circle, `[4, time]`: low, broad, middle and high, with overlaps."""
    at = torch.fft.fftfreq(time, dtype=torch.float64).abs()
    spectra = [torch.exp(-((at / 0.06) ** 2)), 0.15 + 0 * at]
    spectra += [torch.exp(-(((at - middle) / 0.1) ** 2)) for middle in (0.15, 0.3)]
    wave = torch.fft.ifft(torch.eye(time, dtype=torch.complex128), norm="ortho")
    blocks = [(wave.mT.conj() @ torch.diag(s + 1e-3).to(wave) @ wave).real for s in spectra]
    covariance: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return po.Gaussian(torch.zeros(4, time, dtype=torch.float64), covariance)
