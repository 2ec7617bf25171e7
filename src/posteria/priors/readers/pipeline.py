"""Latent models in diffusers' format: a folder with a network, its scheduler, an autoencoder, and what reads texts."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ...core.errors import CapabilityError, InputError, require
from ...diffusion.denoiser import Conditional
from ..pipeline.reading import check_kind, from_diffusers
from ..pipeline.schedulers import reading_of
from .folder import load_part, parts_of, read_json

NETWORKS = ("unet", "transformer")
AUTOENCODERS = ("vae", "vqvae", "movq", "vqgan", "autoencoder")


def read_pipeline(
    files: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    size: tuple[int, ...] | None = None,
) -> Conditional:
    """Read a latent model, or another one that is not a U-Net of pixels alone, from a folder in diffusers' format.

    Texts are read by the pipeline's own encoders, for which transformers is needed; without it a network of texts is
    given `Embeddings`. A file `posteria.json` may have the `shape` of a latent, where the network does not say it.

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
        changes = _completed(read_json(files / name / "config.json"))
        parts[role] = load_part(files / name, kind, accuracy, **changes).to(device)
    extra = read_json(files / "posteria.json") if (files / "posteria.json").exists() else {}
    shape = tuple(extra["shape"]) if "shape" in extra else None
    if any((files / name).is_dir() for name in ("text_encoder", "text_encoder_2")) and find_spec(
        "transformers"
    ):
        parts["texts"] = _texts(files, parts, dtype, device)
        parts["vocoder"] = getattr(parts["texts"], "vocoder", None)
    elif (files / "vocoder").is_dir():
        raise CapabilityError(
            f"{files} makes sound by a vocoder, for which transformers is needed: pip install transformers."
        )
    return from_diffusers(parts, size=size, shape=shape)


def _completed(config: dict[str, Any]) -> dict[str, Any]:
    """What a configuration of Dance Diffusion leaves to a default that diffusers has changed since."""
    old = config.get("_class_name") == "UNet1DModel" and config.get("time_embedding_dim") is None
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
    kinds = {}
    for name in (names[0] for names in found if names):
        kinds[name] = str(read_json(files / name / "config.json").get("_class_name"))
    check_kind(kinds[found[0][0]])
    contents = Contents(kinds, read_json(schedule))
    reading_of(contents.scheduler)
    return contents


@contextmanager
def _quiet() -> Generator[None]:
    """Where diffusers and transformers say nothing of parts whose classes they cannot check, and show no bars."""
    from diffusers.utils import logging
    from transformers.utils import logging as others

    levels = [each.get_verbosity() for each in (logging, others)]
    for each in (logging, others):
        each.set_verbosity_error()
        each.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip((logging, others), levels, strict=True):
            each.set_verbosity(level)
            each.enable_progress_bar()


def _texts(
    files: Path, parts: dict[str, Any], dtype: torch.dtype, device: torch.device | str
) -> Any:
    """The pipeline, whose parts are those that were loaded, for what it makes of texts."""
    import diffusers

    index = read_json(files / "model_index.json")
    kind = getattr(diffusers, str(index.get("_class_name")), None)
    if kind is None:
        raise CapabilityError(
            f"diffusers has no pipeline {index.get('_class_name')!r}, which {files} names."
        )
    scheduler = getattr(diffusers, parts["scheduler"]["_class_name"]).from_config(
        parts["scheduler"]
    )
    given = {
        "unet": parts.get("unet"),
        "transformer": parts.get("transformer"),
        "vae": parts.get("vae"),
    }
    none = ("safety_checker", "feature_extractor", "image_encoder", "watermarker")
    given = {name: part for name, part in given.items() if name in index}
    given |= {name: None for name in none if name in index and name not in given}
    try:
        with _quiet():
            pipeline = kind.from_pretrained(
                files, **given, scheduler=scheduler, torch_dtype=dtype, local_files_only=True
            )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"The text encoders of {files} cannot be loaded: {reason}") from error
    return pipeline.to(device)
