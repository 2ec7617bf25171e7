"""Pixel models in diffusers' format: a folder with a network, its weights and a scheduler."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import CapabilityError, InputError
from ..core.space import Space
from ..diffusion.betas import Betas, CosineBetas, GivenBetas, LinearBetas, ScaledLinearBetas
from ..diffusion.network import (
    EDM,
    Clean,
    Epsilon,
    FlowMatching,
    Network,
    Parametrisation,
    Velocity,
)
from .shipped import check_hash

PREDICTIONS: dict[str, type[Epsilon | Velocity | Clean]] = {
    "epsilon": Epsilon,
    "v_prediction": Velocity,
    "sample": Clean,
}


def parametrisation_of(scheduler: dict[str, Any], shift: int = 0) -> Parametrisation:
    """What a network predicts and how it is told the noise level, from its scheduler's configuration.

    Raises:
        CapabilityError: If the scheduler is of a kind that has no such reading.
    """
    kind, prediction = (
        scheduler.get("_class_name", ""),
        scheduler.get("prediction_type", "epsilon"),
    )
    if kind.startswith("FlowMatch"):
        return FlowMatching(float(scheduler.get("num_train_timesteps", 1000)))
    if kind.startswith("EDM"):
        sign = -1 if prediction == "v_prediction" else 1
        return EDM(float(scheduler.get("sigma_data", 0.5)), sign)
    if (
        "ScoreSde" in kind
        or prediction not in PREDICTIONS
        or scheduler.get("rescale_betas_zero_snr")
    ):
        raise CapabilityError(
            f"posteria cannot read a {kind} that predicts {prediction!r}; it reads noise tables with epsilon, "
            "v_prediction or sample, EDM and flow matching. Wrap the network yourself with posteria.Network."
        )
    return PREDICTIONS[prediction](_betas_of(scheduler), shift)


def _betas_of(scheduler: dict[str, Any]) -> Betas:
    given, curve = scheduler.get("trained_betas"), scheduler.get("beta_schedule", "linear")
    if given is not None:
        return GivenBetas(tuple(float(beta) for beta in given))
    size = int(scheduler.get("num_train_timesteps", 1000))
    start, end = float(scheduler.get("beta_start", 1e-4)), float(scheduler.get("beta_end", 0.02))
    if curve == "linear":
        return LinearBetas(start, end, size)
    if curve == "scaled_linear":
        return ScaledLinearBetas(start, end, size)
    if curve == "squaredcos_cap_v2":
        return CosineBetas(size)
    raise CapabilityError(f"posteria does not know the noise table {curve!r} of this scheduler.")


class Folded(nn.Module):
    """A diffusers U-Net that sees a picture with `patch x patch` pixels folded to channels."""

    def __init__(self, unet: nn.Module, patch: int) -> None:
        super().__init__()
        self.unet = unet
        self.patch = patch

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """The network's output, `[n, channels, height, width]`."""
        extra = {} if label is None else {"class_labels": label}
        output: Tensor = self.unet(
            nn.functional.pixel_unshuffle(x, self.patch), time, **extra
        ).sample
        return nn.functional.pixel_shuffle(output, self.patch)


def load_folder(
    folder: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    size: tuple[int, int] | None = None,
    sha256: str | None = None,
    shift: int = 0,
) -> Network:
    """Load a network from a folder in diffusers' format.

    A file `posteria.json` beside the two configurations may say more than diffusers' format can:
    `patch`, by which the network sees folded pictures, and `null_label`, the label that stands for
    no label.

    Raises:
        InputError: If something is missing, damaged, or does not fit.
        CapabilityError: If it is not a pixel U-Net.
    """
    config = _read_json(_part(folder, "unet", "config.json") / "config.json")
    scheduler = _read_json(
        _part(folder, "scheduler", "scheduler_config.json") / "scheduler_config.json"
    )
    extra = _read_json(folder / "posteria.json") if (folder / "posteria.json").exists() else {}
    if config.get("_class_name") != "UNet2DModel":
        raise CapabilityError(
            f"{folder} holds a {config.get('_class_name')}; posteria loads pixel models (UNet2DModel) by name. "
            "Wrap any other network with posteria.Network."
        )
    patch, channels = int(extra.get("patch", 1)), int(config["in_channels"])
    native = config["sample_size"]
    height, width = (native, native) if isinstance(native, int) else native
    height, width = (height * patch, width * patch) if size is None else size
    multiple = patch << (len(config["block_out_channels"]) - 1)
    if size is not None and (height % multiple or width % multiple):
        raise InputError(
            f"This network takes sides that are multiples of {multiple}; {height} x {width} is not."
        )
    labels = int(config.get("num_class_embeds") or 0)
    null = extra.get("null_label")
    unet = _network(config, weights_of(folder), sha256)
    state = torch.float64 if dtype == torch.float64 else torch.float32
    return Network(
        Folded(unet, patch).to(dtype),
        Space((channels // patch**2, height, width), state, device),
        parametrisation_of(scheduler, shift),
        labels=labels if null is None else labels - 1,
        null_label=null,
    )


def _part(folder: Path, name: str, file: str) -> Path:
    """A part of a pipeline lies in its own folder, or at the top."""
    for place in (folder / name, folder):
        if (place / file).exists():
            return place
    raise InputError(
        f"{folder} is not a diffusers pixel model: there is no {name}/{file} and no {file}."
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a configuration.")
    return content


def weights_of(folder: Path) -> Path:
    """The file with the weights of a model in diffusers' format.

    Raises:
        InputError: If there is none.
    """
    folder = _part(folder, "unet", "config.json")
    for name in (
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
    ):
        if (folder / name).exists():
            return folder / name
    pickles = [path.name for path in folder.glob("*.bin")]
    remedy = (
        f" {pickles[0]} is a pickle, which can run code when it is read; convert it with diffusers' save_pretrained."
        if pickles
        else ""
    )
    raise InputError(f"{folder} has no diffusion_pytorch_model.safetensors.{remedy}")


def _network(config: dict[str, Any], weights: Path, sha256: str | None) -> nn.Module:
    if sha256 is not None:
        check_hash(weights, sha256)
    # diffusers takes seconds to import, so only those who load a network wait for it.
    from diffusers import UNet2DModel
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    unet = UNet2DModel.from_config({k: v for k, v in config.items() if not k.startswith("_")})
    try:
        unet.load_state_dict(load_file(weights), strict=True)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{weights} is damaged or incomplete: {error}.") from error
    except RuntimeError as error:
        raise InputError(f"{weights} does not hold the weights of its config.json.") from error
    return unet  # type: ignore[no-any-return]
