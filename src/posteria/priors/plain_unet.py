"""The U-Net of the shipped priors, a `UNet2DModel` of plain blocks under diffusers' names of its weights.

diffusers takes two seconds to import, and a sixth to a third of an evaluation of one small picture.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention, silu

# What a configuration may say; whatever else it says is for diffusers.
FREE = {
    *("_class_name", "_diffusers_version", "_name_or_path", "sample_size", "in_channels"),
    *("out_channels", "block_out_channels", "layers_per_block", "norm_num_groups", "norm_eps"),
    *("attention_head_dim", "num_class_embeds", "down_block_types", "up_block_types"),
}
PLAIN = {
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "mid_block_type": "UNetMidBlock2D",
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attn_norm_num_groups": None,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_train_timesteps": None,
}


def read_plain(config: Mapping[str, Any], weights: Path, dtype: torch.dtype) -> "UNet | None":
    """The network of a configuration with its weights, frozen; None if it has other parts or other weights."""
    blocks = {*config.get("down_block_types", ("?",)), *config.get("up_block_types", ("?",))}
    levels = len(config["block_out_channels"])
    plain = all(config.get(key, value) == value for key, value in PLAIN.items()) and all(
        len(config.get(f"{side}_block_types", ())) == levels for side in ("down", "up")
    )
    if not (plain and blocks == {"DownBlock2D", "UpBlock2D"} and config.keys() <= FREE | {*PLAIN}):
        return None
    try:
        with torch.device("meta"):
            unet = UNet(config)
        unet.load_state_dict(load_file(weights), assign=True)
    # Whatever is wrong with them is said by diffusers' reader, which also knows the names of older versions.
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError):
        return None
    unet.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return unet.eval().requires_grad_(False)


class UNet(nn.Module):
    """Residual blocks on each of several resolutions, with attention at the lowest (Ho et al., 2020).

    Args:
        config: That of a `UNet2DModel` whose parts are those of `PLAIN`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        widths, layers = config["block_out_channels"], config.get("layers_per_block", 2)
        time, classes = 4 * widths[0], config.get("num_class_embeds")

        def norm(channels: int) -> nn.GroupNorm:
            groups = config.get("norm_num_groups", 32)
            return nn.GroupNorm(groups, channels, eps=config.get("norm_eps", 1e-5))

        def block(given: int, made: int) -> _Residual:
            return _Residual(given, made, time, norm)

        self.conv_in = _conv(config["in_channels"], widths[0])
        self.time_embedding: Any = _Named(
            linear_1=nn.Linear(widths[0], time), linear_2=nn.Linear(time, time)
        )
        # Given, since to draw it on "meta" imports half of PyTorch's compiler.
        table = torch.empty(classes or 0, time)
        self.class_embedding = nn.Embedding(classes, time, _weight=table) if classes else None
        self.down_blocks: Any = nn.ModuleList()
        self.up_blocks: Any = nn.ModuleList()
        kept, width = [widths[0]], widths[0]
        for level, made in enumerate(widths):
            blocks = [block(given, made) for given in (width, *[made] * (layers - 1))]
            lower = [_Named(conv=_conv(made, made, stride=2))] if level < len(widths) - 1 else []
            self.down_blocks.append(_Named(resnets=blocks, downsamplers=lower))
            width, kept = made, kept + [made] * (len(blocks) + len(lower))
        heads = width // (config.get("attention_head_dim", 8) or width)
        self.mid_block: Any = _Named(
            resnets=[block(width, width) for _ in range(2)],
            attentions=[_Attention(width, heads, norm)],
        )
        for level, made in enumerate(reversed(widths)):
            givens = [width, *[made] * layers]
            blocks = [block(given + kept.pop(), made) for given in givens]
            upper = [_Named(conv=_conv(made, made))] if level < len(widths) - 1 else []
            self.up_blocks.append(_Named(resnets=blocks, upsamplers=upper))
            width = made
        self.conv_norm_out, self.conv_out = norm(width), _conv(width, config["out_channels"])

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """The network's output, `[n, channels, height, width]`, for times and labels `[n]`."""
        seen = self._seen(time, label)
        x = self.conv_in(x.contiguous(memory_format=torch.channels_last))
        kept = [x]
        for down in self.down_blocks:
            for block in down.resnets:
                x = block(x, seen)
                kept.append(x)
            for lower in down.downsamplers:
                x = lower.conv(x)
                kept.append(x)
        middle = self.mid_block
        x = middle.resnets[1](middle.attentions[0](middle.resnets[0](x, seen)), seen)
        for up in self.up_blocks:
            for block in up.resnets:
                x = block(torch.cat([x, kept.pop()], 1), seen)
            for upper in up.upsamplers:
                x = upper.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
        output: Tensor = self.conv_out(silu(self.conv_norm_out(x)))
        return output

    def _seen(self, time: Tensor, label: Tensor | None) -> Tensor:
        """Time and label as the blocks see them, `[n, channels]`."""
        first, second = self.time_embedding.linear_1, self.time_embedding.linear_2
        half = first.in_features // 2
        places = torch.arange(half, dtype=torch.float32, device=time.device)
        angles = time[:, None].float() * torch.exp(-math.log(10000) * places / half)
        waves = torch.cat([angles.cos(), angles.sin()], 1).to(first.weight.dtype)
        seen: Tensor = second(silu(first(waves)))
        return silu(seen if self.class_embedding is None else seen + self.class_embedding(label))


class _Named(nn.Module):
    """Parts by name; a list of them is numbered."""

    def __init__(self, **parts: nn.Module | list[Any]) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.ModuleList(part) if isinstance(part, list) else part)


Norm = Callable[[int], nn.GroupNorm]


def _conv(given: int, made: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(given, made, 3, stride, padding=1)


class _Residual(nn.Module):
    def __init__(self, given: int, made: int, time: int, norm: Norm) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(given), _conv(given, made)
        self.time_emb_proj = nn.Linear(time, made)
        self.norm2, self.conv2 = norm(made), _conv(made, made)
        self.conv_shortcut = nn.Conv2d(given, made, 1) if given != made else None

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        h: Tensor = self.conv1(silu(self.norm1(x))) + self.time_emb_proj(seen)[:, :, None, None]
        h = self.conv2(silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, norm: Norm) -> None:
        super().__init__()
        self.heads, self.group_norm = heads, norm(width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        places = self.group_norm(x).flatten(2).mT
        parts = (
            part(places).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.to_q, self.to_k, self.to_v)
        )
        found: Tensor = self.to_out[0](
            scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        )
        return x + found.mT.reshape(x.shape)
