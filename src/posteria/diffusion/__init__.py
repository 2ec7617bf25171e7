"""Priors as denoisers, noise schedules, and the moves between noise levels."""

from .denoiser import Condition, Conditional, Counted, Denoiser, Family, Label
from .network import EDM, X0, Epsilon, FlowMatching, Network, Parametrisation, Velocity

__all__ = [
    "EDM",
    "X0",
    "Condition",
    "Conditional",
    "Counted",
    "Denoiser",
    "Epsilon",
    "Family",
    "FlowMatching",
    "Label",
    "Network",
    "Parametrisation",
    "Velocity",
]
