"""What the pipelines of diffusers make of texts, as what their networks are given."""

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import CapabilityError, InputError, ShapeError
from ...core.modules import device_of
from ...core.space import Space
from ...diffusion.denoiser import Condition
from .given import Embeddings, Given, Prompt
from .parts import Parts

# What encodes texts, and what splits them, by the names of these parts in a pipeline.
ENCODERS = (
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "projection_model",
    "language_model",
)
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


class Texts:
    """Makes of a condition what a network is given.

    Args:
        parts: Of the pipeline.
        space: Of the network's samples.

    Raises:
        CapabilityError: If the network needs more than a noise level and a text. When it is evaluated: of another
            condition, and without text encoders.
        ShapeError: When it is evaluated: if embeddings do not fit.
    """

    def __init__(self, parts: Parts, space: Space) -> None:
        self.parts, self.space = parts, space
        self.plain = parts.name == STABLE
        if self.plain:
            _check_layout(parts.network)

    def __call__(self, condition: Condition | None) -> Given:
        """What stands for a condition; None is the lack of one."""
        if self.plain and isinstance(condition, Embeddings):
            return _embedded(self.parts, self.space, condition)
        if condition is not None and not isinstance(condition, Prompt):
            also = " or Embeddings(...)" if self.plain else ", or Given(...)"
            raise CapabilityError(
                f"This network is given a text, Prompt('...'){also}; it cannot be given {condition!r}."
            )
        if not reads(self.parts):
            why = (
                "A dictionary of parts does not say how its pipeline reads texts; give from_diffusers the pipeline "
                "itself, or "
                if _unread(self.parts)
                else "There is no text encoder here (those of a folder need transformers: pip install transformers); "
                "give "
            )
            instead = "Embeddings(tokens, pooled)" if self.plain else "Given(...)"
            raise CapabilityError(
                f"{why}{instead} in place of texts, and null={instead.partition('(')[0]}(...)."
            )
        text = None if condition is None else condition.text
        _doubt_length(self.parts.pipeline, text or "")
        with torch.no_grad(), quiet(), _lent(self.parts.pipeline, torch.device(self.space.device)):
            return LAYOUTS[self.parts.name][0](self.parts, self.space, text)


def texts_of(parts: Parts, space: Space) -> Texts | None:
    """What reads texts for a network; None where nothing does, and where it is not understood."""
    known = parts.name == STABLE or reads(parts) or _unread(parts)
    return Texts(parts, space) if known else None


def _unread(parts: Parts) -> bool:
    """Whether there are encoders in a dictionary, without the pipeline whose method uses them."""
    pipeline = parts.pipeline
    held = isinstance(pipeline, dict) and any(pipeline.get(name) is not None for name in ENCODERS)
    return held and parts.name in LAYOUTS


def reads(parts: Parts) -> bool:
    """Whether there is what its pipeline reads texts with."""
    if parts.name not in LAYOUTS or getattr(parts.pipeline, "encode_prompt", None) is None:
        return False
    there = {name for name in ENCODERS if getattr(parts.pipeline, name, None) is not None}
    _, needed = LAYOUTS[parts.name]
    return there >= needed if parts.name != STABLE else bool(there)


@contextmanager
def quiet() -> Generator[None]:
    """Where diffusers and transformers say nothing of parts whose classes they cannot check, and show no bars."""
    from diffusers.utils import logging

    loggers = [logging]
    if find_spec("transformers"):
        from transformers.utils import logging as others

        loggers.append(others)
    levels = [each.get_verbosity() for each in loggers]
    for each in loggers:
        each.set_verbosity_error()
        each.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.set_verbosity(level)
            each.enable_progress_bar()


@contextmanager
def _lent(pipeline: Any, device: torch.device) -> Generator[None]:
    """Where the text encoders are on the device; those that lie elsewhere take none of its memory before and after."""
    found = [getattr(pipeline, name, None) for name in ENCODERS]
    away = [
        (module, home)
        for module in found
        if isinstance(module, nn.Module) and not hasattr(module, "_hf_hook")
        if (home := device_of(module)) not in {None, device}
    ]
    try:
        for module, _ in away:
            module.to(device)
        yield
    finally:
        for module, home in away:
            module.to(home)


def _doubt_length(pipeline: Any, text: str) -> None:
    """Warn of a text that is cut off."""
    for name in TOKENIZERS:
        tokenizer = getattr(pipeline, name, None)
        most = getattr(tokenizer, "model_max_length", None)
        if most is None or not callable(tokenizer):
            continue
        length = len(tokenizer(text, verbose=False)["input_ids"])
        if length > most:
            warnings.warn(
                f"The text {text!r} has {length} tokens, of which this model reads {most}: its end is cut off.",
                stacklevel=6,
            )
            return


def _stable_diffusion(parts: Parts, space: Space, text: str | None) -> Given:
    """Of Stable Diffusion, whose lack of a text is what stands beside one; and of XL, which may make zeros of it."""
    found = parts.pipeline.encode_prompt(
        prompt=text or "",
        device=space.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=text is None,
    )
    # With and without, in turn; then the same of the pooled ones.
    place = 1 if text is None else 0
    pooled = found[place + 2][0] if len(found) > 2 else None
    return _embedded(parts, space, Embeddings(found[place][0], pooled))


def _of_one(tensor: Tensor, axes: int, what: str) -> Tensor:
    """The embedding of one text, also where it comes as a batch of one."""
    if tensor.ndim < axes or any(n != 1 for n in tensor.shape[: tensor.ndim - axes]):
        raise ShapeError(
            f"Of one text a network is given {what} of {axes} axes; this has shape {tuple(tensor.shape)}. Take the row "
            "of that text, such as prompt_embeds[0]."
        )
    return tensor.reshape(tensor.shape[tensor.ndim - axes :])


def _embedded(parts: Parts, space: Space, seen: Embeddings) -> Given:
    config = parts.network.config
    tokens, pooled = _of_one(seen.tokens, 2, "tokens"), seen.pooled
    width = config.cross_attention_dim
    if isinstance(width, int) and tokens.shape[-1] != width:
        raise ShapeError(
            f"This network is given tokens of {width} channels; these have {tokens.shape[-1]}."
        )
    if config.addition_embed_type != "text_time":
        return Given(encoder_hidden_states=tokens)
    if pooled is None:
        raise InputError(
            "This network is also given a pooled embedding: Embeddings(tokens, pooled)."
        )
    # Size and crop, as the pipeline of Stable Diffusion XL gives them to its network.
    height, width = (side * parts.factor for side in space.shape[1:])
    ids = torch.tensor([height, width, 0, 0, height, width])
    pooled = _of_one(pooled, 1, "a pooled embedding")
    given = config.addition_time_embed_dim * len(ids) + len(pooled)
    wanted = parts.network.add_embedding.linear_1.in_features
    if given != wanted:
        raise CapabilityError(
            f"This network is conditioned on {wanted} numbers beside the text; the layout of Stable "
            f"Diffusion XL with this pooled embedding has {given}."
        )
    added = {"text_embeds": pooled, "time_ids": ids.float()}
    return Given(encoder_hidden_states=tokens, added_cond_kwargs=added)


def _stable_diffusion_3(parts: Parts, space: Space, text: str | None) -> Given:
    tokens, _, pooled, _ = parts.pipeline.encode_prompt(
        prompt=text or "",
        prompt_2=None,
        prompt_3=None,
        device=space.device,
        do_classifier_free_guidance=False,
    )
    return Given(encoder_hidden_states=tokens[0], pooled_projections=pooled[0])


def _pixart(parts: Parts, space: Space, text: str | None) -> Given:
    """Of PixArt-alpha, which is also given size and aspect where it was trained at 1024 pixels."""
    tokens, mask, *_ = parts.pipeline.encode_prompt(
        text or "", do_classifier_free_guidance=False, device=space.device
    )
    height, width = (float(side * parts.factor) for side in space.shape[1:])
    sized = parts.network.config.sample_size == 128
    added = {
        "resolution": torch.tensor([height, width]) if sized else None,
        "aspect_ratio": torch.tensor([height / width]) if sized else None,
    }
    return Given(
        encoder_hidden_states=tokens[0], encoder_attention_mask=mask[0], added_cond_kwargs=added
    )


def _audioldm2(parts: Parts, space: Space, text: str | None) -> Given:
    """Of AudioLDM 2.

    A text is read alone: beside a negative one its pipeline fills both up to one length, which moves the places of its
    language model.
    """
    tokens, mask, generated = parts.pipeline.encode_prompt(text or "", space.device, 1, False)
    return Given(
        encoder_hidden_states=generated[0],
        encoder_hidden_states_1=tokens[0],
        encoder_attention_mask_1=mask[0],
    )


STABLE = "UNet2DConditionModel"
Layout = tuple[Callable[[Parts, Space, str | None], Given], set[str]]
# By the class of the network: what reads a text, and the encoders without which it cannot.
LAYOUTS: dict[str, Layout] = {
    STABLE: (_stable_diffusion, set()),
    "AudioLDM2UNet2DConditionModel": (_audioldm2, {*ENCODERS} - {"text_encoder_3"}),
    "SD3Transformer2DModel": (_stable_diffusion_3, {"text_encoder", "text_encoder_2"}),
    "PixArtTransformer2DModel": (_pixart, {"text_encoder"}),
}


def _check_layout(unet: Any) -> None:
    """Raise `CapabilityError` for a network that needs more than a noise level and a text."""
    config = unet.config
    known_values: dict[str, tuple[str | None, ...]] = {
        "addition_embed_type": (None, "text_time"),
        "class_embed_type": (None,),
        "num_class_embeds": (None,),
        "encoder_hid_dim": (None,),
    }
    for key, known in known_values.items():
        if config.get(key) not in known:
            raise CapabilityError(
                f"posteria reads the layouts of Stable Diffusion and Stable Diffusion XL; this network has "
                f"{key}={config[key]!r}, and needs more than a noise level and a text."
            )
