"""Kinds of data: how their files are read, how they are measured, and how samples are shown."""

from .base import Degradation, Figure, Modality, Option, Outcome, Signal, Task
from .registry import MODALITIES, modality_of

__all__ = [
    "MODALITIES",
    "Degradation",
    "Figure",
    "Modality",
    "Option",
    "Outcome",
    "Signal",
    "Task",
    "modality_of",
]
