"""What `posteria.NAME` is, and where it is when it is asked for."""

from importlib import import_module
from typing import Any

ROOMS = (
    *("analytic", "certification", "diffusion", "guidance", "interop", "likelihood", "metrics"),
    *("modalities", "operators", "priors", "problems", "runs", "samplers", "schedules", "solvers"),
    "testing",
)
# The flat names, and the module of each; `__init__` repeats them for type checkers.
_FLAT = {
    "analytic": ("Gaussian", "GaussianMixture"),
    "certification": ("Certificate", "certify"),
    "citations": ("cite",),
    "core.errors": ("CapabilityError", "InputError", "PosteriaError", "ShapeError"),
    "core.rng": ("Rng",),
    "core.space": ("Space",),
    "diffusion": ("Denoiser", "Family", "Label", "Network"),
    "guidance": ("APG", "CFG"),
    "likelihood": ("FunctionLikelihood", "GaussianLikelihood", "PoissonLikelihood"),
    "priors": ("load_prior",),
    "samplers": (
        *("DAPS", "DPS", "MGDM", "MGPS", "MMPS", "CFGiG", "Guided", "TiltedGibbs", "Exact"),
        *("Unconditional", "at_budget", "choose"),
    ),
    "schedules": ("Karras",),
    "solvers": ("DDIM", "Heun"),
    "target": ("Posterior", "Tilted"),
}
NAMES = {name: module for module, names in _FLAT.items() for name in names}


def resolve(name: str) -> Any:
    """The room, or the object of that flat name, imported now."""
    if name in ROOMS:
        return import_module(f"posteria.{name}")
    return getattr(import_module(f"posteria.{NAMES[name]}"), name)
