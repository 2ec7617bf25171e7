"""Samplers."""

from .base import Sampler
from .dps import DPS
from .gaussian_vi import InnerSteps
from .mgdm import MGDM, Deterministic, IndexLaw, Midpoint, Mix, Uniform
from .mgps import MGPS
from .posterior import PosteriorSampler
from .registry import SAMPLERS, rebuild_part, rebuild_sampler
from .unconditional import Unconditional

__all__ = [
    "DPS",
    "MGDM",
    "MGPS",
    "SAMPLERS",
    "Deterministic",
    "IndexLaw",
    "InnerSteps",
    "Midpoint",
    "Mix",
    "PosteriorSampler",
    "Sampler",
    "Unconditional",
    "Uniform",
    "rebuild_part",
    "rebuild_sampler",
]
