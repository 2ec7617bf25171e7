"""Priors whose denoiser and whose posteriors are known exactly."""

from .gaussian import Gaussian as Gaussian
from .low_rank import PPCAMixture as PPCAMixture
from .mixture import GaussianMixture as GaussianMixture
from .tilted import TiltedQuadrature as TiltedQuadrature, tilted_gaussian as tilted_gaussian
