"""Pixel models in diffusers' format: a folder with a U-Net, its weights and a scheduler."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import CapabilityError, InputError, require, whole
from ...core.space import Space
from ...diffusion.denoiser import Conditional, Label
from ...diffusion.network import Network
from ..pipeline.parts import AUTOENCODERS
from ..pipeline.reading import with_null
from ..pipeline.schedulers import reading_of
from ..pipeline.unet import check_unet, in_units, with_whole_steps
from ..plain_unet import read_plain
from .folder import (
    extras_of,
    floating_weights,
    load_part,
    parts_of,
    place_of,
    read_json,
    scheduler_in,
)


class Folded(nn.Module):
    """A U-Net that sees a picture with `patch x patch` pixels folded to channels."""

    def __init__(self, unet: nn.Module, patch: int) -> None:
        super().__init__()
        self.unet = unet
        self.patch = patch

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        """The network's output, `[n, channels, height, width]`; `rest` is time and label."""
        output = self.unet(nn.functional.pixel_unshuffle(x, self.patch), *rest)
        return nn.functional.pixel_shuffle(getattr(output, "sample", output), self.patch)


def read_pixel(
    files: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    size: tuple[int, ...] | None = None,
) -> Conditional:
    """Read a U-Net of pixels from a folder in diffusers' format.

    A file `posteria.json` beside the two configurations may say more than diffusers' format can:
    `patch`, by which the network sees folded pictures, and `null_label`, the label that stands for
    no label. The network is the prior's own: frozen, and in evaluation mode.

    Raises:
        InputError: If something is missing, damaged, or does not fit.
        CapabilityError: If it is not a pixel U-Net with a scheduler that posteria reads.
    """
    place = place_of(files, "unet", "config.json")
    config = read_json(place / "config.json")
    kind = config.get("_class_name")
    if kind != "UNet2DModel":
        raise CapabilityError(
            f"{files} holds a {kind}; load_prior reads networks of pixels (UNet2DModel). Those of latents and "
            "texts are read by posteria.priors.from_diffusers(pipeline); wrap any other with posteria.Network."
        )
    if beside := sorted(parts_of(files) & {*AUTOENCODERS}):
        raise CapabilityError(
            f"{files} holds a network of latents, with {beside[0]} beside it, and none of pixels: load it as "
            f"diffusers:{files}."
        )
    for entry in ("in_channels", "out_channels", "block_out_channels"):
        require(entry in config, f"{place / 'config.json'} lacks the entry {entry}.")
    widths = config["block_out_channels"]
    require(
        isinstance(widths, list) and len(widths) > 0,
        f"block_out_channels in {place / 'config.json'} is a list of widths; {widths!r} is not.",
    )
    whole(config["in_channels"], f"in_channels in {place / 'config.json'}")
    check_unet(config)
    reading = with_whole_steps(reading_of(scheduler_in(files)), config)
    extras = extras_of(files, "patch", "null_label")
    patch, null = extras.get("patch", 1), extras.get("null_label")
    require(
        config["in_channels"] % patch**2 == 0,
        f"A network of {config['in_channels']} channels sees no pictures with {patch} x {patch} pixels folded to them.",
    )
    labels = config.get("num_class_embeds") or 0
    multiple = patch << (len(config["block_out_channels"]) - 1)
    space = _space(config, patch, size, multiple, dtype, device)
    unet = _unet(place, config, dtype).to(device)
    module = unet if patch == 1 else Folded(unet, patch).eval()
    network = Network(module, space, reading, labels=labels)
    network.multiple = multiple
    prior = in_units(network)
    return prior if null is None else with_null(prior, Label(null))


def _space(
    config: dict[str, Any],
    patch: int,
    size: tuple[int, ...] | None,
    multiple: int,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Space:
    native = config.get("sample_size")
    if size is None:
        if native is None:
            raise InputError("This network has no size of its own; give size=(height, width).")
        sides = [native, native] if isinstance(native, int) else native
        require(
            isinstance(sides, list | tuple) and [type(side) for side in sides] == [int, int],
            f"sample_size of its config.json is a number, or height and width; {native!r} is not.",
        )
        size = sides[0] * patch, sides[1] * patch
    else:
        require(
            all(side > 0 and side % multiple == 0 for side in size),
            f"This network takes sides that are multiples of {multiple}; {size[0]} x {size[1]} is not.",
        )
    channels = int(config["in_channels"]) // patch**2
    return Space((channels, *size), torch.promote_types(dtype, torch.float32), device)


def _unet(place: Path, config: dict[str, Any], dtype: torch.dtype) -> nn.Module:
    """The network in a folder, with every weight of its configuration, and no other."""
    paths, _ = floating_weights(place)
    plain = read_plain(config, paths[0], dtype) if len(paths) == 1 else None
    if plain is not None:
        return plain
    # diffusers takes seconds to import, so only those who load a network of other parts wait for it.
    return load_part(place, "UNet2DModel", dtype)
