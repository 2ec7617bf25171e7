"""Which reader reads what. A new one is a file beside this and a line in `READERS`."""

from pathlib import Path
from typing import Protocol

import torch

from ...core.errors import CapabilityError
from ...diffusion.denoiser import Conditional
from .adm import read_adm
from .folder import parts_of
from .mixture import read_mixture
from .pixel import read_pixel


class Reader(Protocol):
    """Makes a prior of its files."""

    def __call__(
        self,
        files: Path,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        size: tuple[int, int] | None,
    ) -> Conditional:
        """Read a prior.

        Args:
            files: A folder or a file.
            device: Where the network and the samples live.
            dtype: Of the network.
            size: Height and width, if another than the network was trained at.

        Raises:
            InputError: If something is missing, damaged, or does not fit.
            CapabilityError: If it is of a kind that it cannot read.
        """


READERS: dict[str, Reader] = {"pixel": read_pixel, "adm": read_adm, "mixture": read_mixture}

AUTOENCODERS = {"vae", "vqvae", "movq", "vqgan", "autoencoder"}


def reader_of(folder: Path) -> str:
    """Which reader a folder in diffusers' format needs, by its parts.

    Raises:
        CapabilityError: If there is none.
    """
    parts = parts_of(folder)
    if "transformer" not in parts and parts <= {"unet", "scheduler"}:
        return "pixel"
    latent = sorted(parts & AUTOENCODERS)
    kind = f"latents, which its {latent[0]} decodes" if latent else "more than pixels"
    if latent and "latent" in READERS:
        return "latent"
    raise CapabilityError(
        f"{folder} holds {', '.join(sorted(parts))}: its network is one of {kind}. load_prior reads networks of "
        "pixels; take posteria.priors.from_diffusers(diffusers.DiffusionPipeline.from_pretrained(folder))."
    )
