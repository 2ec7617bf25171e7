"""`load_prior`: from a name to a card, its reader, and a denoiser."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..core.errors import CapabilityError, InputError, ReadingWarning, expect, require, unknown
from ..diffusion.denoiser import Condition, Conditional, Label, Scale
from ..diffusion.network import Network
from ..diffusion.parametrisation import Discrete
from ..diffusion.reading import LEFT, noise_left
from ..diffusion.units import Units
from ..latent import Latent, signals_of
from .card import PUBLISHED, SHIPPED, Card, Data, check_hash, files_sha256, read_card
from .pipeline.given import GivenPrior
from .pipeline.reading import with_null
from .readers.folder import CHECKPOINTS, read_json, weight_files
from .readers.pipeline import contents_of
from .readers.registry import READERS, reader_of

PARTS = (
    *("*/diffusion_pytorch_model.safetensors", "*/diffusion_pytorch_model-*.safetensors"),
    *("text_encoder*/model.safetensors", "text_encoder*/model-*.safetensors", "tokenizer*/*"),
    *("language_model/model.safetensors", "vocoder/model.safetensors"),
)
LENGTHS = (
    "pictures: size=(height, width), or --size HEIGHTxWIDTH",
    "sound: size=160000, or --size 160000, of so many samples",
)
# Where the rate of sound stands, what it is if it does not, and its channels: of AudioLDM 2 (transformers leaves out
# what is usual), of Dance Diffusion, of Stable Audio.
SOUND: tuple[tuple[str, str, int | None, str], ...] = (
    ("vocoder", "sampling_rate", 16000, ""),
    ("unet", "sample_rate", None, "in_channels"),
    ("vae", "sampling_rate", None, "audio_channels"),
)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
KNOWN = (*SHIPPED, "diffusers:FOLDER-OR-NAME", "adm:FILE.pt")


def load_prior(
    name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    size: int | tuple[int, ...] | None = None,
    sha256: str | None = None,
    shift: int = 0,
    null: Condition | None = None,
    checkpoint: bool = False,
) -> Conditional:
    """Load a trained prior.

    Args:
        name: A shipped one (`digits`, `satellite`, `digits-mixture`, `photo`, `stems`); a folder in diffusers'
            format; `diffusers:` and a folder or a name on the Hugging Face hub (a model of latents comes
            back as a `Latent`); or `adm:FILE.pt`, a state dict of guided-diffusion.
        device: Where the network and the samples live.
        dtype: Of the network; samples are in float32 at least.
        size: Height and width of a picture, or the length of a signal, if another than the network was trained at.
        sha256: The weights must have this SHA-256; of several files, that of their hashes in order.
        shift: For networks with a DDPM table; see `posteria.diffusion.Epsilon`.
        null: What stands for no condition in a network of texts, if not the pipeline's own.
        checkpoint: Whether blocks of network and decoder are computed again for a derivative, and not
            kept: several times less memory for a third more time, and the same numbers.

    Warns:
        ReadingWarning: At its first evaluation, if it leaves noise in pure noise, so that it is either not trained or
            misread.

    Raises:
        InputError: If there is no such prior or device, or its files are missing, damaged or not the
            expected ones.
        CapabilityError: If it is of a kind that no reader reads.
    """
    _check_device(device)
    check_dtype(dtype)
    card = card_of(name)
    files = _files(card)
    for expected in {sha256, card.sha256} - {None}:
        check_hash(weight_files(files), str(expected))
    reader = reader_of(files) if card.where == "hub" else card.reader
    card, sides = sound_of(card, files), (size,) if isinstance(size, int) else size
    require(
        sides is None or len(sides) == (1 if card.modality == "audio" else 2) or reader == "local",
        f"{card.name} draws {LENGTHS[card.modality == 'audio']}; {' x '.join(map(str, sides or ()))} is not.",
    )
    prior = READERS[reader](files, device=device, dtype=dtype, size=sides)
    drawn, said = (
        signals_of(prior).shape,
        card.shape if card.where in {"package", "folder"} else (),
    )
    require(
        size is not None or not said or drawn == said,
        f"The card of {card.name} says that it draws signals of shape {said}; its network draws {drawn}.",
    )
    if checkpoint:
        _checkpoint(prior)
    inner: Any = prior.prior if isinstance(prior, Latent) else prior
    inner = inner.prior if isinstance(inner, Units) else inner
    if card.where != "package" and isinstance(inner, Network | GivenPrior):
        inner.doubt = _Doubt(card.name)
    prior = prior if null is None else with_null(prior, null)
    prior.about = str(card)
    if shift:
        _shift(prior, shift)
    # Of the weights of the card, and of no others.
    if size is None and card.sha256 is not None and (files / "scale.safetensors").exists():
        _tell_scale(prior, files / "scale.safetensors")
    return prior


class Origin(NamedTuple):
    """What a prior is made of.

    Attributes:
        card: Its card.
        weights: SHA-256 of its weights, by which a run knows whether they are still the same.
        configuration: SHA-256 of what lies beside them and says how they are read.
    """

    card: Card
    weights: str
    configuration: str


def origin_of(card: Card) -> Origin:
    """What the prior of a card is made of; errors as of `load_prior`."""
    files = _files(card)
    beside = sorted(path for kind in ("json", "toml") for path in files.glob(f"**/*.{kind}"))
    return Origin(sound_of(card, files), files_sha256(weight_files(files)), files_sha256(beside))


def prior_sha256(name: str | Path) -> str:
    """The SHA-256 of a prior's weights.

    Args:
        name: As for `load_prior`, with the same errors.
    """
    return origin_of(card_of(name)).weights


def card_of(name: str | Path) -> Card:
    """The card of a prior: a shipped one's, the file `card.toml` in its folder, or one made of what is there.

    Args:
        name: As for `load_prior`.

    Raises:
        InputError: If there is no such prior.
        CapabilityError: If it is of a kind that no reader reads.
    """
    name = expect(str(name) if isinstance(name, Path) else name, str, by="load_prior")
    if name in SHIPPED:
        return SHIPPED[name]
    if name in PUBLISHED and not Path(name).exists():
        return PUBLISHED[name]
    kind, colon, path = name.partition(":")
    if not name or (colon and not path):
        raise unknown("prior", name, KNOWN, PUBLISHED)
    if colon and kind == "diffusers" and not Path(path).exists():
        known = [card for card in PUBLISHED.values() if card.path == path]
        return known[0] if known else Card(name=path, reader="pixel", path=path, where="hub")
    if colon and kind in READERS:
        require(Path(path).exists(), f"There is no file or folder {path}.")
        return Card(name=name, reader=kind, path=path)
    folder = Path(path if colon and kind == "diffusers" else name)
    if folder.is_file() or folder.suffix in CHECKPOINTS:
        raise InputError(
            f"{name} is a file of weights, which does not say of which network; posteria reads folders in "
            f"diffusers' format, and state dicts of guided-diffusion as adm:{name}. "
            "Load any other network with its own code and wrap it: posteria.Network(module, space, parametrisation)."
        )
    if not folder.is_dir():
        raise unknown("prior", name, KNOWN, PUBLISHED)
    if (folder / "card.toml").exists():
        card = read_card(folder / "card.toml")
        if card.reader not in READERS:
            raise unknown("reader", card.reader, READERS)
        return card
    return sound_of(Card(name=folder.name, reader=reader_of(folder), path=str(folder)), folder)


def sound_of(card: Card, files: Path) -> Card:
    """The card with the rate that a configuration among its files has, if it names none: it makes sound then."""
    for part, entry, usual, channels in SOUND:
        config = files / part / "config.json"
        if card.data.rate is not None or not config.exists():
            continue
        known = read_json(config)
        if (rate := known.get(entry, usual)) is not None:
            names = ("left", "right") if known.get(channels) == 2 else ()
            data = Data(rate=rate, names=names)
            return dataclasses.replace(card, modality="audio", data=data)
    return card


def check_dtype(dtype: torch.dtype) -> None:
    """Raise `InputError` for a dtype that a network cannot be evaluated in."""
    require(
        dtype in DTYPES,
        f"dtype is one of floating point, {', '.join(map(str, DTYPES))}; {dtype!r} is not.",
    )


def _check_device(device: torch.device | str) -> None:
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        raise InputError(
            f"PyTorch has no device {str(device)!r} on this machine; give 'cpu'."
        ) from error


def _files(card: Card) -> Path:
    """The files of a prior, fetched if they are on the hub: first what says of which kind it is."""
    require(
        card.where != "page",
        f"posteria does not fetch {card.name}: get it from {card.path} and load the file, {card.reader}:FILE.",
    )
    if card.where != "hub":
        return card.folder
    folder = _fetch(card.path, ["*.json"])
    reader = reader_of(folder)
    if reader == "pipeline":
        contents_of(folder)
    # Of a pipeline the parts, in the default variant: at its top there may be the same again in one file.
    patterns = ["*.json", "*.safetensors"] if reader == "pixel" else [*PARTS, "*.json"]
    folder = _fetch(card.path, patterns)
    if not any(folder.rglob("*.safetensors")):
        folder = _fetch(
            card.path, [pattern.replace(".safetensors", ".bin") for pattern in patterns]
        )
    return folder


def _fetch(name: str, patterns: list[str]) -> Path:
    """A copy of some files on the hub."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    # The hub raises a dozen kinds, and which ones changes with its version.
    except Exception as error:
        raise InputError(
            f"There is no folder {name!r}, and the hub did not give a model of that name ({type(error).__name__})."
        ) from error


def _checkpoint(prior: Conditional) -> None:
    """Have the parts of a prior that can do so compute their blocks again.

    Raises:
        CapabilityError: If none can.
    """
    inner = prior.prior if isinstance(prior, Latent | Units) else prior
    network: Any = getattr(inner, "module", None) or getattr(inner, "network", None)
    decoder: Any = prior.decoder.autoencoder if isinstance(prior, Latent) else None
    able = [
        part
        for part in (getattr(network, "unet", network), decoder)
        if getattr(part, "_supports_gradient_checkpointing", False)
    ]
    if not able:
        raise CapabilityError(
            f"{prior!r} has no blocks that can be computed again; leave checkpoint out."
        )
    for part in able:
        part.enable_gradient_checkpointing()


class _Doubt:
    """Warns of a prior that leaves noise in noise, once, by one evaluation at the least size that its network takes.

    It waits for the first evaluation of a member: a prior may have none without a condition, and to look takes several
    times as long as to load.
    """

    def __init__(self, name: str) -> None:
        self.name, self.done = name, False

    def __call__(self, network: Network) -> None:
        if self.done:
            return
        self.done, left = True, noise_left(network)
        if left is not None and not left < LEFT:
            warnings.warn(
                f"{self.name} leaves {left:.2f} of pure noise, where a denoiser leaves about 0.01: either its network "
                "is not trained, or it predicts something else than its scheduler says. "
                "posteria.testing.check_prior(prior, examples) says more.",
                ReadingWarning,
                stacklevel=4,
            )


def _shift(prior: Conditional, shift: int) -> None:
    """Let the network see the training step `shift` after that of each level."""
    prior = prior.prior if isinstance(prior, Latent) else prior  # type: ignore[assignment]
    if not isinstance(prior, Network) or not isinstance(prior.parametrisation, Discrete):
        raise CapabilityError(
            f"shift={shift} is for networks with a DDPM table; this is {prior!r}."
        )
    prior.parametrisation = dataclasses.replace(prior.parametrisation, shift=shift)


def _tell_scale(prior: Conditional, path: Path) -> None:
    """Tell a prior and its members the mean and spread that `posteria.diffusion.scale` has measured of them."""
    try:
        known = load_file(path)
        means, stds = known["mean"], known["std"]
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path} does not hold the scales of a prior: {error}.") from error
    members = [prior, *(prior.given(Label(k)) for k in range(prior.labels))]
    require(
        means.shape == (len(members), *prior.space.shape)
        and stds.shape == (len(members),)
        and bool((stds > 0).all()),
        f"{path} is of another prior: it has means of shape {tuple(means.shape)} and {stds.numel()} deviations.",
    )
    for member, mean, std in zip(members, means, stds, strict=True):
        member.scale = Scale(mean.to(prior.space.device, prior.space.dtype), float(std))
