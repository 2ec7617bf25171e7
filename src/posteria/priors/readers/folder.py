"""A folder in diffusers' format: its parts, configurations and files of weights."""

import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ...core.errors import CapabilityError, InputError, PosteriaError, require, unknown, whole
from ..pipeline.parts import AUTOENCODERS, NETWORKS
from ..pipeline.schedulers import reading_of

# Shards are numbered before or after the variant, according to the version of diffusers.
WEIGHTS = re.compile(
    r"diffusion_pytorch_model(-\d+-of-\d+)?(?:\.(?P<variant>\w+))?(-\d+-of-\d+)?\.(?P<kind>safetensors|bin)"
)

# Endings of files that hold weights.
CHECKPOINTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".onnx")


def read_json(path: Path) -> dict[str, Any]:
    """A configuration.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a configuration.")
    return content


def index_of(folder: Path) -> dict[str, Any]:
    """The index of a pipeline, by which each part has a library and a class; empty where there is none."""
    path = folder / "model_index.json"
    return read_json(path) if path.exists() else {}


def extras_of(files: Path, *known: str) -> dict[str, Any]:
    """The entries of `posteria.json`, which says more than diffusers' format can; none where there is no such file.

    Args:
        files: The folder.
        known: What its reader knows: `patch`, `null_label`, `shape`.

    Raises:
        InputError: If an entry is of another kind.
    """
    path = files / "posteria.json"
    extras = read_json(path) if path.exists() else {}
    for key, value in extras.items():
        if key not in known:
            raise unknown(f"entry of {path}", key, known)
        if key == "shape":
            require(isinstance(value, list), f"shape in {path} is a list of sides, not {value!r}.")
        else:
            whole(value, f"{key} in {path}", 1 if key == "patch" else 0)
    return extras


def scheduler_in(files: Path) -> dict[str, Any]:
    """The configuration of the scheduler in a folder.

    Raises:
        InputError: If there is none, or the index of the folder names another that would be read as something else.
        CapabilityError: If it is none that posteria reads.
    """
    path = place_of(files, "scheduler", "scheduler_config.json") / "scheduler_config.json"
    config, named = read_json(path), index_of(files).get("scheduler")
    kind = named[-1] if isinstance(named, list) and named else None
    reading = reading_of(config)
    try:
        alike = kind is None or reading_of({**config, "_class_name": kind}) == reading
    except PosteriaError:
        alike = False
    require(
        alike,
        f"The index of {files} names a {kind}, and {path} is of a {config.get('_class_name')}: they do not say the "
        "same of the network; keep the one that is meant.",
    )
    return config


def parts_of(folder: Path) -> set[str]:
    """The names of the parts of a pipeline: those that its index names, and those that have a folder."""
    parts = set(named_in(folder))
    for path in folder.glob("*/*config.json"):
        if read_json(path).keys() & {"_class_name", "architectures"}:
            parts.add(path.parent.name)
    return parts


def named_in(folder: Path) -> dict[str, str]:
    """The libraries of the parts that its index names."""
    index = index_of(folder).items()
    return {k: str(v[0]) for k, v in index if isinstance(v, list) and v and None not in v}


def made_by_diffusers(folder: Path) -> set[str]:
    """Parts of diffusers: those of the index, and folders beside it with an autoencoder or a second network.

    Where a known autoencoder is there, others that the index does not name are copies for other programs.
    """
    parts = {name for name, library in named_in(folder).items() if library == "diffusers"}
    found = {path.parent.name: read_json(path) for path in folder.glob("*/config.json")}
    parts |= found.keys() & {f"{name}_2" for name in NETWORKS}
    if not (parts | found.keys()) & {*AUTOENCODERS}:
        kinds = {name: str(config.get("_class_name")) for name, config in found.items()}
        parts |= {
            name
            for name, kind in kinds.items()
            if any(word in kind for word in ("Autoencoder", "VAE", "VQ"))
        }
    return parts


def place_of(folder: Path, part: str, file: str) -> Path:
    """Where a part of a pipeline lies: in its own folder, or at the top.

    Raises:
        InputError: If it is in neither.
    """
    for place in (folder / part, folder):
        if (place / file).exists():
            return place
    raise InputError(
        f"{folder} is not a diffusers pixel model: there is no {part}/{file} and no {file}."
    )


def weights_in(place: Path) -> tuple[list[Path], str | None]:
    """The files of the weights of one network, and their variant.

    Those without a variant if there are any, in safetensors if there are any.

    Raises:
        InputError: If there are none, or several variants of which none is the default.
    """
    found: dict[tuple[str, str | None], list[Path]] = {}
    for path in sorted(place.glob("diffusion_pytorch_model*")):
        match = WEIGHTS.fullmatch(path.name)
        if match:
            found.setdefault((match["kind"], match["variant"]), []).append(path)
    plain = [key for key in found if key[1] is None]
    chosen = [key for kind in ("safetensors", "bin") for key in plain or found if key[0] == kind]
    if not chosen:
        raise InputError(
            f"{place} has no diffusion_pytorch_model.safetensors, no shards or variants of it, and no .bin."
        )
    kind = [key for key in chosen if key[0] == chosen[0][0]]
    if len(kind) > 1:
        names = ", ".join(sorted(str(variant) for _, variant in kind))
        raise InputError(
            f"{place} has the variants {names} of its weights and no default; keep the one to be read."
        )
    return found[chosen[0]], chosen[0][1]


def floating_weights(place: Path) -> tuple[list[Path], str | None]:
    """As `weights_in`, of which every weight is a number of floating point.

    Raises:
        CapabilityError: If one is not: it is quantized, and its scale is not where diffusers looks.
    """
    paths, variant = weights_in(place)
    for path in (path for path in paths if path.suffix == ".safetensors"):
        try:
            with safe_open(path, "pt") as file:
                kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # ruff: ignore[in-dict-keys]
        except (SafetensorError, OSError):
            continue  # What reads it says so.
        for name, kind in kinds.items():
            if name.endswith((".weight", ".bias")) and "F" not in kind:
                raise CapabilityError(
                    f"{path} holds {name} as {kind}: weights are floats, and posteria reads no quantized ones; "
                    "read the pipeline with what quantized it, and give it to posteria.priors.from_diffusers."
                )
    return paths, variant


def weight_files(files: Path) -> list[Path]:
    """Every file of weights that a reader reads: those of networks of diffusers, or else all that there are.

    Raises:
        InputError: If there is none.
    """
    if files.is_file():
        return [files]
    places = [files, *sorted(path for path in files.iterdir() if path.is_dir())]
    there = [place for place in places if any(place.glob("diffusion_pytorch_model*"))]
    if there:
        beside = ("text_encoder*", "language_model", "vocoder")
        texts = sorted(
            path
            for name in beside
            for path in files.glob(f"{name}/model*")
            if path.suffix in CHECKPOINTS
        )
        return [path for place in there for path in weights_in(place)[0]] + texts
    others = sorted(path for path in files.rglob("*") if path.suffix in CHECKPOINTS)
    return [path for path in others if path.name != "scale.safetensors"] or weights_in(files)[0]


def load_part(place: Path, kind: str, dtype: torch.dtype, **changes: Any) -> nn.Module:
    """A network of diffusers with every weight of its configuration and no other, frozen, in evaluation mode.

    Raises:
        InputError: If there are no such weights, or they are damaged or others.
        CapabilityError: If diffusers has no such network, or accelerate is needed for it and is not there.
    """
    paths, variant = floating_weights(place)
    if "quantization_config" in read_json(place / "config.json"):
        raise CapabilityError(
            f"The weights in {place} are quantized, which posteria does not read. Read the pipeline by diffusers, and "
            "give it to posteria.priors.from_diffusers(pipeline)."
        )
    import diffusers
    from diffusers.utils import is_accelerate_available

    network: Any = getattr(diffusers, kind, None)
    known = isinstance(network, type) and issubclass(network, diffusers.ModelMixin)
    if not known:
        raise CapabilityError(
            f"{place / 'config.json'} is of a {kind}, which is no network of diffusers {diffusers.__version__}."
        )
    if network._keep_in_fp32_modules and not is_accelerate_available():
        raise CapabilityError(
            f"diffusers reads the weights of a {kind} by accelerate, which is not there: pip install accelerate."
        )
    try:
        # It renames what older versions have named otherwise, and reads pickles without running code.
        with warnings.catch_warnings():
            # Of PyTorch, about what diffusers is made of.
            warnings.simplefilter("ignore", FutureWarning)
            module, found = network.from_pretrained(
                place,
                torch_dtype=dtype,
                variant=variant,
                use_safetensors=paths[0].suffix == ".safetensors",
                output_loading_info=True,
                low_cpu_mem_usage=is_accelerate_available(),
                **changes,
            )
    except (SafetensorError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{paths[0]} is damaged or incomplete: {_first(error)}") from error
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"{paths[0]} does not hold the weights of its config.json: {_first(error)}"
        ) from error
    wrong = [f"{len(found[key])} {key.split('_')[0]}" for key in found if found[key]]
    require(
        not wrong,
        f"{paths[0]} does not hold the weights of its config.json: {', '.join(wrong)}, such as "
        f"{next((str(next(iter(names))) for names in found.values() if names), '')}.",
    )
    return module.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
