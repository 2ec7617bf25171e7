"""Solvers of the reverse process: one step from a noise level to the next."""

from .core.state import State as State
from .diffusion.solver import (
    DDIM as DDIM,
    DDPM as DDPM,
    SOLVERS as SOLVERS,
    DPMpp2M as DPMpp2M,
    Heun as Heun,
    Solver as Solver,
)
