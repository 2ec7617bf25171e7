"""`load_prior`: from a name to a denoiser."""

from pathlib import Path

import torch

from ..core.errors import InputError, unknown
from ..diffusion.network import Network
from .folder import load_folder, weights_of
from .shipped import SHIPPED, file_sha256


def load_prior(
    name: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    size: tuple[int, int] | None = None,
    sha256: str | None = None,
    shift: int = 0,
) -> Network:
    """Load a trained prior.

    Args:
        name: `digits` or `emoji`, which ship with the package; a folder in diffusers' format; or
            `diffusers:` and a folder or a name on the Hugging Face hub, such as
            `diffusers:google/ddpm-celebahq-256`.
        device: Where the network and the samples live.
        dtype: Of the network; samples are in float32 at least.
        size: Height and width, if another than the network was trained at.
        sha256: The weights must have this SHA-256.
        shift: For networks with a DDPM table; see `posteria.diffusion.Epsilon`.

    Raises:
        InputError: If there is no such prior, or its files are missing, damaged or not the
            expected ones.
        CapabilityError: If it is not a pixel model that posteria can read.
    """
    folder = _where(name)
    if name in SHIPPED:
        sha256 = SHIPPED[name].sha256
    return load_folder(folder, device=device, dtype=dtype, size=size, sha256=sha256, shift=shift)


def prior_sha256(name: str) -> str:
    """The SHA-256 of a prior's weights, by which a run knows whether they are still the same.

    Args:
        name: As for `load_prior`, with the same errors.
    """
    return file_sha256(weights_of(_where(name)))


def _where(name: str) -> Path:
    """The folder of a prior."""
    if name in SHIPPED:
        return SHIPPED[name].folder
    if name.startswith("diffusers:"):
        return _folder(name.removeprefix("diffusers:"))
    if Path(name).is_dir():
        return Path(name)
    raise unknown("prior", name, [*SHIPPED, "diffusers:FOLDER-OR-NAME"])


def _folder(name: str) -> Path:
    """A local folder, or a copy of one on the hub."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "unet/*.json", "unet/*.safetensors", "scheduler/*.json"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (
        Exception
    ) as error:  # The hub raises a dozen kinds, and which ones changes with its version.
        raise InputError(
            f"There is no folder {name!r}, and the hub did not give a model of that name ({type(error).__name__})."
        ) from error
