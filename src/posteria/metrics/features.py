"""Features in which sets of samples are compared."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from typing_extensions import override

from ..core.errors import CapabilityError, InputError, ShapeError, expect, unknown, whole
from ..core.space import real
from ..guidance.classifiers.classifier import CleanClassifier
from .image import clipped


class Features(Protocol):
    """A map from samples to features, each sample by itself."""

    def __call__(self, x: Tensor) -> Tensor:
        """Samples `[n, *event]` to features `[n, d]`."""


@dataclass(frozen=True)
class Flat(Features):
    """The samples themselves, for events of few entries."""

    @override
    def __call__(self, x: Tensor) -> Tensor:
        x = real(x, "An array of samples")
        return x.reshape(len(x), math.prod(x.shape[1:]))


@runtime_checkable
class FeatureNetwork(Protocol):
    """A classifier's network that gives its penultimate features."""

    def features(self, x: Tensor) -> Tensor:
        """Samples `[n, *event]` to features `[n, d]`."""


class Penultimate(Features):
    """The penultimate features of a classifier whose network has a method `features`, as `load_classifier`'s has.

    Raises:
        CapabilityError: If it has none.
    """

    def __init__(self, classifier: CleanClassifier, batch: int = 500) -> None:
        self.network = expect(classifier.logits, FeatureNetwork, by=self)
        self.space, self.batch = classifier.space, whole(batch, "batch")

    @override
    def __call__(self, x: Tensor) -> Tensor:
        x = self.space.check(real(x, "An array of samples"), "x")
        return _batched(self.network.features, x, self.batch)


class PictureFeatures(Features, abc.ABC):
    """Features of pictures by a network.

    Args:
        network: In evaluation mode; not changed.
        device: Where it lives.
        batch: Pictures a call.
    """

    def __init__(self, network: nn.Module, device: torch.device | str, batch: int) -> None:
        self.network, self.device, self.batch = network, device, whole(batch, "batch")

    @override
    def __call__(self, x: Tensor) -> Tensor:
        x = real(x, "An array of pictures")
        if x.ndim != 4 or x.shape[1] not in {1, 3}:
            raise ShapeError(
                f"Pictures are [n, 1 or 3 channels, height, width], not {tuple(x.shape)}."
            )
        return _batched(self._evaluate, clipped(x).expand(-1, 3, -1, -1), self.batch)

    @abc.abstractmethod
    def _evaluate(self, x: Tensor) -> Tensor:
        """Pictures `[n, 3, height, width]` in [-1, 1] to features `[n, d]` on their device."""


class Inception(PictureFeatures):
    """Features of FID: the 2048 of Inception-v3 before its last layer, `[n, channels, height, width]` to `[n, 2048]`.

    Pictures are rounded to bytes and resized to 299 x 299 by torch-fidelity as by the original code.
    The network takes bytes `[n, 3, height, width]` to a tuple with the features `[n, d]`.
    """

    @override
    def _evaluate(self, x: Tensor) -> Tensor:
        pixels = (x.to(self.device) + 1) * 127.5
        features: Tensor = self.network(pixels.round().to(torch.uint8))[0]
        # A byte cannot be NaN: a picture that diverged would be black.
        broken = x.isnan().flatten(1).any(1)
        return features.to(x.device).masked_fill(broken[:, None], math.nan)


class DINOv2(PictureFeatures):
    """The class token of DINOv2, `[n, channels, height, width]` to `[n, d]` (Stein et al., 2023, arXiv:2306.04675).

    Pictures are resized to 224 x 224 (bicubic, antialiased) and normalised as for ImageNet. The network is
    a `Dinov2Model` of transformers, which interpolates the embeddings of positions a little differently
    from DINOv2's own code, so compare with values from here.
    """

    side = 224
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    @override
    def _evaluate(self, x: Tensor) -> Tensor:
        pixels = (x.to(self.device).float() + 1) / 2
        if pixels.shape[-2:] != (self.side, self.side):
            pixels = nn.functional.interpolate(
                pixels, (self.side, self.side), mode="bicubic", antialias=True
            )
        mean, std = (pixels.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        tokens: Tensor = self.network(pixel_values=(pixels - mean) / std).last_hidden_state
        return tokens[:, 0].to(x.device)


@torch.no_grad()
def _batched(evaluate: Callable[[Tensor], Tensor], x: Tensor, batch: int) -> Tensor:
    return torch.cat([evaluate(part) for part in torch.split(x, batch)])


# FID's own weights of Inception, as torch-fidelity gives them out. Their SHA-256 begins as their name ends.
INCEPTION_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)


def load_features(
    name: str,
    *,
    source: str | Path | None = None,
    device: torch.device | str = "cpu",
    batch: int = 50,
) -> PictureFeatures:
    """Load a network whose features pictures are compared in.

    It needs the extra `posteria[features]`. Without `source`, weights are fetched when they are not on
    this machine yet: about 96 MB for `inception`, 1.2 GB for `dinov2`.

    Args:
        name: `inception`, for FID; or `dinov2`, for FD-DINOv2.
        source: A file of tensors for `inception`; a folder in transformers' format or a name on the
            Hugging Face hub for `dinov2`, by default `facebook/dinov2-large`.
        device: Where it lives; features come back on the device of the pictures.
        batch: Pictures a call.

    Raises:
        CapabilityError: If the extra is missing.
        InputError: If there is no such network, or its weights cannot be had or read.
    """
    if name not in LOADERS:
        raise unknown("feature network", name, LOADERS)
    whole(batch, "batch")
    try:
        kind, load = LOADERS[name]
        network = load(source).to(device).eval()
    except ImportError as error:
        raise CapabilityError(
            f"The features {name!r} need {error.name or 'a package'}: pip install 'posteria[features]'."
        ) from error
    return kind(network, device, batch)


def _inception(source: str | Path | None) -> nn.Module:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # torch-fidelity fetches and reads weights without care, so they are looked at here first: the
    # SHA-256 of what is fetched, and that a file holds tensors and no code.
    try:
        if source is None:
            torch.hub.load_state_dict_from_url(
                INCEPTION_URL, progress=False, check_hash=True, weights_only=True
            )
        else:
            torch.load(source, map_location="cpu", weights_only=True)
        path = None if source is None else str(source)
        network: nn.Module = FeatureExtractorInceptionV3("inception", ["2048"], path)
    # A pickle can fail in any way, a download in others.
    except Exception as error:
        raise _unreadable("Inception", source or INCEPTION_URL, error) from error
    return network


def _dinov2(source: str | Path | None) -> nn.Module:
    from transformers import Dinov2Model

    place = str(source or "facebook/dinov2-large")
    try:
        network: nn.Module = Dinov2Model.from_pretrained(place, use_safetensors=True)
    # The hub raises a dozen kinds, and which ones changes with its version.
    except Exception as error:
        raise _unreadable("DINOv2", place, error) from error
    return network


def _unreadable(what: str, source: Any, error: Exception) -> InputError:
    kind = type(error).__name__
    return InputError(f"The weights of {what} cannot be had from {str(source)!r} ({kind}).")


LOADERS: dict[str, tuple[type[PictureFeatures], Callable[[str | Path | None], nn.Module]]] = {
    "inception": (Inception, _inception),
    "dinov2": (DINOv2, _dinov2),
}
