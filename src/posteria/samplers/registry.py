"""The samplers by name, and from their `repr`."""

from typing import Any

from ..core.rebuild import rebuild
from ..diffusion import betas, network, schedule, solver
from ..guidance import RULES
from .base import Sampler
from .cfgig import CFGiG
from .daps import DAPS
from .dcps import DCPS
from .ddnm import DDNM
from .ddrm import DDRM
from .diffpir import DiffPIR
from .dps import DPS
from .fk_steering import Difference, FKSteering, Max, Sum
from .fps import FPS
from .gaussian_vi import InnerSteps
from .guided import Guided, TiltedSampler
from .langevin import Langevin
from .lgd import LGD
from .mcgdiff import MCGDiff
from .mgdm import MGDM, Deterministic, Midpoint, Mix, Uniform
from .mgps import MGPS
from .mmps import MMPS
from .pigdm import PiGDM
from .pnp_dm import PnPDM
from .posterior import PosteriorSampler
from .red_diff import REDDiff
from .repaint import RePaint
from .score_sde import ScoreSDE
from .sda import SDA
from .tds import TDS
from .tfg import TFG, Bayes, Decreasing, Even, Faded, Fixed, Increasing
from .tilted_gibbs import TiltedGibbs
from .tmpd import TMPD
from .twisted import TwistedSMC
from .unconditional import Unconditional

POSTERIOR_SAMPLERS: dict[str, type[PosteriorSampler[Any]]] = {
    "mgps": MGPS,
    "mgdm": MGDM,
    "exact": TwistedSMC,
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
    "score_sde": ScoreSDE,
    "tds": TDS,
    "mcgdiff": MCGDiff,
    "fps": FPS,
    "tfg": TFG,
    "fk": FKSteering,
}

TILTED_SAMPLERS: dict[str, type[TiltedSampler[Any]]] = {
    "guided": Guided,
    "cfgig": CFGiG,
    "tilted": TiltedGibbs,
}

SAMPLERS: dict[str, type[Sampler[Any]]] = {**POSTERIOR_SAMPLERS, **TILTED_SAMPLERS}

# What the `repr` of a sampler may be made of.
PARTS: tuple[type, ...] = (
    *(schedule.Karras, schedule.LogLinear, schedule.Flow, schedule.VP, schedule.Table),
    *(betas.LinearBetas, betas.ScaledLinearBetas, betas.CosineBetas, betas.GivenBetas),
    *solver.SOLVERS.values(),
    *(InnerSteps, Langevin, Deterministic, Midpoint, Mix, Uniform, Unconditional),
    *(network.Epsilon, network.Velocity, network.Clean, network.FlowMatching, network.EDM),
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
    sampler: Sampler[Any] = rebuild(text, kinds)
    return sampler
