"""Priors whose denoiser and whose posteriors are known exactly."""

from .gaussian import Gaussian
from .mixture import GaussianMixture

__all__ = ["Gaussian", "GaussianMixture"]
