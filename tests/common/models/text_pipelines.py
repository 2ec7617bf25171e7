"""Small pipelines with real text encoders of letters, with every weight drawn; they need transformers 5."""

from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest

from .diffusers_models import clip
from .pipelines import SD, drawn, kl, text_unet


@cache
def t5(width: int) -> tuple[Any, Any]:
    """An encoder of so many channels, and a tokenizer of letters."""
    t = pytest.importorskip("transformers", minversion="5.0.0")
    config = t.T5Config(vocab_size=64, d_model=width, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    tokenizer = t.T5TokenizerFast(vocab=[*pieces, *letters], extra_ids=0, model_max_length=20)
    return drawn(t.T5EncoderModel(config)), tokenizer


def stable_diffusion(folder: Path) -> str:
    """A Stable Diffusion as its pipeline saves it, and the name of this prior."""
    encoder, _, tokenizer = clip()
    scheduler = diffusers.DDIMScheduler(**SD, clip_sample=False)
    parts = (kl(), encoder, tokenizer, text_unet(), scheduler, None, None)
    pipeline = diffusers.StableDiffusionPipeline(*parts, requires_safety_checker=False)
    pipeline.save_pretrained(folder)
    return f"diffusers:{folder}"


def stable_diffusion_3(third: bool = True) -> Any:
    _, encoder, tokenizer = clip()
    network = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=8,
    )
    last, splits = t5(16) if third else (None, None)
    return diffusers.StableDiffusion3Pipeline(
        transformer=drawn(network),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=kl(shift_factor=0.06),
        text_encoder=encoder,
        tokenizer=tokenizer,
        text_encoder_2=encoder,
        tokenizer_2=tokenizer,
        text_encoder_3=last,
        tokenizer_3=splits,
    )


def pixart(told: bool = False) -> Any:
    """PixArt-alpha; `told` as where it was trained at 1024 pixels, on latents of 128."""
    encoder, tokenizer = t5(8)
    network = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        norm_num_groups=1,
        cross_attention_dim=24,
        sample_size=128 if told else 8,
        caption_channels=8,
        use_additional_conditions=told,
    )
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_schedule="linear", beta_start=1e-4, beta_end=0.02
    )
    return diffusers.PixArtAlphaPipeline(tokenizer, encoder, kl(), drawn(network), scheduler)
