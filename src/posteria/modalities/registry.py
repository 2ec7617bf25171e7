"""The modalities by name."""

from pathlib import Path

from ..core.errors import CapabilityError
from ..core.space import Space
from ..priors.card import Card
from ..priors.load import card_of
from .audio import Audio
from .base import Modality
from .ecg import ECG
from .image import Image

MODALITIES: dict[str, Modality] = {"image": Image(), "ecg": ECG(), "audio": Audio()}


def one_input(folder: Path, prior: str | None) -> bool:
    """Whether a folder holds one signal of a kind that a prior draws, and not several."""
    modality = MODALITIES.get(card_of(prior).modality) if prior else None
    return modality is not None and modality.of(card_of(str(prior))).is_one(folder)


def modality_of(space: Space, prior: str, card: Card | None = None) -> Modality:
    """The modality that a prior names, or else the first, whose signals have the shape that it draws.

    Args:
        space: Of the prior's samples.
        prior: The prior's name.
        card: Of the prior.

    Raises:
        CapabilityError: If there is none.
    """
    named = None if card is None else MODALITIES.get(card.modality)
    for modality in (named, *MODALITIES.values()):
        if modality is not None and modality.suits(space):
            return modality if card is None else modality.of(card)
    known = "; ".join(f"{name}: {modality.about}" for name, modality in MODALITIES.items())
    raise CapabilityError(
        f"The prior {prior!r} draws events of shape {space.shape}, which no modality reads ({known})."
    )
