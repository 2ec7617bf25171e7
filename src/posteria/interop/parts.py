"""The parts of a pipeline of diffusers: its network, scheduler and autoencoder."""

from typing import Any

import torch
from torch import Tensor

from ..core.errors import CapabilityError, require
from ..core.space import Space


class Parts:
    """The parts of a pipeline, or of a dictionary of them."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.network: Any = self._part("unet", "transformer")
        self.scheduler: Any = self._part("scheduler")
        self.vae: Any = self._part("vae", "vqvae")
        if self.network is None or self.scheduler is None:
            raise CapabilityError(
                f"A pipeline has a unet or a transformer, and a scheduler; this {type(pipeline).__name__} "
                "lacks one of them."
            )

    def _part(self, *names: str) -> Any:
        for name in names:
            pipeline = self.pipeline
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
        blocks = config.get("block_out_channels") or config["encoder_block_out_channels"]
        return int(2 ** (len(blocks) - 1))

    def space(self, size: tuple[int, int] | None) -> Space:
        """The space of the network's samples; in float32 at least."""
        config, factor = self.network.config, self.factor
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
            require(
                all(pixels > 0 and pixels % factor == 0 for pixels in size),
                f"Height and width are multiples of {factor}; size={size}.",
            )
            sides = size[0] // factor, size[1] // factor
        weights = next(p for p in self.network.parameters() if p.is_floating_point())
        dtype = torch.promote_types(weights.dtype, torch.float32)
        return Space((int(config.in_channels), *sides), dtype, weights.device)


def decode(pipeline: Any, x: Tensor) -> Tensor:
    """The images of samples of a pipeline's prior, in [0, 1], as the pipeline itself makes them.

    Args:
        pipeline: As for `from_diffusers`.
        x: `[n, channels, height, width]`: pixels in [-1, 1], or latents.

    Returns:
        `[n, channels, height, width]` in pixels.
    """
    vae = Parts(pipeline).vae
    if vae is not None:
        # Some autoencoders overflow in float16.
        own = vae.dtype
        wide = own == torch.float16 and bool(vae.config.get("force_upcast", False))
        dtype = torch.float32 if wide else own
        latents = _unscaled(vae.config, x).to(vae.device, dtype)
        with torch.no_grad():
            x = vae.to(dtype).decode(latents, return_dict=False)[0].to(x)
        vae.to(own)
    return (x / 2 + 0.5).clamp(0, 1)


def _unscaled(config: Any, x: Tensor) -> Tensor:
    """Latents as the autoencoder has them, from those that the network sees."""
    scale = float(config.get("scaling_factor", 1.0))
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        mean, std = (torch.tensor(value).to(x)[:, None, None] for value in (mean, std))
        return x * std / scale + mean
    return x / scale + float(config.get("shift_factor") or 0.0)
