"""Pipelines of diffusers as priors, and their images by the samplers of posteria."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import CapabilityError, InputError, require
from ..diffusion.denoiser import Condition, Conditional, Denoiser, Label
from ..diffusion.network import Discrete, Network, Parametrisation
from ..diffusion.schedule import levels_of
from ..priors.folder import Folded
from ..samplers.base import Sampler
from ..target import Tilted
from .parts import Parts, decode
from .schedules import reading_of
from .texts import Prompt, TextPrior


def from_diffusers(
    pipeline: Any,
    *,
    size: tuple[int, int] | None = None,
    null: Condition | None = None,
) -> Conditional:
    """The network of a pipeline as a prior: of pixels, or of the latents of its autoencoder as the network sees them.

    Reads pixel and latent models with `UNet2DModel` (classes or nothing), `DiTTransformer2DModel` (classes), and
    `UNet2DConditionModel` in the layouts of Stable Diffusion 1 and 2 and of Stable Diffusion XL (texts). The
    network is not copied: it is put in evaluation mode and its weights are frozen.

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
            "UNet2DConditionModel. Wrap the network with posteria.Network."
        )
    reading = reading_of(parts.scheduler)
    space = parts.space(size)
    if name == "UNet2DConditionModel":
        return TextPrior(parts, space, reading, null)
    label = None if null is None else _label(null)
    if name == "DiTTransformer2DModel":
        classes = int(network.config.num_embeds_ada_norm)
        label = classes if label is None else label
        require(label == classes, f"The null label of this network is {classes}; null={null}.")
        return Network(_Classes(network), space, reading, labels=classes, null_label=classes)
    classes = int(network.config.num_class_embeds or 0)
    require(
        label is None or label == classes - 1,
        f"The null label is the last of the {classes} classes of this network; null={null}.",
    )
    return Network(
        Folded(network, 1),
        space,
        reading,
        labels=classes if label is None else classes - 1,
        null_label=label,
    )


def sample_pipeline(
    pipeline: Any,
    prompt: str | int | Condition | None = None,
    *,
    sampler: Sampler[Any],
    seeds: Sequence[int],
    weight: float = 7.5,
    null: Condition | None = None,
    size: tuple[int, int] | None = None,
    batch: int = 4,
) -> Tensor:
    """Images of a pipeline by a sampler of posteria.

    `CFGiG(schedule=Karras(steps=32, sigma_min=0.03, sigma_max=14.6))` or `Guided(rule=APG(), schedule=...)`
    with `schedule_of(pipeline.scheduler, 30)`. The pipeline's own scheduler says what the network predicts and is
    not used otherwise. There is no safety checker and no watermark.

    Args:
        pipeline: As for `from_diffusers`.
        prompt: A text, the number of a class, or a condition; None for a model without.
        sampler: `Guided(...)`, `CFGiG(...)` or another sampler of a tilted law; `Unconditional(...)` and the like
            without a prompt.
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
    _check_range(sampler, reading_of(Parts(pipeline).scheduler))
    target: Denoiser = prior
    if prompt is not None:
        condition = Prompt(prompt) if isinstance(prompt, str) else prompt
        target = Tilted(
            prior, Label(condition) if isinstance(condition, int) else condition, weight
        )
    images = [
        decode(pipeline, sampler.sample(target, chosen))
        for chosen in sampler.batches(seeds, batch)
    ]
    return torch.cat(images)


class _Classes(nn.Module):
    """A transformer that is given classes."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """The network's output."""
        output: Tensor = self.transformer(x, timestep=time, class_labels=label).sample
        return output


def _label(null: Condition) -> int:
    if not isinstance(null, Label):
        raise InputError(
            f"This network knows classes; the null condition is a Label, not {null!r}."
        )
    return null.label


def _check_range(sampler: Sampler[Any], reading: Parametrisation) -> None:
    """Raise `InputError` for a schedule above the noise of a network's training."""
    highest = levels_of(sampler.schedule)[0]
    known = reading.betas.sigmas[-1] if isinstance(reading, Discrete) else math.inf
    require(
        highest <= 1.01 * known,
        f"This network knows noise up to {known:.4g} and the schedule starts at {highest:.4g}; "
        f"take schedule_of(pipeline.scheduler, steps) or Karras(sigma_max={known:.4g}).",
    )
