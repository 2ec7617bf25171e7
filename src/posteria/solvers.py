"""Solvers of the reverse process: one step from a noise level to the next."""

from .core.state import State
from .diffusion.solver import DDIM, DDPM, SOLVERS, DPMpp2M, Heun, Solver

__all__ = ["DDIM", "DDPM", "SOLVERS", "DPMpp2M", "Heun", "Solver", "State"]
