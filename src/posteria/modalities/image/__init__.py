"""Pictures."""

from .modality import Image as Image
