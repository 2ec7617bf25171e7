"""Which reader reads what. A new one is a file beside this and a line in `READERS`."""

from pathlib import Path
from typing import Protocol

import torch

from ...core.errors import CapabilityError
from ...diffusion.denoiser import Conditional
from ..local.reader import read_local
from ..pipeline.parts import AUTOENCODERS
from .adm import read_adm
from .folder import parts_of, read_json
from .mixture import read_mixture
from .pipeline import read_pipeline
from .pixel import read_pixel


class Reader(Protocol):
    """Makes a prior of its files."""

    def __call__(
        self,
        files: Path,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        size: tuple[int, ...] | None,
    ) -> Conditional:
        """Read a prior.

        Args:
            files: A folder or a file.
            device: Where the network and the samples live.
            dtype: Of the network.
            size: Height and width, or the length of a signal, if another than the network was trained at.

        Raises:
            InputError: If something is missing, damaged, or does not fit.
            CapabilityError: If it is of a kind that it cannot read.
        """


READERS: dict[str, Reader] = {
    "pixel": read_pixel,
    "adm": read_adm,
    "mixture": read_mixture,
    "pipeline": read_pipeline,
    "local": read_local,
}


def reader_of(folder: Path) -> str:
    """Which reader a folder in diffusers' format needs, by its parts.

    Raises:
        CapabilityError: If there is none.
    """
    parts = parts_of(folder)
    if "transformer" not in parts and parts <= {"unet", "scheduler"} and _is_pixel(folder):
        return "pixel"
    if parts & {*AUTOENCODERS, "unet", "transformer"}:
        return "pipeline"
    raise CapabilityError(
        f"{folder} holds {', '.join(sorted(parts))}: posteria reads a unet or a transformer with its scheduler, and an "
        "autoencoder if there is one."
    )


def _is_pixel(folder: Path) -> bool:
    """Whether its network is a U-Net of pixels, or lies at the top, where only those do."""
    config = folder / "unet" / "config.json"
    return not config.exists() or read_json(config).get("_class_name") == "UNet2DModel"
