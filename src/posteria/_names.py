"""What `posteria.NAME` is, and where it is when it is asked for."""

from collections.abc import Callable, Mapping
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


def later(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__` that imports what is asked for, from its module; `homes`: names by module."""
    modules = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name], package), name)

    return get
