"""The modalities by name."""

from ..core.errors import CapabilityError
from ..core.space import Space
from .base import Modality
from .image import Image

MODALITIES: dict[str, Modality] = {"image": Image()}


def modality_of(space: Space, prior: str) -> Modality:
    """The first modality whose signals have the shape that a prior draws.

    Args:
        space: Of the prior's samples.
        prior: The prior's name.

    Raises:
        CapabilityError: If there is none.
    """
    for modality in MODALITIES.values():
        if modality.suits(space):
            return modality
    known = "; ".join(f"{name}: {modality.about}" for name, modality in MODALITIES.items())
    raise CapabilityError(
        f"The prior {prior!r} draws events of shape {space.shape}, which no modality reads ({known})."
    )
