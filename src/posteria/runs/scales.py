"""The scales of priors that runs have measured, kept for later runs by the hashes of what they were measured on."""

import hashlib
import math
import os
from pathlib import Path

import torch
from safetensors.torch import load, save

from ..core.errors import PosteriaError
from ..diffusion.denoiser import Denoiser, Scale
from ..diffusion.scale import STEPS, known_of, once
from ..priors.load import Origin
from ..version import __version__
from .request import Request
from .store import Store

# What a prior's draws depend on, beside its files.
SETTINGS = ("size", "label", "prompt", "negative", "fast", "weight")


def cache() -> Path:
    """Where measured scales are kept: `POSTERIA_CACHE`, or `posteria` in `XDG_CACHE_HOME` or `~/.cache`."""
    own, users = os.environ.get("POSTERIA_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own)
    return (Path(users) if users else Path("~/.cache").expanduser()) / "posteria"


def recall(prior: Denoiser, request: Request, origin: Origin) -> None:
    """Tell a prior its scale if an earlier run has measured it for the same files and settings.

    Args:
        prior: What a request samples: a prior that was loaded, or a member of it.
        request: Which names it.
        origin: What it is made of.
    """
    if prior.base.scale is None:
        settings = [repr(getattr(request, name, None)) for name in SETTINGS]
        made = (
            *(origin.weights, origin.configuration, __version__, torch.__version__),
            *(str(STEPS), origin.card.reader, repr(prior.space)),
        )
        name = hashlib.sha256("\n".join([*made, *settings]).encode()).hexdigest()
        path = once(prior, "file", lambda: cache() / "scales" / f"{name}.safetensors")
        found = _read(path, prior)
        if found is not None:
            once(prior, "scale", lambda: found)
            once(prior, "from", lambda: "cache")


def keep(prior: Denoiser) -> str | None:
    """Where a prior's scale is from, its `card`, the `cache` or `measured`; None where nobody asked.

    One that was measured is kept. A folder that cannot be written to is left alone: the next run measures again.
    """
    if prior.base.scale is not None:
        return "card"
    known = known_of(prior)
    scale, path = known.get("scale"), known.get("file")
    if scale is None or "from" in known:
        return None if scale is None else "cache"
    if path is not None:
        std = torch.tensor(scale.std, dtype=torch.float64)
        content = save({"mean": scale.mean.cpu().contiguous(), "std": std})
        try:
            Store(path.parent).write(path.name, content)
        except PosteriaError:
            return "measured"
    return "measured"


def _read(path: Path, prior: Denoiser) -> Scale | None:
    """A scale that was kept; None where there is none, or it is damaged."""
    space = prior.space
    try:
        content = load(path.read_bytes())
        mean, std = content["mean"], float(content["std"])
    # A damaged file fails in its own ways, and is measured again.
    except Exception:
        return None
    sound = mean.shape == space.shape and mean.dtype == space.dtype and mean.isfinite().all()
    return Scale(mean.to(space.device), std) if sound and 0 < std < math.inf else None
