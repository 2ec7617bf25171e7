"""Local networks: a folder with `network.json` and `network.safetensors`."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...core.errors import InputError, unknown
from ...core.space import Space
from ...diffusion.denoiser import Scale
from ...diffusion.network import EDM, Denoised, Network, Parametrisation
from ..readers.folder import read_json
from .networks import BiasFree, LocalUNet
from .windows import Windowed

KINDS: dict[str, tuple[type[LocalUNet | BiasFree], Parametrisation]] = {
    "unet": (LocalUNet, EDM()),
    "bias-free": (BiasFree, Denoised()),
}


def read_local(
    files: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    size: tuple[int, int] | None = None,
) -> Network:
    """Read a local network of colour pictures; they are in [-1, 1] and of any size.

    `network.json` has its `kind`, in `KINDS`, the arguments of that class, and the mean and the standard deviation of
    the pixels of its photographs.

    Raises:
        InputError: If there is no size, or something is missing or damaged.
    """
    if size is None or min(size) < 1:
        raise InputError(
            f"{files.name} takes pictures of any size; say which: size=(height, width), or --size HEIGHTxWIDTH."
        )
    config = read_json(files / "network.json")
    kind = str(config.pop("kind", ""))
    if kind not in KINDS:
        raise unknown("kind of local network", kind, KINDS)
    network, parametrisation = KINDS[kind]
    path = files / "network.safetensors"
    try:
        mean, std = float(config.pop("mean")), float(config.pop("std"))
        net = network(**config)
        net.load_state_dict({name: part.to(dtype) for name, part in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not the network of its network.json: {error}") from error
    state = torch.promote_types(dtype, torch.float32)
    module = Windowed(net.to(device, dtype).eval().requires_grad_(False))
    space = Space((3, *size), state, device)
    prior = Network(module, space, parametrisation)
    prior.scale = Scale(torch.full(space.shape, mean, dtype=state, device=device), std)
    return prior
