"""A prior of four stems whose law is known: white noise, which a network with an output of 0 denoises exactly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from safetensors.torch import save_file

from posteria.modalities import MODALITIES, Signal, Source
from posteria.priors.card import Card, Data
from posteria.priors.local import LocalUNet

NAMES = ("bass", "drums", "guitar", "piano")
RATE, GAIN, STD = 1000, 10.0, 0.5
CARD = f"""
name = "white"
reader = "local"
modality = "audio"
about = "white noise"
[data]
shape = [4, 512]
units = "10 times the amplitude"
rate = {RATE}
gain = {GAIN}
names = {list(NAMES)}
"""

AUDIO = MODALITIES["audio"].of(
    Card(name="a", reader="local", path=".", data=Data(rate=RATE, names=NAMES, gain=GAIN))
)


def measured(
    path: Path, task: str, shape: tuple[int, ...] = (4, 500), **options: Any
) -> tuple[Signal, Any]:
    """A file as a measurement, and how it was measured."""
    found = AUDIO.degradation(task, shape, options, source=Source(path))
    return AUDIO.read_measurement(path, found, taker="it measures", std=0.01), found


def white(folder: Path, stems: int = 4) -> Path:
    """Files of that prior; independent samples of standard deviation `STD` in data units."""
    folder.mkdir()
    net = LocalUNet(stems, (8, 8), (1, 1), patch=2, kernel=3, axes=1)
    parts = {name: part.contiguous() for name, part in net.state_dict().items()}
    config = {
        "kind": "unet1d",
        "channels": stems,
        "widths": [8, 8],
        "blocks": [1, 1],
        "patch": 2,
        "kernel": 3,
    }
    (folder / "network.json").write_text(
        json.dumps({**config, "mean": 0.0, "std": STD, "sigma_data": STD, "size": [512]})
    )
    save_file(parts, folder / "network.safetensors")
    names = f'names = ["sound"]\nshape = [{stems}, 512]' if stems == 1 else ""
    card = (
        CARD
        if stems == 4
        else CARD.replace("shape = [4, 512]", "").replace(f"names = {list(NAMES)}", names)
    )
    (folder / "card.toml").write_text(card)
    return folder


def song(
    path: Path,
    channels: int = 1,
    seconds: float = 0.5,
    rate: int = RATE,
    seed: int = 0,
    subtype: str | None = None,
) -> np.ndarray:
    """A file of white noise of the loudness that the prior knows, `[frames, channels]` of full scale 1."""
    x = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, x, rate, subtype=subtype)
    return np.asarray(soundfile.read(path, always_2d=True)[0])
