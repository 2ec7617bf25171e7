"""Tiny networks of random weights and schedulers of diffusers, and what they are told."""

from functools import cache
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    UNet2DConditionModel,
    UNet2DModel,
)
from torch import Tensor

import posteria as po
from helpers import normal
from posteria.guidance.base import TiltedRule
from posteria.priors import (
    Embeddings,
    from_diffusers,
)
from posteria.samplers.guided import GuidedState

# NumPy tells schedulers of diffusers, made or asked for timesteps, that PyTorch's arrays will change.
# Networks of random weights have no scale.
QUIET = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*(diverged|starts from|ends at):RuntimeWarning"),
]
# The table of Stable Diffusion, without the noise that its DDIM leaves in the result.
TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

LEADING = {**TABLE, "timestep_spacing": "leading", "steps_offset": 1}


def ddim(prediction: str = "epsilon") -> DDIMScheduler:
    return DDIMScheduler(**LEADING, clip_sample=False, prediction_type=prediction)


def flow() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


EPSILON = ddim("epsilon")


@cache
def vae() -> AutoencoderKL:
    torch.manual_seed(3)
    return AutoencoderKL(
        block_out_channels=(4, 4),
        norm_num_groups=2,
        latent_channels=4,
        sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        scaling_factor=0.3,
    ).eval()


@cache
def pixels(classes: int | None = None) -> UNet2DModel:
    return channels(2, 2, classes)


def channels(given: int, made: int, classes: int | None = None) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8,
        in_channels=given,
        out_channels=made,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        num_class_embeds=classes,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval()


DIT: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 4,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 2,
    "sample_size": 8,
    "norm_num_groups": 2,
    "num_embeds_ada_norm": 1000,
}
TEXT_UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (4, 8),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
XL_UNET = TEXT_UNET | {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 6 * 4 + 8,
}


@cache
def dit() -> DiTTransformer2DModel:
    torch.manual_seed(1)
    return DiTTransformer2DModel(**DIT).eval()


@cache
def text_unet(xl: bool = False) -> UNet2DConditionModel:
    torch.manual_seed(2)
    return UNet2DConditionModel(**(XL_UNET if xl else TEXT_UNET)).eval()


TOKENS, NO_TOKENS = normal(7, 8, seed=1).float(), normal(7, 8, seed=2).float()

POOLED, NO_POOLED = normal(8, seed=3).float(), normal(8, seed=4).float()


def text_prior(scheduler: Any, xl: bool = False) -> po.diffusion.Conditional:
    parts = {"unet": text_unet(xl), "scheduler": scheduler, "vae": vae()}
    return from_diffusers(parts, null=Embeddings(NO_TOKENS, NO_POOLED))


def continued(sampler: Any, target: po.Denoiser, x: Tensor) -> Tensor:
    """The samples of a run that starts from a given iterate."""
    rng = po.Rng(range(len(x)))
    state = GuidedState(x=x, x0=x, memory={})
    rule = getattr(sampler, "rule", None)
    if isinstance(rule, TiltedRule) and isinstance(target, po.Tilted):
        state = GuidedState(x=x, x0=x, memory=rule.init(target, x))
    *_, last = sampler.iterate(target, range(len(x)), (state, rng.state()))
    return last.x


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    """A difference relative to the largest entry."""
    assert (ours - theirs).abs().max() < tolerance * theirs.abs().max()


def clip() -> tuple[Any, Any, Any]:
    """A tiny text encoder without and with a projection, and a tokenizer of letters."""
    # Before, tokenizers were made of files.
    transformers = pytest.importorskip("transformers", minversion="5.0.0")
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    tokenizer = transformers.CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=7
    )
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=7,
        projection_dim=8,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=len(words) - 1,
    )
    torch.manual_seed(4)
    return (
        transformers.CLIPTextModel(config).eval(),
        transformers.CLIPTextModelWithProjection(config).eval(),
        tokenizer,
    )
