"""Priors whose denoiser and whose posteriors are known exactly."""

from .gaussian import Gaussian
from .mixture import GaussianMixture
from .tilted import TiltedQuadrature, tilted_gaussian

__all__ = ["Gaussian", "GaussianMixture", "TiltedQuadrature", "tilted_gaussian"]
