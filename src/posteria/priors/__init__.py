"""Trained priors: those that ship with the package, and any diffusers pixel model; a classifier of digits."""

from .classifier import CLASSIFIERS, load_classifier
from .load import load_prior, prior_sha256
from .shipped import SHIPPED, Shipped

__all__ = ["CLASSIFIERS", "SHIPPED", "Shipped", "load_classifier", "load_prior", "prior_sha256"]
