"""Small models of latents in diffusers' format, with every weight drawn, so that no output is 0."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTTransformer2DModel,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from torch import nn

from .diffusers_models import DIT, TEXT_UNET, XL_UNET


def drawn(module: nn.Module, seed: int = 0) -> Any:
    """The module with random weights of the usual size."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        fan = p[0].numel() if p.ndim > 1 else 100
        noise = torch.randn(p.shape, generator=generator) / math.sqrt(max(fan, 1))
        p.data = noise + (1.0 if p.ndim == 1 and "norm" in name and "weight" in name else 0.0)
    return module.eval()


def kl(latent: int = 4, **changes: Any) -> AutoencoderKL:
    return drawn(
        AutoencoderKL(**{
            "block_out_channels": (4, 4),
            "norm_num_groups": 2,
            "latent_channels": latent,
            "sample_size": 16,
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "scaling_factor": 0.3,
            **changes,
        }),
        5,
    )


def vq() -> VQModel:
    return drawn(
        VQModel(
            block_out_channels=(4, 4),
            norm_num_groups=2,
            latent_channels=3,
            num_vq_embeddings=32,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            scaling_factor=0.7,
        ),
        6,
    )


def latent_unet(channels: int = 3) -> UNet2DModel:
    return drawn(
        UNet2DModel(
            sample_size=8,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
    )


def text_unet(xl: bool = False) -> UNet2DConditionModel:
    return drawn(UNet2DConditionModel(**(XL_UNET if xl else TEXT_UNET)))


def dit() -> DiTTransformer2DModel:
    return drawn(DiTTransformer2DModel(**DIT))


SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def parts_of(family: str) -> dict[str, Any]:
    """The parts of a small model of a family."""
    ddim = DDIMScheduler(**SD, clip_sample=False)
    made: dict[str, dict[str, Any]] = {
        "ldm": {"unet": latent_unet, "vqvae": vq, "scheduler": DDIMScheduler(clip_sample=False)},
        "sd": {"unet": text_unet, "vae": kl, "scheduler": ddim},
        "sd-v": {
            "unet": text_unet,
            "vae": kl,
            "scheduler": DDIMScheduler(**SD, prediction_type="v_prediction"),
        },
        "sdxl": {
            "unet": lambda: text_unet(xl=True),
            "vae": lambda: kl(
                latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.0, 2.0, 0.5, 1.5]
            ),
            "scheduler": EulerDiscreteScheduler(**SD),
        },
        "dit": {"transformer": dit, "vae": lambda: kl(shift_factor=0.4), "scheduler": ddim},
    }
    return {name: part() if callable(part) else part for name, part in made[family].items()}


def save(folder: Path, parts: dict[str, Any]) -> Path:
    """Parts as a pipeline saves them."""
    index: dict[str, Any] = {"_class_name": "Pipeline", "_diffusers_version": "0.36.0"}
    for name, part in parts.items():
        if isinstance(part, dict):
            (folder / name).mkdir(parents=True)
            (folder / name / "scheduler_config.json").write_text(json.dumps(part))
            continue
        part.save_pretrained(folder / name)
        index[name] = ["diffusers", type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
