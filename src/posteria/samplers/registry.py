"""The samplers by name, and from their `repr`."""

from typing import Any

from ..core.errors import InputError
from ..core.settings import rebuild
from ..diffusion import betas, parametrisation, schedule, solver
from ..guidance import RULES
from ..guidance.likelihood.strength import Bayes, Decreasing, Even, Faded, Fixed, Increasing
from .base import Sampler
from .fitted.dcps import DCPS
from .fitted.gaussian_vi import InnerSteps
from .fitted.mgdm import MGDM, Deterministic, Midpoint, Mix, Uniform
from .fitted.mgps import MGPS
from .guided import Guided
from .particles.exact import Exact
from .particles.fk import FK, Difference, Max, Sum
from .particles.fps import FPS
from .particles.mcgdiff import MCGDiff
from .particles.tds import TDS
from .particles.tempered.sampler import Tempered
from .posterior import PosteriorSampler
from .projection.ddnm import DDNM
from .projection.ddrm import DDRM
from .projection.msdm import MSDM
from .projection.repaint import RePaint
from .projection.resample import ReSample
from .projection.reverse import ReverseDiffusion
from .projection.score_sde import ScoreSDE
from .projection.sda import SDA
from .ruled import DPS, LGD, MMPS, TMPD, PiGDM
from .splitting.daps import DAPS
from .splitting.diffpir import DiffPIR
from .splitting.langevin import Langevin
from .splitting.pnp_dm import PnPDM
from .splitting.red_diff import REDDiff
from .tfg import TFG
from .tilted.cfgig import CFGiG
from .tilted.tilted_gibbs import TiltedGibbs
from .unconditional import Unconditional

POSTERIOR_SAMPLERS: dict[str, type[PosteriorSampler[Any]]] = {
    "mgps": MGPS,
    "mgdm": MGDM,
    "exact": Exact,
    "tempered": Tempered,
    "mmps": MMPS,
    "pigdm": PiGDM,
    "tmpd": TMPD,
    "lgd": LGD,
    "dps": DPS,
    "sda": SDA,
    "daps": DAPS,
    "pnp_dm": PnPDM,
    "diffpir": DiffPIR,
    "dcps": DCPS,
    "red_diff": REDDiff,
    "ddrm": DDRM,
    "ddnm": DDNM,
    "repaint": RePaint,
    "resample": ReSample,
    "reverse": ReverseDiffusion,
    "score_sde": ScoreSDE,
    "msdm": MSDM,
    "tds": TDS,
    "mcgdiff": MCGDiff,
    "fps": FPS,
    "tfg": TFG,
    "fk": FK,
}

TILTED_SAMPLERS: dict[str, type[Sampler[Any]]] = {
    "guided": Guided,
    "cfgig": CFGiG,
    "tilted": TiltedGibbs,
}

SAMPLERS: dict[str, type[Sampler[Any]]] = {**POSTERIOR_SAMPLERS, **TILTED_SAMPLERS}

# What samplers were called in the records of earlier versions.
RENAMED: dict[str, type[Sampler[Any]]] = {"TwistedSMC": Exact, "FKSteering": FK}

# What the `repr` of a sampler may be made of.
PARTS: tuple[type, ...] = (
    *(schedule.Karras, schedule.LogLinear, schedule.Flow, schedule.VP, schedule.Table),
    *(
        betas.LinearBetas,
        betas.ScaledLinearBetas,
        betas.CosineBetas,
        betas.KarrasBetas,
        betas.GivenBetas,
    ),
    *solver.SOLVERS.values(),
    *(InnerSteps, Langevin, Deterministic, Midpoint, Mix, Uniform, Unconditional),
    *(parametrisation.Epsilon, parametrisation.Velocity, parametrisation.X0),
    *(parametrisation.FlowMatching, parametrisation.EDM),
    *(Even, Increasing, Decreasing, Fixed, Faded, Bayes, Difference, Max, Sum),
    *RULES.values(),
)


def rebuild_part(text: str) -> Any:
    """A number, a tuple, or a part of a sampler such as `Midpoint(alpha=0.5)`, from its `repr`.

    Raises:
        InputError: If it is none.
    """
    return rebuild(text, {kind.__name__: kind for kind in PARTS})


def rebuild_sampler(text: str, *more: type) -> Sampler[Any]:
    """The sampler that a `repr` describes; runs no code from the text.

    Args:
        text: The `repr`.
        more: Classes beyond the package's own that it may name.

    Raises:
        InputError: If it describes none.
    """
    kinds = {kind.__name__: kind for kind in (*PARTS, *SAMPLERS.values(), *more)}
    sampler = rebuild(text, RENAMED | kinds)
    if not isinstance(sampler, Sampler):
        raise InputError(f"{text[:60]!r} describes no sampler.")
    return sampler
