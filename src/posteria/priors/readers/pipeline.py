"""Pipelines of diffusers as priors."""

from typing import Any

from ...core.errors import CapabilityError, InputError, require
from ...diffusion.denoiser import Condition, Conditional, Label
from ...diffusion.network import Network
from .parts import Parts
from .schedulers import WAY_OUT, reading_of
from .texts import TextPrior
from .unet import check_unet, in_units, whole


def from_diffusers(
    pipeline: Any,
    *,
    size: tuple[int, int] | None = None,
    null: Condition | None = None,
) -> Conditional:
    """The network of a pipeline as a prior: of pixels, or of the latents of its autoencoder as the network sees them.

    Reads pixel and latent models with `UNet2DModel` (classes or nothing), `DiTTransformer2DModel` (classes), and
    `UNet2DConditionModel` in the layouts of Stable Diffusion 1 and 2 and of Stable Diffusion XL (texts). The
    network is neither copied nor changed. Where its weights are offloaded, it computes where its hooks bring them.

    Args:
        pipeline: A pipeline, or a dictionary of its parts: `unet` or `transformer`, `scheduler`, and `vae` if any.
        size: Height and width in pixels, if not the network's own.
        null: What stands for no condition. By default the class after the last one for `DiTTransformer2DModel`,
            nothing for `UNet2DModel` with classes, and what the pipeline does without a negative
            prompt for texts, where it may be a negative prompt, `Prompt("blurry")`.

    Raises:
        CapabilityError: If network or scheduler are of a kind that posteria cannot read.
        InputError: If there is no such null condition or size.
    """
    parts = Parts(pipeline)
    network, name = parts.network, parts.name
    if name not in {"UNet2DModel", "DiTTransformer2DModel", "UNet2DConditionModel"}:
        raise CapabilityError(
            f"posteria cannot read a {name}; it reads UNet2DModel, DiTTransformer2DModel and "
            f"UNet2DConditionModel. {WAY_OUT}"
        )
    reading, space = reading_of(parts.scheduler), parts.space(size)
    if name == "UNet2DConditionModel":
        return TextPrior(parts, space, reading, null)
    label = None if null is None else _label(null)
    if name == "DiTTransformer2DModel":
        classes = int(network.config.num_embeds_ada_norm)
        require(
            label in {None, classes}, f"The null label of this network is {classes}; null={null}."
        )
        return Network(network, space, reading, labels=classes, null_label=classes)
    check_unet(network.config)
    classes = int(network.config.num_class_embeds or 0)
    require(
        label in {None, classes - 1},
        f"The null label is the last of the {classes} classes of this network; null={null}.",
    )
    labels = classes if label is None else classes - 1
    reading = whole(reading, network.config)
    return in_units(Network(network, space, reading, labels=labels, null_label=label))


def _label(null: Condition) -> int:
    if not isinstance(null, Label):
        raise InputError(
            f"This network knows classes; the null condition is a Label, not {null!r}."
        )
    return null.label
