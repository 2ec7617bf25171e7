"""Images of pipelines of diffusers by the samplers of posteria."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...core.errors import CapabilityError, require
from ...diffusion.denoiser import Condition, Denoiser, as_condition
from ...diffusion.reading import beyond
from ...diffusion.schedule import levels_of
from ...samplers.base import Sampler
from ...target import Tilted
from .autoencoder import units_of, unscaled
from .given import Prompt
from .parts import Parts
from .reading import from_diffusers


def sample_pipeline(
    pipeline: Any,
    prompt: str | int | Condition | None = None,
    *,
    sampler: Sampler[Any],
    seeds: Sequence[int],
    weight: float = 7.5,
    null: Condition | None = None,
    size: tuple[int, ...] | None = None,
    batch: int = 4,
) -> Tensor:
    """Images of a pipeline by a sampler of posteria, without safety checker and watermark.

    The pipeline's own scheduler says what the network predicts and is not used otherwise.

    Args:
        pipeline: As for `from_diffusers`.
        prompt: A text, the number of a class, or a condition; None for a model without.
        sampler: `Guided(...)`, `CFGiG(...)` or another sampler of a tilted law; `Unconditional(...)` and
            the like without a prompt.
        seeds: One integer in [0, 2^32) an image; image i is a function of `seeds[i]` alone.
        weight: The power of the condition, diffusers' `guidance_scale`.
        null: What stands for no condition, such as a negative prompt, `Prompt("blurry")`.
        size: Height and width in pixels, if not the network's own.
        batch: Images at a time.

    Returns:
        `[len(seeds), channels, height, width]` in [0, 1].

    Raises:
        CapabilityError: If network, scheduler or sampler are of a kind that does not suit.
        InputError: If the schedule starts above the noise that the network knows.
    """
    prior = from_diffusers(pipeline, size=size, null=null)
    above = beyond(levels_of(sampler.schedule)[0], prior)
    require(not above, f"{above[:-1]}, or schedule_of(pipeline.scheduler, steps).")
    target: Denoiser = prior
    if prompt is not None:
        condition = Prompt(prompt) if isinstance(prompt, str) else prompt
        target = Tilted(prior, as_condition(condition), weight)
    images = [
        decode(pipeline, sampler.sample(target, chosen))
        for chosen in sampler.batches(seeds, batch)
    ]
    return torch.cat(images)


def decode(pipeline: Any, x: Tensor) -> Tensor:
    """The images of samples of a pipeline's prior, in [0, 1], as the pipeline itself makes them.

    Args:
        pipeline: As for `from_diffusers`.
        x: `[n, channels, height, width]`: pixels in [-1, 1], or latents.

    Returns:
        `[n, channels, height, width]` in pixels.

    Raises:
        CapabilityError: If the pipeline makes sound.
    """
    parts = Parts(pipeline)
    vae = parts.vae
    if vae is not None:
        # Some autoencoders overflow in float16.
        own, config = vae.dtype, units_of(vae)
        wide = own == torch.float16 and bool(config.get("force_upcast", False))
        dtype = torch.float32 if wide else own
        latents = unscaled(config, x).to(vae.device, dtype)
        try:
            with torch.no_grad():
                x = vae.to(dtype).decode(latents, return_dict=False)[0].to(x)
        finally:
            vae.to(own)
    if x.ndim < 4 or parts.vocoder is not None:
        raise CapabilityError(
            "decode(pipeline, x) makes images in [0, 1]; this pipeline makes sound: from_diffusers(pipeline).decode(x)."
        )
    return (x / 2 + 0.5).clamp(0, 1)
