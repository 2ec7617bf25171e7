"""Solvers of the reverse process: one step from a noise level to the next."""

from .diffusion.solver import DDIM, DDPM, SOLVERS, DPMpp2M, Heun, Solver, State

__all__ = ["DDIM", "DDPM", "SOLVERS", "DPMpp2M", "Heun", "Solver", "State"]
