"""The test battery: what every prior, operator, likelihood, sampler and rule must satisfy, ours or a third party's.

Each function raises `AssertionError` with a sentence at the first property that does not hold.
"""

from .parts import (
    check_denoiser as check_denoiser,
    check_likelihood as check_likelihood,
    check_operator as check_operator,
    check_prior as check_prior,
)
from .samplers import (
    check_guidance as check_guidance,
    check_sampler as check_sampler,
    example_posterior as example_posterior,
    example_tilted as example_tilted,
)
