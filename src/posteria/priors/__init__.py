"""Trained priors: those that ship with the package, folders and pipelines of diffusers; a classifier of digits."""

from .adapters import from_denoiser
from .card import SHIPPED, Card
from .classifier import CLASSIFIERS, load_classifier
from .load import card_of, load_prior, prior_sha256
from .pipelines import decode, sample_pipeline
from .readers import READERS, Reader
from .readers.pipeline import from_diffusers
from .readers.schedules import GivenLevels, schedule_of
from .readers.texts import Embeddings, Prompt

__all__ = [
    "CLASSIFIERS",
    "READERS",
    "SHIPPED",
    "Card",
    "Embeddings",
    "GivenLevels",
    "Prompt",
    "Reader",
    "card_of",
    "decode",
    "from_denoiser",
    "from_diffusers",
    "load_classifier",
    "load_prior",
    "prior_sha256",
    "sample_pipeline",
    "schedule_of",
]
