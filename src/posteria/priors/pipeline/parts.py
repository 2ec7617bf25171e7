"""The parts of a pipeline of diffusers: its network, scheduler and autoencoder."""

from collections.abc import Iterable
from typing import Any

import torch

from ...core.errors import CapabilityError, require
from ...core.modules import device_of, dtype_of
from ...core.space import Space

NETWORKS = ("unet", "transformer")
AUTOENCODERS = ("vae", "vqvae", "movq", "vqgan", "autoencoder")
# What else posteria knows what to do with, or can leave out, of the parts that diffusers makes.
BESIDE = {
    *("scheduler", "inverse_scheduler", "vocoder", "projection_model", "language_model"),
    *("safety_checker", "feature_extractor", "image_encoder", "watermarker", "watermark"),
}


def check_known(names: Iterable[str], whose: str) -> None:
    """Raise `CapabilityError` unless posteria knows what to do with each part, by its name.

    What encodes texts is looked at where a text is read.
    """
    for name in sorted(set(names) - {*NETWORKS, *AUTOENCODERS, *BESIDE}):
        if name.removesuffix("_2") in NETWORKS:
            raise CapabilityError(
                f"{whose} has a second network, {name}, of which its pipeline takes one or the other by the noise "
                "level; posteria reads one network. Give posteria.Network a function of x and time that calls them."
            )
        if not name.startswith(("text_encoder", "tokenizer")):
            raise CapabilityError(
                f"{whose} has a part {name!r}, of which posteria does not know what it is for. It knows "
                f"{', '.join((*NETWORKS, 'scheduler', *AUTOENCODERS, 'vocoder'))}; give "
                "posteria.priors.from_diffusers a dictionary of those that are meant."
            )


class Parts:
    """The parts of a pipeline, or of a dictionary of them.

    Raises:
        CapabilityError: If there is no network or scheduler, or a part that posteria does not know.
    """

    def __init__(self, pipeline: Any) -> None:
        if isinstance(pipeline, dict):
            known = {name for name, part in pipeline.items() if part is not None} - {"texts"}
        else:
            parts = (getattr(pipeline, "components", None) or vars(pipeline)).items()
            known = {
                name
                for name, part in parts
                if type(part).__module__.startswith("diffusers.models")
            }
        check_known(known, f"This {type(pipeline).__name__}")
        # What encodes texts, where the parts themselves come one by one.
        self.pipeline = pipeline.get("texts", pipeline) if isinstance(pipeline, dict) else pipeline
        self._given = pipeline
        self.network: Any = self._part(*NETWORKS)
        self.scheduler: Any = self._part("scheduler")
        self.vae: Any = self._part(*AUTOENCODERS)
        self.vocoder: Any = self._part("vocoder")
        if self.network is None or self.scheduler is None:
            raise CapabilityError(
                f"A pipeline has a unet or a transformer, and a scheduler; this {type(pipeline).__name__} "
                "lacks one of them."
            )

    def _part(self, *names: str) -> Any:
        for name in names:
            pipeline = self._given
            found = (
                pipeline.get(name) if isinstance(pipeline, dict) else getattr(pipeline, name, None)
            )
            if found is not None:
                return found
        return None

    @property
    def name(self) -> str:
        """The class of the network, without what a compiler wraps around it."""
        return type(getattr(self.network, "_orig_mod", self.network)).__name__

    @property
    def factor(self) -> int:
        """Pixels along a side for each entry of a latent."""
        if self.vae is None:
            return 1
        config = self.vae.config
        blocks = config.get("block_out_channels") or config.get("encoder_block_out_channels")
        return 1 if blocks is None else int(2 ** (len(blocks) - 1))

    def space(
        self, size: tuple[int, ...] | None, shape: tuple[int, ...] | None = None, axes: int = 3
    ) -> Space:
        """The space of the network's samples of so many axes, of a size in pixels or a shape; in float32 at least.

        Raises:
            CapabilityError: If the network takes more channels than there are latents.
            InputError: If there is no such shape or size.
        """
        config, factor = self.network.config, self.factor
        dtype = torch.promote_types(dtype_of(self.network) or torch.float32, torch.float32)
        device = device_of(self.network) or torch.device("cpu")
        if axes == 2 and shape is None and config.get("sample_size"):
            shape = (int(config.in_channels), int(config.sample_size))
        if shape is not None or axes != 3:
            require(
                shape is not None and len(shape) == axes,
                f"A sample of a {self.name} has {axes} axes; give shape=(...) with {axes} numbers (of a folder in "
                f"its posteria.json), not {shape}.",
            )
            return Space(tuple(shape or ()), dtype, device)
        latent = getattr(self.vae, "config", {}).get("latent_channels", config.in_channels)
        if config.in_channels != latent:
            raise CapabilityError(
                f"This network takes {config.in_channels} channels for latents of {latent}: it needs more than "
                "noise, such as a picture to be completed, which posteria cannot give."
            )
        if size is None:
            side = config.sample_size
            require(
                side is not None, "This network has no size of its own; give size=(height, width)."
            )
            sides = (side, side) if isinstance(side, int) else tuple(side)
        else:
            patch = config.get("patch_size")
            multiple = factor * (patch if isinstance(patch, int) else 1)
            require(
                all(pixels > 0 and pixels % multiple == 0 for pixels in size),
                f"Height and width are multiples of {multiple}; size={size}.",
            )
            sides = size[0] // factor, size[1] // factor
        return Space((int(config.in_channels), *sides), dtype, device)
