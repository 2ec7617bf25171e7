"""Trained priors: those that ship with the package, and any diffusers pixel model."""

from .load import load_prior, prior_sha256
from .shipped import SHIPPED, Shipped

__all__ = ["SHIPPED", "Shipped", "load_prior", "prior_sha256"]
