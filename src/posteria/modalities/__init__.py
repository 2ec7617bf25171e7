"""Kinds of data: how their files are read, how they are measured, and how samples are shown."""

from .base import (
    Degradation as Degradation,
    Figure as Figure,
    Modality as Modality,
    Option as Option,
    Outcome as Outcome,
    Scale as Scale,
    Signal as Signal,
    Source as Source,
    Task as Task,
)
from .registry import MODALITIES as MODALITIES, modality_of as modality_of
