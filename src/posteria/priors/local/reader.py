"""Local networks: a folder with `network.json` and `network.safetensors`."""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...core.errors import InputError, unknown
from ...core.space import Space
from ...diffusion.denoiser import Scale
from ...diffusion.network import Network
from ...diffusion.parametrisation import EDM, Denoised, Parametrisation
from ..readers.folder import read_json
from .networks import BiasFree, LocalUNet
from .windows import Windowed

# A kind of network, the arguments that its name says, and how it makes a denoiser.
KINDS: dict[str, tuple[type[LocalUNet | BiasFree], dict[str, Any], Parametrisation]] = {
    "unet": (LocalUNet, {}, EDM()),
    "unet1d": (LocalUNet, {"axes": 1}, EDM()),
    "bias-free": (BiasFree, {}, Denoised()),
}


def read_local(
    files: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    size: tuple[int, ...] | None = None,
) -> Network:
    """Read a local network of colour pictures in [-1, 1], or of signals, of any size.

    `network.json` has its `kind`, in `KINDS`, the arguments of that class, and the mean and the standard deviation of
    the numbers that it was trained on. It may have the standard deviation for which the network was preconditioned,
    `sigma_data` (one that is conditioned on the noise level), and the `size` that is taken where none is given.

    Raises:
        InputError: If there is no size, or one of another number of sides, or something is missing or damaged.
    """
    config = read_json(files / "network.json")
    kind = str(config.pop("kind", ""))
    if kind not in KINDS:
        raise unknown("kind of local network", kind, KINDS)
    network, fixed, parametrisation = KINDS[kind]
    path = files / "network.safetensors"
    try:
        mean, std = float(config.pop("mean")), float(config.pop("std"))
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise ValueError(f"it has the mean {mean} and the standard deviation {std}")
        if isinstance(parametrisation, EDM) and "sigma_data" in config:
            parametrisation = EDM(config.pop("sigma_data"))
        usual = config.pop("size", None)
        channels = int(config.get("channels", 3))
        net = network(**fixed, **config)
        weights = load_file(path)
        if not all(part.is_floating_point() for part in weights.values()):
            raise ValueError("its weights are not of floating point")
        net.load_state_dict({name: part.to(dtype) for name, part in weights.items()})
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not the network of its network.json: {error}") from error
    sides = usual if size is None else size
    if not isinstance(sides, tuple | list) or len(sides) != net.axes or min(sides) < 1:
        what, how = {
            1: ("signals of any length", "size=1000, or --size 1000"),
            2: ("pictures of any size", "size=(height, width), or --size HEIGHTxWIDTH"),
        }[net.axes]
        given = "" if size is None else f"; size={size} is none"
        raise InputError(f"{files.name} takes {what}; say which: {how}{given}.")
    state = torch.promote_types(dtype, torch.float32)
    module = Windowed(net.to(device, dtype).eval().requires_grad_(False))
    space = Space((channels, *sides), state, device)
    prior = Network(module, space, parametrisation)
    prior.multiple = net.stride
    prior.scale = Scale(torch.full(space.shape, mean, dtype=state, device=device), std)
    return prior
