"""What the tests of guidance linear share."""

import math

import torch
from torch import Tensor

import posteria as po
from helpers import F64, mixture
from posteria.diffusion.schedule import levels_of
from posteria.guidance.base import TiltedRule

LABEL = po.Label(0)
FINE = po.Karras(steps=200)
SHORT = po.Karras(steps=10)


def iso(variance: float, *mean: float, d: int = 1) -> po.Gaussian:
    center = torch.tensor(mean or (0.0,) * d, dtype=F64)
    return po.Gaussian(center, variance * torch.eye(len(center), dtype=F64))


def pair(free: po.Denoiser, given: po.Denoiser) -> po.Family:
    return po.Family(free, {0: given})


MIXTURES = pair(mixture(), mixture(seed=5))
OTHERS = pair(mixture(seed=9), mixture(seed=13))


def draw(
    rule: TiltedRule,
    family: po.diffusion.Conditional,
    schedule: po.schedules.Schedule,
    solver: po.solvers.Solver,
    seeds: range = range(4),
    weight: float = 1.0,
) -> Tensor:
    sampler = po.Guided(rule=rule, solver=solver, schedule=schedule)
    return sampler.sample(po.Tilted(family, LABEL, weight), seeds=seeds)


def start(family: po.Denoiser, schedule: po.schedules.Schedule, seeds: range = range(4)) -> Tensor:
    return levels_of(schedule)[0] * po.Rng(seeds).normal(family.space)


def slope(v: float, v_u: float, weight: float, low: float, high: float) -> float:
    """How much the guided flow of two Gaussians shrinks differences from level `high` to `low`."""
    given, free = ((u + low**2) / (u + high**2) for u in (v, v_u))
    return math.sqrt(given**weight * free ** (1 - weight))
