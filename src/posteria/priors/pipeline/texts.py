"""Networks that are given texts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...core.errors import CapabilityError, InputError, ShapeError
from ...core.modules import device_of, dtype_of
from ...core.space import Space
from ...diffusion.denoiser import Condition, Denoiser, Members
from ...diffusion.network import Network, Parametrisation
from .parts import Parts


@dataclass(frozen=True)
class Prompt(Condition):
    """A text."""

    text: str


@dataclass(frozen=True, eq=False)
class Embeddings(Condition):
    """A text as the network sees it.

    Args:
        tokens: `[length, channels]`, a pipeline's `prompt_embeds` of one prompt.
        pooled: `[channels]`, its `pooled_prompt_embeds`, for networks of the layout of Stable Diffusion XL.
    """

    tokens: Tensor
    pooled: Tensor | None = None

    # Without these two all of them would be equal, because a condition has no fields.
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class TextPrior(Members):
    """A network that is given texts, in the layout of Stable Diffusion or Stable Diffusion XL.

    Without a `null`, no text is what the pipeline makes of none.
    """

    def __init__(
        self, parts: Parts, space: Space, reading: Parametrisation, null: Condition | None
    ) -> None:
        _check_layout(parts.network)
        self.space = space
        self.network = parts.network
        self._parts = parts
        self._reading = reading
        self.null = null
        self.known: dict[Condition | None, Denoiser] = {}
        self.wrap: Callable[[nn.Module], nn.Module] = lambda module: module

    @override
    def given(self, condition: Condition) -> Denoiser:
        if not isinstance(condition, Prompt | Embeddings):
            raise CapabilityError(
                f"This network is given a text, Prompt('...') or Embeddings(...); it cannot be given {condition!r}."
            )
        return self._member(condition)

    @override
    def unconditional(self) -> Denoiser:
        return self._member(None) if self.null is None else self.given(self.null)

    def _member(self, condition: Prompt | Embeddings | None) -> Denoiser:
        if condition not in self.known:
            seen = condition if isinstance(condition, Embeddings) else self._encode(condition)
            module = _Texts(self._parts.network, seen, self._time_ids())
            self.known[condition] = Network(self.wrap(module), self.space, self._reading)
        return self.known[condition]

    def _encode(self, prompt: Prompt | None) -> Embeddings:
        """A prompt as the network sees it; None is the lack of one."""
        pipeline = self._parts.pipeline
        encode = getattr(pipeline, "encode_prompt", None)
        encoders = (getattr(pipeline, name, None) for name in ("text_encoder", "text_encoder_2"))
        if encode is None or all(encoder is None for encoder in encoders):
            raise CapabilityError(
                "There is no text encoder here; give Embeddings(tokens, pooled) in place of texts, and "
                "null=Embeddings(...)."
            )
        text = "" if prompt is None else prompt.text
        with torch.no_grad():
            found = encode(
                prompt=text,
                device=self.space.device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=prompt is None,
            )
        # With and without, in turn; then the same of the pooled ones.
        place = 1 if prompt is None else 0
        return Embeddings(found[place][0], found[place + 2][0] if len(found) > 2 else None)

    def _time_ids(self) -> tuple[int, ...]:
        """Size and crop, as the pipeline of Stable Diffusion XL gives them to its network."""
        height, width = (side * self._parts.factor for side in self.space.shape[1:])
        return (height, width, 0, 0, height, width)


class _Texts(nn.Module):
    """A U-Net that is given one text."""

    def __init__(self, unet: Any, seen: Embeddings, time_ids: tuple[int, ...]) -> None:
        super().__init__()
        self.unet = unet
        device, dtype = device_of(unet), dtype_of(unet)
        self.tokens = seen.tokens.to(device, dtype).reshape(-1, seen.tokens.shape[-1])
        width = unet.config.cross_attention_dim
        if isinstance(width, int) and self.tokens.shape[-1] != width:
            raise ShapeError(
                f"This network is given tokens of {width} channels; these have {self.tokens.shape[-1]}."
            )
        self.pooled = self.time_ids = None
        if unet.config.addition_embed_type == "text_time":
            if seen.pooled is None:
                raise InputError(
                    "This network is also given a pooled embedding: Embeddings(tokens, pooled)."
                )
            self.pooled = seen.pooled.to(device, dtype).flatten()
            self.time_ids = torch.tensor(time_ids).to(device, dtype)
            given = unet.config.addition_time_embed_dim * len(time_ids) + len(self.pooled)
            wanted = unet.add_embedding.linear_1.in_features
            if given != wanted:
                raise CapabilityError(
                    f"This network is conditioned on {wanted} numbers beside the text; the layout of Stable "
                    f"Diffusion XL with this pooled embedding has {given}."
                )

    def forward(self, x: Tensor, time: Tensor) -> Any:
        """The network's output, with a `sample`."""
        n, added = len(x), None
        if self.pooled is not None and self.time_ids is not None:
            added = {
                "text_embeds": self.pooled.expand(n, -1),
                "time_ids": self.time_ids.expand(n, -1),
            }
        tokens = self.tokens.expand(n, -1, -1)
        return self.unet(x, time, encoder_hidden_states=tokens, added_cond_kwargs=added)


def _check_layout(unet: Any) -> None:
    """Raise `CapabilityError` for a network that needs more than a noise level and a text."""
    config = unet.config
    known_values: dict[str, tuple[str | None, ...]] = {
        "addition_embed_type": (None, "text_time"),
        "class_embed_type": (None,),
        "num_class_embeds": (None,),
        "encoder_hid_dim": (None,),
        "time_cond_proj_dim": (None,),
    }
    for key, known in known_values.items():
        if config.get(key) not in known:
            raise CapabilityError(
                f"posteria reads the layouts of Stable Diffusion and Stable Diffusion XL; this network has "
                f"{key}={config[key]!r}, and needs more than a noise level and a text."
            )
