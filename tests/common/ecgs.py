"""Small ECGs whose values at any time are known, in files that are written on the spot."""

from pathlib import Path

import numpy as np
import torch

from posteria.modalities.ecg.formats import extra, quiet
from posteria.modalities.ecg.leads import EIGHT, TWELVE, twelve


def eight(times: np.ndarray) -> np.ndarray:
    """The eight leads at these seconds, `[8, n]` in mV: two tones each, below 12 Hz."""
    k = np.arange(8)[:, None]
    slow = 0.3 * np.sin(2 * np.pi * (0.9 + 0.2 * k) * times + k)
    wave: np.ndarray = slow + 0.15 * np.cos(2 * np.pi * (4 + k) * times) + 0.05 * k
    return wave


def all_twelve(times: np.ndarray) -> np.ndarray:
    """All of them, `[12, n]`."""
    leads: np.ndarray = twelve().numpy() @ eight(times)
    return leads


def times(rate: float, seconds: float = 4.0) -> np.ndarray:
    return np.arange(round(seconds * rate)) / rate


def write_record(
    folder: Path,
    name: str = "rec",
    rate: float = 500.0,
    *,
    leads: tuple[str, ...] = TWELVE,
    values: np.ndarray | None = None,
    spelled: list[str] | None = None,
    fmt: str = "16",
    gain: float = 2000.0,
    unit: str = "mV",
    baseline: int = 10,
    seconds: float = 4.0,
) -> Path:
    """A record of WFDB; values are those of `all_twelve` unless they are given, `[k, n]` in mV."""
    if values is None:
        values = all_twelve(times(rate, seconds))[[TWELVE.index(lead) for lead in leads]]
    k, factor = len(leads), {"mV": 1.0, "uV": 1e3}[unit]
    with quiet():
        extra("wfdb").wrsamp(
            name,
            fs=rate,
            units=[unit] * k,
            sig_name=spelled or list(leads),
            p_signal=factor * values.T,
            fmt=[fmt] * k,
            adc_gain=[gain / factor] * k,
            baseline=[baseline] * k,
            write_dir=str(folder),
        )
    return folder / f"{name}.hea"


def write_arrays(path: Path, **more: object) -> Path:
    """Eight leads at 100 Hz with their names."""
    given = {"x": eight(times(100)), "fs": 100.0, "leads": list(EIGHT), "units": "mV", **more}
    np.savez(path, **{name: np.asarray(value) for name, value in given.items()})
    return path


def write_prior(folder: Path) -> Path:
    """A tiny local network of eight leads, of random weights."""
    import json

    from safetensors.torch import save_file

    from posteria.priors.local import LocalUNet

    folder.mkdir()
    config = {
        "channels": 8,
        "widths": [8, 8],
        "blocks": [1, 1],
        "patch": 4,
        "kernel": 3,
        "strides": [2],
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = LocalUNet(**config, axes=1)  # type: ignore[arg-type]
        with torch.no_grad():
            for part in net.parameters():
                part.add_(0.02 * torch.randn_like(part))
    save_file(net.state_dict(), folder / "network.safetensors")
    (folder / "network.json").write_text(
        json.dumps({"kind": "unet1d", **config, "mean": 0.0, "std": 0.25, "size": [1024]})
    )
    (folder / "card.toml").write_text(
        'name = "tiny"\nreader = "local"\nmodality = "ecg"\n[data]\nshape = [8, 1024]\nunits = "mV"\nrate = 100.0\n'
    )
    return folder
