"""posteria inside diffusers: rules as its guiders, and its pipelines as priors."""

from .guiders import to_diffusers
from .parts import decode
from .pipelines import from_diffusers, sample_pipeline
from .schedules import GivenLevels, schedule_of
from .texts import Embeddings, Prompt

__all__ = [
    "Embeddings",
    "GivenLevels",
    "Prompt",
    "decode",
    "from_diffusers",
    "sample_pipeline",
    "schedule_of",
    "to_diffusers",
]
