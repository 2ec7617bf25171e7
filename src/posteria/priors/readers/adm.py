"""State dicts of guided-diffusion (Dhariwal and Nichol, 2021, arXiv:2105.05233) as U-Nets of diffusers.

The networks of ADM, and of the papers that took them over (DPS, DDRM, DAPS, MGPS, MGDM). A state dict does not say
which heads, table and picture size it belongs to; width, classes, levels and blocks tell the published ones apart.
"""

import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import CapabilityError, InputError, require
from ...core.space import Space
from ...diffusion.betas import Betas, CosineBetas, LinearBetas
from ...diffusion.network import Network
from ...diffusion.parametrisation import Epsilon

State = dict[str, Tensor]


@dataclass(frozen=True)
class Signature:
    """What a state dict says of its network: width, number of classes, levels and blocks of a level."""

    width: int
    classes: int | None
    levels: int
    blocks: int

    def __str__(self) -> str:
        classes = "no classes" if self.classes is None else f"{self.classes} classes"
        return (
            f"width {self.width}, {classes}, {self.levels} levels of {self.blocks} residual blocks"
        )


@dataclass(frozen=True)
class Layout:
    """What it does not say.

    Args:
        about: Which published network it is.
        size: Height and width of its pictures.
        betas: Its noise table.
        channels: Of an attention head, if they are fixed.
        heads: Number of heads, if that is fixed.
        split: Queries, keys and values come before the heads in the rows of `qkv`, not within each of them.
        factors: Widths of its levels in units of the first, by which it is known too; empty if they may be any.
        attends: Its levels with attention, likewise.
    """

    about: str
    size: int
    betas: Betas = field(default_factory=LinearBetas)
    channels: int = 64
    heads: int | None = None
    split: bool = False
    factors: tuple[int, ...] = ()
    attends: tuple[int, ...] = ()

    def check(self, widths: list[int], attends: list[bool]) -> None:
        """Raise `InputError` for a network of other widths, or with attention elsewhere."""
        levels = tuple(level for level, has in enumerate(attends) if has)
        known = [factor * widths[0] for factor in self.factors]
        require(
            not known or (widths == known and levels == self.attends),
            f"This state dict has levels of the widths {widths} with attention at {levels}, and that of the published "
            f"one ({self.about}) {known} with attention at {self.attends}. A state dict does not hold its heads and "
            "its noise table: wrap the network of guided-diffusion itself with posteria.Network.",
        )


LARGER: dict[str, Any] = {"factors": (1, 1, 2, 2, 4, 4), "attends": (3, 4, 5)}
LAYOUTS = {
    Signature(192, 1000, 4, 3): Layout(
        "ADM, ImageNet 64 x 64, with classes",
        64,
        CosineBetas(),
        split=True,
        factors=(1, 2, 3, 4),
        attends=(1, 2, 3),
    ),
    Signature(256, 1000, 5, 2): Layout(
        "ADM, ImageNet 128 x 128, with classes",
        128,
        heads=4,
        factors=(1, 1, 2, 3, 4),
        attends=(2, 3, 4),
    ),
    Signature(256, 1000, 6, 2): Layout("ADM, ImageNet 256 x 256, with classes", 256, **LARGER),
    Signature(256, None, 6, 2): Layout(
        "ADM, ImageNet or LSUN 256 x 256, without classes", 256, **LARGER
    ),
    Signature(128, None, 6, 1): Layout(
        "ADM as of DPS and P2, FFHQ 256 x 256", 256, factors=LARGER["factors"], attends=(4,)
    ),
}
LARGE = Signature(256, 1000, 7, 2)


def read_adm(
    files: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    size: tuple[int, ...] | None = None,
) -> Network:
    """Read a state dict of guided-diffusion from a file, such as `256x256_diffusion_uncond.pt` or `ffhq_10m.pt`.

    Nothing in the file is executed. The network is the prior's own: frozen, and in evaluation mode.

    Raises:
        InputError: If it is missing, damaged, or not a state dict of a published layout.
        CapabilityError: If it is of the 512 x 512 network, or of one that enlarges pictures.
    """
    state = _load(files)
    signature = signature_of(state)
    if signature is None:
        raise InputError(
            f"{files} is not the state dict of a U-Net of guided-diffusion; load the network with its own code and "
            "wrap it: posteria.Network(module, space, parametrisation)."
        )
    if signature == LARGE:
        raise CapabilityError(
            f"{files} is ADM's network for 512 x 512, whose first width is half of its time embedding's, which "
            "diffusers' UNet2DModel cannot be; take the 256 x 256 one, or wrap the network of guided-diffusion itself: "
            "posteria.Network(module, space, posteria.diffusion.Epsilon())."
        )
    channels = state["input_blocks.0.0.weight"].shape[1]
    if channels != 3:
        raise CapabilityError(
            f"{files} takes {channels} channels: it enlarges pictures, and needs more than noise."
        )
    if signature not in LAYOUTS:
        known = "; ".join(f"{layout.about} ({key})" for key, layout in LAYOUTS.items())
        raise InputError(
            f"{files} has {signature}, which is none of the published layouts: {known}. A state dict does not hold its "
            "heads and its noise table: wrap the network of guided-diffusion itself with posteria.Network."
        )
    layout = LAYOUTS[signature]
    multiple = 1 << (signature.levels - 1)
    require(
        size is None or all(side > 0 and side % multiple == 0 for side in size),
        f"This network takes sides that are multiples of {multiple}; size={size}.",
    )
    odd = next((name for name, value in state.items() if not value.is_floating_point()), None)
    require(
        odd is None,
        f"{files} holds {odd} as numbers that are not of floating point; posteria reads no quantized weights.",
    )
    state = {name: value.to(dtype) for name, value in state.items()}
    module = converted(state, signature, layout).to(device).eval().requires_grad_(False)
    sides = size or (layout.size, layout.size)
    space = Space((3, *sides), torch.promote_types(dtype, torch.float32), device)
    network = Network(module, space, Epsilon(layout.betas), labels=signature.classes or 0)
    network.multiple = multiple
    return network


def _load(path: Path) -> State:
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # Files of PyTorch before 1.6 cannot be mapped.
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        # What follows is how to open it nevertheless.
        reason = str(error).strip().split("\n")[0].partition(". In PyTorch")[0]
        reason = reason or type(error).__name__
        raise InputError(
            f"{path} is damaged, or holds more than tensors, which posteria does not open: {reason}"
        ) from error
    fits = isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())
    return state if fits else {}


def signature_of(state: State) -> Signature | None:
    """What a state dict says of its network; None if it is not of guided-diffusion's U-Net."""
    embedding = state.get("time_embed.0.weight")
    down, up = (
        {
            int(match[1])
            for match in (re.match(rf"{side}_blocks\.(\d+)\.", key) for key in state)
            if match
        }
        for side in ("input", "output")
    )
    # A level ends with a residual block that enlarges.
    larger = re.compile(r"output_blocks\.\d+\.[12]\.in_layers\.0\.weight")
    levels = 1 + sum(bool(larger.fullmatch(key)) for key in state)
    blocks = len(up) // levels - 1
    if embedding is None or len(down) != len(up) or len(up) != levels * (blocks + 1):
        return None
    labels = state.get("label_emb.weight")
    return Signature(embedding.shape[1], None if labels is None else len(labels), levels, blocks)


def converted(state: State, signature: Signature, layout: Layout) -> nn.Module:
    """The network of a state dict, as diffusers' `UNet2DModel`.

    Raises:
        InputError: If a weight is missing or does not fit.
    """
    from diffusers import UNet2DModel

    names = _Names(state, layout)
    try:
        widths, attends = names.convert(signature)
        layout.check(widths, attends)
        with torch.device("meta"):
            unet = UNet2DModel(
                sample_size=layout.size,
                in_channels=state["input_blocks.0.0.weight"].shape[1],
                out_channels=len(state["out.2.bias"]),
                block_out_channels=tuple(widths),
                layers_per_block=signature.blocks,
                down_block_types=[
                    ("ResnetDownsampleBlock2D", "AttnDownBlock2D")[a] for a in attends
                ],
                up_block_types=[
                    ("ResnetUpsampleBlock2D", "AttnUpBlock2D")[a] for a in attends[::-1]
                ],
                downsample_type="resnet",
                upsample_type="resnet",
                resnet_time_scale_shift="scale_shift",
                attention_head_dim=layout.channels,
                num_class_embeds=signature.classes,
                flip_sin_to_cos=True,
                freq_shift=0,
                norm_eps=1e-5,
                attn_norm_num_groups=32,
            )
        unet.load_state_dict(names.new, strict=True, assign=True)
    except (KeyError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"This state dict of guided-diffusion lacks weights or holds others: {reason}"
        ) from error
    unused = state.keys() - names.used
    require(
        not unused,
        f"This state dict holds {len(unused)} other weights, such as {min(unused, default='')}.",
    )
    if layout.heads:
        for module in unet.modules():
            if type(module).__name__ == "Attention":
                module.heads = layout.heads
    return unet  # type: ignore[no-any-return]


class _Names:
    """The weights of guided-diffusion under diffusers' names: what was converted so far, and the old names of it."""

    def __init__(self, state: State, layout: Layout) -> None:
        self.state, self.layout = state, layout
        self.new: State = {}
        self.used: set[str] = set()

    def convert(self, signature: Signature) -> tuple[list[int], list[bool]]:
        """Fill `new`; the width of each level, and whether it has attention."""
        for new, old in (
            ("time_embedding.linear_1", "time_embed.0"),
            ("time_embedding.linear_2", "time_embed.2"),
            ("conv_in", "input_blocks.0.0"),
            ("conv_norm_out", "out.0"),
            ("conv_out", "out.2"),
        ):
            self._pair(new, old)
        if signature.classes:
            self.new["class_embedding.weight"] = self._take("label_emb.weight")
        widths, attends = [], []
        last, blocks = signature.levels - 1, signature.blocks
        for level in range(signature.levels):
            first = 1 + level * (blocks + 1)
            widths.append(len(self.state[f"input_blocks.{first}.0.out_layers.3.bias"]))
            attends.append(f"input_blocks.{first}.1.qkv.weight" in self.state)
            for k in range(blocks):
                self._block(f"down_blocks.{level}", k, f"input_blocks.{first + k}", attends[-1])
            if level < last:
                self._residual(
                    f"down_blocks.{level}.downsamplers.0", f"input_blocks.{first + blocks}.0"
                )
        self._residual("mid_block.resnets.0", "middle_block.0")
        self._attention("mid_block.attentions.0", "middle_block.1")
        self._residual("mid_block.resnets.1", "middle_block.2")
        for level in range(signature.levels):
            attention = attends[last - level]
            first = level * (blocks + 1)
            for k in range(blocks + 1):
                self._block(f"up_blocks.{level}", k, f"output_blocks.{first + k}", attention)
            if level < last:
                old = f"output_blocks.{first + blocks}.{1 + attention}"
                self._residual(f"up_blocks.{level}.upsamplers.0", old)
        return widths, attends

    def _take(self, old: str) -> Tensor:
        self.used.add(old)
        return self.state[old]

    def _pair(self, new: str, old: str) -> None:
        for end in ("weight", "bias"):
            self.new[f"{new}.{end}"] = self._take(f"{old}.{end}")

    def _block(self, new: str, k: int, old: str, attention: bool) -> None:
        self._residual(f"{new}.resnets.{k}", f"{old}.0")
        if attention:
            self._attention(f"{new}.attentions.{k}", f"{old}.1")

    def _residual(self, new: str, old: str) -> None:
        for there, here in (
            ("norm1", "in_layers.0"),
            ("conv1", "in_layers.2"),
            ("time_emb_proj", "emb_layers.1"),
            ("norm2", "out_layers.0"),
            ("conv2", "out_layers.3"),
        ):
            self._pair(f"{new}.{there}", f"{old}.{here}")
        if f"{old}.skip_connection.weight" in self.state:
            self._pair(f"{new}.conv_shortcut", f"{old}.skip_connection")

    def _attention(self, new: str, old: str) -> None:
        self._pair(f"{new}.group_norm", f"{old}.norm")
        for end in ("weight", "bias"):
            rows = self._take(f"{old}.qkv.{end}").squeeze(-1)
            self.new[f"{new}.to_out.0.{end}"] = self._take(f"{old}.proj_out.{end}").squeeze(-1)
            for name, part in zip(("to_q", "to_k", "to_v"), self._split(rows), strict=True):
                self.new[f"{new}.{name}.{end}"] = part

    def _split(self, rows: Tensor) -> Any:
        """Rows of queries, keys and values: `[3 * width, ...]` to three of `[width, ...]`."""
        if self.layout.split:
            return rows.chunk(3)
        heads = self.layout.heads or len(rows) // 3 // self.layout.channels
        parts = rows.reshape(heads, 3, -1, *rows.shape[1:]).unbind(1)
        return [part.flatten(0, 1) for part in parts]
