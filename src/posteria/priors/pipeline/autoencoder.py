"""Autoencoders of diffusers as decoders."""

import copy
import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ...core.errors import CapabilityError, require
from ...core.modules import device_of
from ...core.space import Space, real
from ...latent import Decoder
from .parts import Parts
from .sounds import heard

# The factor of latents where a configuration was saved without one: pipelines multiplied by it, those of vector
# quantisation by none.
FACTORS = {"AutoencoderKL": 0.18215, "VQModel": 1.0}
# Autoencoders whose decoded signal is no function of the latents.
DRAWS = {"ConsistencyDecoderVAE"}


@runtime_checkable
class Autoencoder(Protocol):
    """What an autoencoder of diffusers has that posteria uses."""

    config: Any
    dtype: Any
    device: Any
    encode: Any
    decode: Any
    float: Any


def unscaled(config: Any, z: Tensor) -> Tensor:
    """Latents as the autoencoder has them, from those that the network sees."""
    scale, shift, spread = _units(config, z)
    return z * spread / scale + shift


def scaled(config: Any, z: Tensor) -> Tensor:
    """Latents as the network sees them, from those that the autoencoder has."""
    scale, shift, spread = _units(config, z)
    return (z - shift) * scale / spread


def units_of(autoencoder: Any) -> Mapping[str, Any]:
    """The configuration of an autoencoder, which has the units of its latents.

    diffusers fills in the factor of Stable Diffusion where none was saved.
    """
    config: Mapping[str, Any] = autoencoder.config
    filled = "scaling_factor" in (config.get("_use_default_values") or ())
    if filled and config.get("_name_or_path") and type(autoencoder).__name__ in FACTORS:
        return {**config, "scaling_factor": FACTORS[type(autoencoder).__name__]}
    return config


def _units(config: Any, z: Tensor) -> tuple[float, Tensor | float, Tensor | float]:
    """Scale, shift and spread: of all channels, or of each."""
    # Classes without one, such as that of Stable Audio, have latents as the network sees them.
    scale, shift = config.get("scaling_factor", 1.0), config.get("shift_factor")
    shift = 0.0 if shift is None else shift
    for name, value, words in (("scaling", scale, " above 0"), ("shift", shift, "")):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        require(
            number and math.isfinite(value) and (value > 0 or not words),
            f"The {name}_factor of an autoencoder is a number{words}; its config.json has {value!r}.",
        )
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None and std is None:
        return scale, shift, 1.0
    require(
        mean is not None and std is not None and shift == 0,
        "An autoencoder has latents_mean and latents_std, or neither of them and perhaps a shift_factor; its "
        f"config.json has {mean!r}, {std!r} and {shift!r}.",
    )
    channels = (-1, *(1,) * (z.ndim - 2))
    mean, std = (
        real(value, "The units of latents").to(z).reshape(channels) for value in (mean, std)
    )
    return scale, mean, std


def read_decoder(parts: Parts, latents: Space) -> Decoder:
    """The autoencoder of a pipeline as a decoder of the network's latents; it is not changed.

    Raises:
        CapabilityError: If what decodes is no autoencoder that posteria knows how to ask.
    """
    autoencoder: Any = parts.vae
    name = type(autoencoder).__name__
    if not isinstance(autoencoder, Autoencoder) or name in DRAWS:
        why = ", which draws noise to decode" if name in DRAWS else ""
        raise CapabilityError(
            f"posteria cannot decode with a {name}{why}; give posteria.priors.Latent a prior and a "
            "Decoder(function, latents, shape) of your own."
        )
    config = units_of(autoencoder)
    # What it says of its units is looked at here, and not at the first signal.
    each = [part for part in _units(config, latents.zeros(1)) if isinstance(part, Tensor)]
    require(
        all(len(part) == latents.shape[0] and bool(part.isfinite().all()) for part in each)
        and (not each or bool((each[-1] > 0).all())),
        f"latents_mean and latents_std of an autoencoder hold a number for each of {latents.shape[0]} channels, the "
        "second above 0; these do not.",
    )
    if autoencoder.dtype == torch.float16:
        # Its derivatives overflow, and in some the signals do; the caller's own is not changed.
        autoencoder = copy.deepcopy(autoencoder).float()

    # Where its weights are, or are brought by its hooks.
    device = device_of(autoencoder) or autoencoder.device

    def decode(z: Tensor) -> Tensor:
        inner = unscaled(config, z).to(device, autoencoder.dtype)
        found: Tensor = autoencoder.decode(inner, return_dict=False)[0].to(z)
        return found if parts.vocoder is None else heard(parts.vocoder, found)

    def encode(x: Tensor) -> Tensor:
        found = autoencoder.encode(x.to(device, autoencoder.dtype))
        inner = found.latents if hasattr(found, "latents") else found.latent_dist.mode()
        return scaled(config, inner.to(x))

    if len(latents.shape) == 3 and parts.vocoder is None:
        shape = (
            int(config.get("out_channels", 3)),
            *(parts.factor * n for n in latents.shape[1:]),
        )
    else:
        with torch.no_grad():
            shape = tuple(decode(latents.zeros(1)).shape[1:])
    decoder = Decoder(decode, latents, shape, encode if parts.vocoder is None else None)
    decoder.autoencoder = autoencoder
    return decoder
