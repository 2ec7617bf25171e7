"""The test battery: what every prior, operator, likelihood, sampler and rule must satisfy, ours or a third party's.

Each function raises `AssertionError` with a sentence at the first property that does not hold.
"""

from .parts import check_denoiser, check_likelihood, check_operator
from .samplers import check_guidance, check_sampler, example_posterior, example_tilted

__all__ = [
    "check_denoiser",
    "check_guidance",
    "check_likelihood",
    "check_operator",
    "check_sampler",
    "example_posterior",
    "example_tilted",
]
