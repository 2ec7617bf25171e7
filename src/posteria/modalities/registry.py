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


def modality_of(space: Space | None, prior: str, card: Card) -> Modality:
    """The modality that the card of a prior names, of the rate, units and names that it states.

    What the numbers of a prior mean is never guessed from their shape.

    Args:
        space: Of the prior's samples; None before it is loaded.
        prior: The prior's name.
        card: Of the prior.

    Raises:
        InputError: If the card lacks what its modality must know.
        CapabilityError: If there is no such modality, or its signals have another shape than the prior draws.
    """
    named = MODALITIES.get(card.modality)
    modality = None if named is None else named.of(card)
    if modality is not None and (space is None or modality.suits(space)):
        return modality
    known = "; ".join(f"{name}: {modality.about}" for name, modality in MODALITIES.items())
    shape = card.shape if space is None else space.shape
    raise CapabilityError(
        f"The prior {prior!r} draws events of shape {shape}, which the modality {card.modality!r} does not read "
        f'({known}). If they are of another, its folder says so in card.toml: modality = "ecg".'
    )
