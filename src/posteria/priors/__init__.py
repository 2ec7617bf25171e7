"""Trained priors: those that ship with the package, folders and pipelines of diffusers; a classifier of digits."""

from .adapters import from_denoiser as from_denoiser
from .card import SHIPPED as SHIPPED, Card as Card
from .classifier import CLASSIFIERS as CLASSIFIERS, load_classifier as load_classifier
from .load import card_of as card_of, load_prior as load_prior, prior_sha256 as prior_sha256
from .pipelines import decode as decode, sample_pipeline as sample_pipeline
from .readers import READERS as READERS, Reader as Reader
from .readers.pipeline import from_diffusers as from_diffusers
from .readers.schedules import GivenLevels as GivenLevels, schedule_of as schedule_of
from .readers.texts import Embeddings as Embeddings, Prompt as Prompt
