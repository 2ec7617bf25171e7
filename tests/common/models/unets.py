"""Small networks in diffusers' format."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel


def tiny(seed: int = 0, **changes: Any) -> UNet2DModel:
    torch.manual_seed(seed)
    shape = {
        "sample_size": 8,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
        "attention_head_dim": 8,
    }
    return UNet2DModel(**{**shape, **changes}).eval()


def save(folder: Path, unet: UNet2DModel, scheduler: Any, **extra: Any) -> Path:
    unet.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    if extra:
        (folder / "posteria.json").write_text(json.dumps(extra))
    return folder
