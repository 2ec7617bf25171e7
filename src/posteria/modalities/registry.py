"""The modalities by name."""

from ..core.errors import CapabilityError
from ..core.space import Space
from .base import Modality
from .image import Image

MODALITIES: dict[str, Modality] = {"image": Image()}


def modality_of(space: Space, prior: str, named: str = "image") -> Modality:
    """The modality that a prior names, or else the first, whose signals have the shape that it draws.

    Args:
        space: Of the prior's samples.
        prior: The prior's name.
        named: The modality that its card names.

    Raises:
        CapabilityError: If there is none.
    """
    for modality in (MODALITIES.get(named), *MODALITIES.values()):
        if modality is not None and modality.suits(space):
            return modality
    known = "; ".join(f"{name}: {modality.about}" for name, modality in MODALITIES.items())
    raise CapabilityError(
        f"The prior {prior!r} draws events of shape {space.shape}, which no modality reads ({known})."
    )
