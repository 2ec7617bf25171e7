"""Pipelines of texts to sound, in the layout of AudioLDM 2: what they make of a text, and the size of their latents."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...core.errors import CapabilityError, require
from .given import Given
from .parts import Parts

NETWORK = "AudioLDM2UNet2DConditionModel"


def texts_of(parts: Parts) -> Callable[[str], Given] | None:
    """What makes of a text what the network is given; None for another network, or without text encoders.

    A text is read alone: beside a negative one the pipeline fills both up to one length, which moves the places of
    its language model.
    """
    encode = getattr(parts.pipeline, "encode_prompt", None)
    readers = ("text_encoder", "text_encoder_2", "language_model", "projection_model")
    lacking = any(getattr(parts.pipeline, name, None) is None for name in readers)
    if parts.name != NETWORK or encode is None or lacking:
        return None

    @torch.no_grad()
    def read(text: str) -> Given:
        tokens, mask, generated = encode(text, parts.pipeline.device, 1, False)
        return Given(
            encoder_hidden_states=generated[0],
            encoder_hidden_states_1=tokens[0],
            encoder_attention_mask_1=mask[0],
        )

    return read


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
