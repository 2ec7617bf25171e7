"""What the tests of sampler share."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

import posteria as po
from helpers import normal
from posteria.samplers.particles.fk import Difference
from posteria.samplers.splitting.langevin import Langevin
from posteria.testing import example_posterior

TEN = po.schedules.Table(steps=10)
KARRAS = po.Karras(steps=10)
FEW = po.schedules.LogLinear(steps=8, sigma_min=0.05, sigma_max=20.0)
SHORT = po.schedules.LogLinear(steps=10, sigma_min=0.05, sigma_max=20.0)
WIDE = po.Karras(steps=8, sigma_min=0.05, sigma_max=50.0)
LANGEVIN = Langevin(steps=4)
# Settings that say more than a sampler's own with few steps.
TOLD: dict[str, po.samplers.Sampler[Any]] = {
    "mgps": po.MGPS(schedule=po.schedules.Table(steps=12)),
    "mgps warm": po.MGPS(schedule=po.schedules.Table(steps=12), warm=0.7, full_below=0.3),
    "mgdm": po.MGDM(schedule=po.schedules.Table(steps=12), points=5, gibbs=2),
    "mgdm midpoint": po.MGDM(schedule=po.Karras(steps=8), points=5, index=po.samplers.Midpoint()),
    "exact": po.samplers.SAMPLERS["exact"](schedule=WIDE, particles=16),
    "exact spread": po.samplers.SAMPLERS["exact"](schedule=WIDE, particles=16, dense=0),
    "tempered": po.samplers.SAMPLERS["tempered"](
        schedule=po.Karras(steps=6), particles=16, points=3
    ),
    "mmps": po.samplers.SAMPLERS["mmps"](schedule=TEN),
    "mmps gmres": po.samplers.SAMPLERS["mmps"](schedule=TEN, solver="gmres"),
    "pigdm": po.samplers.SAMPLERS["pigdm"](schedule=TEN),
    "tmpd": po.samplers.SAMPLERS["tmpd"](schedule=TEN),
    "lgd": po.samplers.SAMPLERS["lgd"](schedule=TEN, points=8),
    "dps": po.DPS(schedule=po.schedules.Table(steps=12)),
    "sda": po.samplers.SAMPLERS["sda"](schedule=KARRAS),
    "daps": po.samplers.SAMPLERS["daps"](schedule=FEW),
    "daps langevin": po.samplers.SAMPLERS["daps"](schedule=FEW, exact=False, langevin=LANGEVIN),
    "pnp_dm": po.samplers.SAMPLERS["pnp_dm"](schedule=FEW, ladder=po.Karras(steps=6), last=2),
    "pnp_dm langevin": po.samplers.SAMPLERS["pnp_dm"](
        schedule=FEW, exact=False, ladder=po.Karras(steps=6), last=2, langevin=LANGEVIN
    ),
    "diffpir": po.samplers.SAMPLERS["diffpir"](schedule=KARRAS),
    "dcps": po.samplers.SAMPLERS["dcps"](schedule=TEN, inner=3),
    "red_diff": po.samplers.SAMPLERS["red_diff"](schedule=FEW),
    "ddrm": po.samplers.SAMPLERS["ddrm"](schedule=KARRAS),
    "ddnm": po.samplers.SAMPLERS["ddnm"](schedule=KARRAS, travel=2),
    "repaint": po.samplers.SAMPLERS["repaint"](schedule=KARRAS, jump=3, repeats=2),
    "resample": po.samplers.ReSample(schedule=KARRAS, every=2, inner=5),
    "score_sde": po.samplers.SAMPLERS["score_sde"](schedule=KARRAS, corrections=1),
    "msdm": po.samplers.SAMPLERS["msdm"](schedule=KARRAS),
    "msdm gaussian": po.samplers.SAMPLERS["msdm"](schedule=KARRAS, gamma=3.0),
    "tds": po.samplers.SAMPLERS["tds"](schedule=SHORT, particles=16),
    "mcgdiff": po.samplers.SAMPLERS["mcgdiff"](schedule=SHORT, particles=16),
    "fps": po.samplers.SAMPLERS["fps"](schedule=SHORT, particles=16),
    "tfg": po.samplers.TFG(schedule=TEN),
    "fk": po.samplers.FK(schedule=SHORT, particles=16, potential=Difference(), threshold=1.0),
}


def few(kind: type[po.samplers.Sampler[Any]]) -> po.samplers.Sampler[Any]:
    """A sampler with its own settings, but few steps and particles."""
    sampler: Any = kind().with_steps(10)
    return replace(sampler, particles=16) if sampler.shared > 1 else sampler


SMALL = {name: few(kind) for name, kind in po.samplers.POSTERIOR_SAMPLERS.items()} | TOLD

# The same with few optimiser steps in a fit, for what more of them would only say again.
QUICK = {
    name: replace(sampler, inner=po.samplers.InnerSteps(2))
    if isinstance(getattr(sampler, "inner", None), po.samplers.InnerSteps)
    else sampler
    for name, sampler in SMALL.items()
}


def others(samplers: Mapping[str, po.samplers.Sampler[Any]]) -> list[str]:
    """Those that are not in `SMALL`, all of which `test_sampler.py` puts through the battery."""
    return [name for name, sampler in samplers.items() if sampler not in SMALL.values()]


def noisy() -> po.Posterior:
    """The example's prior seen through noise alone, for a method that takes nothing else."""
    likelihood = po.GaussianLikelihood(po.operators.Identity((2, 3)), std=0.3)
    return po.Posterior(example_posterior().prior, likelihood, normal(2, 3, seed=2))


def inpainting() -> po.Posterior:
    """The example with half of the entries seen, for a method that fills holes only."""
    linear = example_posterior()
    mask = torch.tensor([True, False, True, True, False, False]).reshape(2, 3)
    likelihood = po.GaussianLikelihood(po.operators.Inpainting(mask, (2, 3)), std=0.3)
    return po.Posterior(linear.prior, likelihood, normal(3, seed=2))


TARGETS = {
    "linear": example_posterior(),
    "nonlinear": example_posterior("nonlinear"),
    "holes": inpainting(),
    "noise": noisy(),
}


def suiting(name: str) -> str:
    """The first kind of target that a sampler takes."""
    return next(kind for kind, target in TARGETS.items() if takes(name, target))


def takes(name: str, target: po.Posterior) -> bool:
    # The others are asked for more by the others.
    if target is TARGETS["noise"] and name != "reverse":
        return False
    try:
        SMALL[name].check(target, [0])
    except po.CapabilityError:
        return False
    return True
