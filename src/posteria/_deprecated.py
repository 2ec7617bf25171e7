"""Names that have moved: the old ones work for one version, with a warning that names the new place."""

import warnings
from importlib import import_module
from typing import Any

_TO_ROOMS = {
    "analytic": "TiltedQuadrature tilted_gaussian",
    "diffusion": "Condition Conditional Counted EDM Epsilon FlowMatching Velocity",
    "guidance": "AdaptiveGuidance AutoGuidance BayesClassifier CFGPlusPlus Classifier ClassifierGuidance "
    "CleanClassifier DynamicCFG EluCD Experts GFCG Interval LinearAG RLG RULES Rescale TwoLevel ZeroStar classified",
    "likelihood": "Likelihood",
    "priors": "load_classifier",
    "samplers": "Choice DCPS DDNM DDRM Deterministic DiffPIR FPS IndexLaw InnerSteps LGD Langevin MCGDiff Midpoint "
    "Mix PiGDM PnPDM REDDiff RePaint SAMPLERS SDA Sampler ScoreSDE TDS TFG TMPD Uniform rebuild_sampler rewarded",
    "schedules": "CosineBetas Flow GivenBetas LinearBetas LogLinear ScaledLinearBetas Schedule Table VP",
    "solvers": "DDPM DPMpp2M SOLVERS Solver State",
}
_FROM_INTEROP = "Embeddings GivenLevels Prompt decode from_diffusers sample_pipeline schedule_of"

# From the old name to the new one, both as they follow `posteria.`: flat names of 0.1.0's first
# builds, and whatever has been renamed since, such as "samplers.Old": "samplers.New".
MOVED: dict[str, str] = {
    **{name: f"{room}.{name}" for room, names in _TO_ROOMS.items() for name in names.split()},
    "Guidance": "guidance.TiltedRule",
    "guidance.Guidance": "guidance.TiltedRule",
    "guidance.Look": "guidance.Estimate",
    "guidance.Moment": "guidance.StepInfo",
    **{f"interop.{name}": f"priors.{name}" for name in _FROM_INTEROP.split()},
    "Clean": "diffusion.X0",
    "TwistedSMC": "samplers.Exact",
    "FKSteering": "samplers.FK",
}


def moved(module: str, name: str) -> Any:
    """What `name` of `module` is called now; for a module's `__getattr__`.

    Raises:
        AttributeError: If there never was such a name.
    """
    package, _, room = module.partition(".")
    old = f"{room}.{name}".removeprefix(".")
    if old not in MOVED:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    home, _, new = f"{package}.{MOVED[old]}".rpartition(".")
    warnings.warn(
        f"{package}.{old} is now {home}.{new}; the old name goes with the next version.",
        DeprecationWarning,
        stacklevel=3,
    )
    return getattr(import_module(home), new)
