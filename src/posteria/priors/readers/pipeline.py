"""Latent models in diffusers' format: a folder with a network, its scheduler, an autoencoder, and what reads texts."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ...core.errors import CapabilityError, InputError, require
from ...diffusion.denoiser import Conditional, Label
from ..pipeline.autoencoder import FACTORS
from ..pipeline.parts import AUTOENCODERS, NETWORKS, check_known
from ..pipeline.reading import check_kind, from_diffusers
from ..pipeline.texts import quiet
from .folder import (
    extras_of,
    load_part,
    made_by_diffusers,
    parts_of,
    read_json,
    scheduler_in,
)

# What is published of DiT and PixArt names one class for both.
RENAMED = {
    ("Transformer2DModel", "ada_norm_zero"): "DiTTransformer2DModel",
    ("Transformer2DModel", "ada_norm_single"): "PixArtTransformer2DModel",
}
# Up to diffusers 0.12 the factor of latents stood in pipelines, and no configuration has one.
FACTORED = (0, 12)


def read_pipeline(
    files: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    size: tuple[int, ...] | None = None,
) -> Conditional:
    """Read a latent model, or another one that is not a U-Net of pixels alone, from a folder in diffusers' format.

    Texts are read by the pipeline's own encoders, for which transformers is needed; without it a network of texts is
    given `Embeddings`. A file `posteria.json` may have the `shape` of a latent, where the network does not say it, and
    the `null_label` that stands for no label.

    Raises:
        InputError: If a part is missing, damaged, or does not fit.
        CapabilityError: If network, scheduler or autoencoder are of a kind that posteria cannot read.
    """
    contents = contents_of(files)
    parts: dict[str, Any] = {"scheduler": contents.scheduler}
    # In half precision the derivatives of a decoder overflow.
    exact = torch.float32 if dtype == torch.float16 else dtype
    for name, kind in contents.kinds.items():
        role, accuracy = (name, dtype) if name in NETWORKS else ("vae", exact)
        path = files / name / "config.json"
        changes = _completed(read_json(path), path)
        parts[role] = load_part(files / name, kind, accuracy, **changes).to(device)
    extras = extras_of(files, "shape", "null_label")
    shape = tuple(extras["shape"]) if "shape" in extras else None
    null = Label(extras["null_label"]) if "null_label" in extras else None
    if any((files / name).is_dir() for name in ("text_encoder", "text_encoder_2")) and find_spec(
        "transformers"
    ):
        parts["texts"] = _texts(files, parts, dtype)
        vocoder = getattr(parts["texts"], "vocoder", None)
        parts["vocoder"] = None if vocoder is None else vocoder.to(device)
    elif (files / "vocoder").is_dir():
        raise CapabilityError(
            f"{files} makes sound by a vocoder, for which transformers is needed: pip install transformers."
        )
    return from_diffusers(parts, size=size, shape=shape, null=null)


def _completed(config: dict[str, Any], whose: Path) -> dict[str, Any]:
    """What a configuration leaves to a default that diffusers has changed since."""
    kind = str(config.get("_class_name"))
    if kind in FACTORS and "scaling_factor" not in config:
        version = str(config.get("_diffusers_version", "0.0")).split(".")
        require(
            tuple(int(part) for part in version[:2] if part.isdigit()) <= FACTORED,
            f"{whose} lacks the entry scaling_factor, by which its latents are multiplied.",
        )
        return {"scaling_factor": FACTORS[kind]}
    old = kind == "UNet1DModel" and config.get("time_embedding_dim") is None
    if old and config.get("extra_in_channels") and not config.get("use_timestep_embedding"):
        return {"time_embedding_dim": config["extra_in_channels"]}
    return {}


@dataclass(frozen=True)
class Contents:
    """What a folder holds: classes of networks by the names of their folders, and the scheduler's entries."""

    kinds: dict[str, str]
    scheduler: dict[str, Any]


def contents_of(files: Path) -> Contents:
    """What there is to load.

    Raises:
        InputError: If a part is missing.
        CapabilityError: If one of them is of a kind that posteria cannot read.
    """
    found = [
        [name for name in names if (files / name / "config.json").exists()]
        for names in (NETWORKS, AUTOENCODERS)
    ]
    lacking = sorted(parts_of(files) & set(AUTOENCODERS))
    network = "unet/config.json and no transformer/config.json" if not found[0] else ""
    decoder = (
        f"{lacking[0]}/config.json, which decodes its latents" if lacking and not found[1] else ""
    )
    schedule = files / "scheduler" / "scheduler_config.json"
    times = "" if schedule.exists() else "scheduler/scheduler_config.json"
    for missing in (network, times, decoder):
        require(not missing, f"{files} lacks a part: there is no {missing}.")
    check_known(made_by_diffusers(files), str(files))
    kinds = {}
    for name in (names[0] for names in found if names):
        config = read_json(files / name / "config.json")
        kind = str(config.get("_class_name"))
        kinds[name] = RENAMED.get((kind, str(config.get("norm_type"))), kind)
    check_kind(kinds[found[0][0]])
    return Contents(kinds, scheduler_in(files))


def _texts(files: Path, parts: dict[str, Any], dtype: torch.dtype) -> Any:
    """The pipeline, whose parts are those that were loaded, for what it makes of texts; its encoders are on the CPU."""
    import diffusers

    path = files / "model_index.json"
    require(path.exists(), f"{files} lacks a part: there is no model_index.json.")
    index = read_json(path)
    given: dict[str, Any] = {
        name: parts.get(name) for name in ("unet", "transformer", "vae") if name in index
    }
    none = ("safety_checker", "feature_extractor", "image_encoder", "watermarker")
    # A part that the pipeline was saved without is [null, null].
    empty = {name for name, entry in index.items() if isinstance(entry, list) and None in entry}
    given |= {name: None for name in (*none, *empty) if name in index}
    for name in parts_of(files) - {*given, *NETWORKS, *AUTOENCODERS, "scheduler"}:
        require(
            any((files / name).glob("*")),
            f"{files} lacks a part: there is no {name}, which its model_index.json names.",
        )
    try:
        with quiet():
            kind = getattr(diffusers, str(index.get("_class_name")))
            scheduler = getattr(diffusers, parts["scheduler"]["_class_name"])
            return kind.from_pretrained(
                files,
                **given,
                scheduler=scheduler.from_config(parts["scheduler"]),
                torch_dtype=dtype,
                local_files_only=True,
            )
    # Which kinds the libraries of the parts raise is their own affair.
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(
            f"The text encoders of {files} ({index.get('_class_name')}) cannot be loaded: {reason}"
        ) from error
