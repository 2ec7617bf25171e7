"""Pictures."""

from .modality import Image

__all__ = ["Image"]
