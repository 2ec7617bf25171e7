"""Noise levels: schedules, and the noise tables of trained networks."""

from .diffusion.betas import Betas, CosineBetas, GivenBetas, LinearBetas, ScaledLinearBetas
from .diffusion.schedule import VP, Flow, Karras, LogLinear, Schedule, Table, levels_of

__all__ = [
    "VP",
    "Betas",
    "CosineBetas",
    "Flow",
    "GivenBetas",
    "Karras",
    "LinearBetas",
    "LogLinear",
    "ScaledLinearBetas",
    "Schedule",
    "Table",
    "levels_of",
]
