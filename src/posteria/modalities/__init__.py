"""Kinds of data: how their files are read, how they are measured, and how samples are shown."""

from .base import (
    Figure as Figure,
    Modality as Modality,
    Outcome as Outcome,
    Scale as Scale,
    Signal as Signal,
    Sound as Sound,
)
from .given import Given as Given, Wanted as Wanted
from .registry import MODALITIES as MODALITIES, modality_of as modality_of, one_input as one_input
from .tasks import Degradation as Degradation, Option as Option, Source as Source, Task as Task
