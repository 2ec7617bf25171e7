"""The size of latents of sound, and what a vocoder makes of spectrograms, as in AudioLDM 2."""

import math
from typing import Any

from torch import Tensor

from ...core.errors import CapabilityError, require
from .parts import Parts


def latents_of(parts: Parts, length: int | None) -> tuple[int, ...]:
    """The shape of the latents of so many samples of sound, at least; of as many as the network was trained on.

    Raises:
        CapabilityError: If the vocoder does not say how many samples it makes.
    """
    vocoder, config = parts.vocoder.config, parts.network.config
    if not hasattr(vocoder, "upsample_rates"):
        raise CapabilityError(
            f"posteria cannot say how long the sound of a {type(parts.vocoder).__name__} is; give shape=(...) of a "
            "latent."
        )
    step = math.prod(vocoder.upsample_rates) * parts.factor
    require(length is None or length > 0, f"A sound has at least one sample, not {length}.")
    frames = int(config.sample_size) if length is None else -(-length // step)
    return int(config.in_channels), frames, vocoder.model_in_dim // parts.factor


def heard(vocoder: Any, mel: Tensor) -> Tensor:
    """The sound `[n, 1, time]` of spectrograms `[n, 1, frames, bands]`."""
    sound: Tensor = vocoder(mel.squeeze(1).to(vocoder.dtype))
    return sound.to(mel)[:, None]
