"""What a `UNet2DModel` of diffusers must be for posteria to read it."""

import dataclasses
from typing import Any

from ...core.errors import CapabilityError, require
from ...diffusion.denoiser import Conditional
from ...diffusion.network import Network
from ...diffusion.parametrisation import Discrete, Parametrisation, Score
from ...diffusion.units import Units


def check_unet(config: Any) -> None:
    """Raise `CapabilityError` for a `UNet2DModel` that needs more than a noisy signal, a level and a class."""
    check_channels(config)
    embedded = config.get("class_embed_type")
    if embedded is not None:
        raise CapabilityError(
            f"This network has class_embed_type={embedded!r}; posteria gives classes as whole numbers to a table "
            "of embeddings. Give posteria.Network a function of x, time and label that does it."
        )


def check_channels(config: Any) -> None:
    """Raise `CapabilityError` for a network that gives other channels than it takes, or than twice as many."""
    given, made = config.get("in_channels"), config.get("out_channels")
    if made is not None and made not in {given, 2 * given}:
        raise CapabilityError(
            f"This network takes {given} channels and gives {made}: it needs more than a noisy signal, such as a "
            "picture to be enlarged or completed. Give posteria.Network a function of x and time that adds it."
        )


def check_distilled(config: Any) -> None:
    """Raise `CapabilityError` for a network that is given the strength of guidance, which is no denoiser."""
    for key in ("guidance_embeds", "time_cond_proj_dim"):
        if config.get(key):
            raise CapabilityError(
                f"This network has {key}={config[key]!r}: it is given the strength of guidance too, so that it is "
                "distilled and no denoiser, and needs more than a noise level and a text."
            )


def with_whole_steps(reading: Parametrisation, config: Any) -> Parametrisation:
    """The reading, with whole timesteps where the network has a table of embeddings for them."""
    if config.get("time_embedding_type") != "learned":
        return reading
    if not isinstance(reading, Discrete):
        raise CapabilityError(
            f"This network has a table of embeddings for whole timesteps, which {reading!r} has none of."
        )
    steps, known = len(reading.betas.sigmas), config.get("num_train_timesteps")
    require(
        known is None or known >= steps,
        f"This network has embeddings of {known} timesteps, and its scheduler a table of {steps}.",
    )
    return dataclasses.replace(reading, whole=True)


def in_units(network: Network) -> Conditional:
    """The network as a prior of pictures in [-1, 1]; those of the variance-exploding SDE have data in [0, 1]."""
    return Units(network, 0.0, 1.0) if isinstance(network.parametrisation, Score) else network
