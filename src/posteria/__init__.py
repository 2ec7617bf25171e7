"""posteria: sample what a pre-trained diffusion model is tilted towards."""

# First, because it sets what PyTorch reads when it is loaded.
from .core import threads as threads

# isort: split
from . import operators
from .analytic import Gaussian, GaussianMixture
from .core.errors import CapabilityError, InputError, PosteriaError, ShapeError
from .core.rng import Rng
from .core.space import Space
from .diffusion.betas import CosineBetas, GivenBetas, LinearBetas, ScaledLinearBetas
from .diffusion.denoiser import Condition, Conditional, Counted, Denoiser, Label
from .diffusion.network import EDM, Clean, Epsilon, FlowMatching, Network, Velocity
from .diffusion.schedule import VP, Flow, Karras, LogLinear, Schedule, Table
from .diffusion.solver import DDIM, DDPM, SOLVERS, DPMpp2M, Heun, Solver, State
from .likelihood import FunctionLikelihood, GaussianLikelihood, Likelihood, PoissonLikelihood
from .priors import load_prior
from .samplers import (
    DPS,
    MGDM,
    MGPS,
    SAMPLERS,
    Deterministic,
    IndexLaw,
    InnerSteps,
    Midpoint,
    Mix,
    Sampler,
    Unconditional,
    Uniform,
    rebuild_sampler,
)
from .target import Posterior
from .version import __version__

__all__ = [
    "DDIM",
    "DDPM",
    "DPS",
    "EDM",
    "MGDM",
    "MGPS",
    "SAMPLERS",
    "SOLVERS",
    "VP",
    "CapabilityError",
    "Clean",
    "Condition",
    "Conditional",
    "CosineBetas",
    "Counted",
    "DPMpp2M",
    "Denoiser",
    "Deterministic",
    "Epsilon",
    "Flow",
    "FlowMatching",
    "FunctionLikelihood",
    "Gaussian",
    "GaussianLikelihood",
    "GaussianMixture",
    "GivenBetas",
    "Heun",
    "IndexLaw",
    "InnerSteps",
    "InputError",
    "Karras",
    "Label",
    "Likelihood",
    "LinearBetas",
    "LogLinear",
    "Midpoint",
    "Mix",
    "Network",
    "PoissonLikelihood",
    "PosteriaError",
    "Posterior",
    "Rng",
    "Sampler",
    "ScaledLinearBetas",
    "Schedule",
    "ShapeError",
    "Solver",
    "Space",
    "State",
    "Table",
    "Unconditional",
    "Uniform",
    "Velocity",
    "__version__",
    "load_prior",
    "operators",
    "rebuild_sampler",
]
