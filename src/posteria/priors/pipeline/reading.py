"""Pipelines of diffusers as priors."""

import copy
from typing import Any

from ...core.errors import CapabilityError, InputError, require
from ...diffusion.denoiser import Around, Condition, Conditional, Label
from ...diffusion.network import Network
from ...latent import Latent
from .autoencoder import read_decoder
from .given import Given, GivenPrior
from .parts import Parts
from .schedulers import WAY_OUT, reading_of
from .sounds import latents_of
from .texts import texts_of
from .unet import check_channels, check_distilled, check_unet, in_units, with_whole_steps

# Networks that are given more than a class and whose time is their scheduler's timestep, and how many axes a sample
# has. Others divide the time (Flux, QwenImage, Chroma), turn it round (Lumina, AuraFlow) or pack their samples, and are
# refused.
NETWORKS = {
    "UNet2DConditionModel": 3,
    "UNet1DModel": 2,
    "SD3Transformer2DModel": 3,
    "PixArtTransformer2DModel": 3,
    "AudioLDM2UNet2DConditionModel": 3,
    "StableAudioDiTModel": 2,
    "WanTransformer3DModel": 4,
}
READ = ("UNet2DModel", "DiTTransformer2DModel", *NETWORKS)
WHY = {
    "FluxTransformer2DModel": ": it packs its latents, divides its time by 1000, and its published weights are "
    "distilled with guidance, so that it has neither an unconditional member nor the denoiser that guidance needs",
}


def from_diffusers(
    pipeline: Any,
    *,
    size: tuple[int, ...] | None = None,
    shape: tuple[int, ...] | None = None,
    null: Condition | None = None,
) -> Conditional:
    """The network of a pipeline as a prior: of signals, or a `Latent` of the latents of its autoencoder.

    Reads models with `UNet2DModel` (classes or nothing), `DiTTransformer2DModel` (classes), and `NETWORKS`: texts
    in the layouts of Stable Diffusion 1, 2, XL and 3, PixArt and AudioLDM 2, and whatever their pipeline passes to
    them, `Given(encoder_hidden_states=...)` (docs/priors.md). The network is neither copied nor changed, and computes
    where its hooks bring its weights; text encoders are on its device only while they read.

    Args:
        pipeline: A pipeline, or a dictionary of its parts: `unet` or `transformer`, `scheduler`, and
            `vae` if any.
        size: Height and width in pixels, or the samples of a sound, if not the network's own.
        shape: Of one signal or latent, for a network that does not say it.
        null: What stands for no condition, such as a negative prompt, `Prompt("blurry")`. By default the
            class after the last one for `DiTTransformer2DModel`, nothing for `UNet2DModel` with classes,
            what the pipeline does without a negative prompt for texts; a network that is `Given`
            something has no unconditional member without it.

    Raises:
        CapabilityError: If network or scheduler are of a kind that posteria cannot read.
        InputError: If there is no such null condition or size.
    """
    parts = Parts(pipeline)
    prior = _network(parts, size, shape, null)
    return prior if parts.vae is None else Latent(prior, read_decoder(parts, prior.space))


def check_kind(name: str) -> None:
    """Raise `CapabilityError` for a class of networks that posteria does not read."""
    if name not in READ:
        raise CapabilityError(
            f"posteria cannot read a {name}{WHY.get(name, '')}. It reads {', '.join(READ)}. {WAY_OUT}"
        )


def _network(
    parts: Parts,
    size: tuple[int, ...] | None,
    shape: tuple[int, ...] | None,
    null: Condition | None,
) -> Conditional:
    network, name = parts.network, parts.name
    check_kind(name)
    check_distilled(network.config)
    reading = reading_of(parts.scheduler)
    if name in NETWORKS:
        if parts.vae is None:
            check_channels(network.config)
        if parts.vocoder is not None and shape is None:
            size, shape = None, latents_of(parts, None if size is None else size[0])
        space = parts.space(size, shape, NETWORKS[name])
        widths = network.config.get("block_out_channels")
        free = widths is not None and name.endswith("UNet2DConditionModel")
        multiple = 1 << (len(widths) - 1) if free else 0
        # Of these networks one takes a signal and a level alone.
        null = Given() if null is None and name == "UNet1DModel" else null
        return GivenPrior(network, space, reading, null, texts_of(parts, space), multiple)
    space = parts.space(size, shape)
    if name == "DiTTransformer2DModel":
        classes = int(network.config.num_embeds_ada_norm)
        prior: Conditional = Network(network, space, reading, labels=classes, null_label=classes)
    else:
        check_unet(network.config)
        labels = int(network.config.num_class_embeds or 0)
        steps = with_whole_steps(reading, network.config)
        prior = Network(network, space, steps, labels=labels)
        # Latents are in units of their own.
        prior = in_units(prior) if parts.vae is None else prior
    return prior if null is None else with_null(prior, null)


def _label(null: Condition) -> int:
    if not isinstance(null, Label):
        raise InputError(
            f"This network knows classes; the null condition is a Label, not {null!r}."
        )
    return null.label


def with_null(prior: Conditional, null: Condition) -> Conditional:
    """The same prior where something else stands for no condition, such as a negative prompt.

    Raises:
        CapabilityError: If nothing can, or not this.
    """
    if isinstance(prior, Around) and isinstance(prior.prior, Conditional):
        return prior.around(with_null(prior.prior, null))
    if isinstance(prior, Network) and prior.labels:
        last = prior.labels - 1 if prior.label is None else prior.label
        require(
            _label(null) == last,
            f"The null label of this network is the last, {last}; null={null}.",
        )
        known = copy.copy(prior)
        known.labels = known.label = last
        known._members = {}
        return known
    if not isinstance(prior, GivenPrior):
        raise CapabilityError(
            f"Only a network of texts, or that is Given something, can be without a condition by {null!r}; this is "
            f"{prior!r}."
        )
    prior.given(null)
    changed = copy.copy(prior)
    changed.null, changed.known = null, dict(prior.known)
    return changed
