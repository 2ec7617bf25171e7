"""Trained priors: those that ship with the package, folders and pipelines of diffusers; a classifier of digits.

What needs PyTorch is imported when it is first used: cards alone do not load it.
"""

from typing import TYPE_CHECKING

from .._names import later
from .card import PUBLISHED as PUBLISHED, SHIPPED as SHIPPED, Card as Card

if TYPE_CHECKING:
    from ..latent import Decoder as Decoder, Latent as Latent
    from .adapters import from_denoiser as from_denoiser
    from .classifier import CLASSIFIERS as CLASSIFIERS, load_classifier as load_classifier
    from .fast import faster as faster
    from .load import card_of as card_of, load_prior as load_prior, prior_sha256 as prior_sha256
    from .pipeline.draw import decode as decode, sample_pipeline as sample_pipeline
    from .pipeline.given import (
        Embeddings as Embeddings,
        Given as Given,
        Prompt as Prompt,
        reads_texts as reads_texts,
    )
    from .pipeline.reading import from_diffusers as from_diffusers
    from .pipeline.schedules import GivenLevels as GivenLevels, schedule_of as schedule_of
    from .readers import READERS as READERS, Reader as Reader
else:
    __getattr__ = later(
        __name__,
        {
            "..latent": "Decoder Latent",
            ".adapters": "from_denoiser",
            ".classifier": "CLASSIFIERS load_classifier",
            ".fast": "faster",
            ".load": "card_of load_prior prior_sha256",
            ".pipeline.draw": "decode sample_pipeline",
            ".pipeline.given": "Embeddings Given Prompt reads_texts",
            ".pipeline.reading": "from_diffusers",
            ".pipeline.schedules": "GivenLevels schedule_of",
            ".readers": "READERS Reader",
        },
    )
