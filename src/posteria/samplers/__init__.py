"""Samplers."""

from .base import Sampler
from .cfgig import CFGiG
from .choose import Choice, at_budget, choose, cost
from .daps import DAPS
from .dcps import DCPS
from .ddnm import DDNM
from .ddrm import DDRM
from .diffpir import DiffPIR
from .dps import DPS
from .fk_steering import FKSteering, rewarded
from .fps import FPS
from .gaussian_vi import InnerSteps
from .guided import Guided, TiltedSampler
from .langevin import Langevin
from .lgd import LGD
from .mcgdiff import MCGDiff
from .mgdm import MGDM, Deterministic, IndexLaw, Midpoint, Mix, Uniform
from .mgps import MGPS
from .mmps import MMPS
from .pigdm import PiGDM
from .pnp_dm import PnPDM
from .posterior import PosteriorSampler
from .red_diff import REDDiff
from .registry import (
    POSTERIOR_SAMPLERS,
    SAMPLERS,
    TILTED_SAMPLERS,
    rebuild_part,
    rebuild_sampler,
)
from .repaint import RePaint
from .score_sde import ScoreSDE
from .sda import SDA
from .tds import TDS
from .tfg import TFG
from .tilted_gibbs import TiltedGibbs
from .tmpd import TMPD
from .twisted import TwistedSMC
from .unconditional import Unconditional

__all__ = [
    "DAPS",
    "DCPS",
    "DDNM",
    "DDRM",
    "DPS",
    "FPS",
    "LGD",
    "MGDM",
    "MGPS",
    "MMPS",
    "POSTERIOR_SAMPLERS",
    "SAMPLERS",
    "SDA",
    "TDS",
    "TFG",
    "TILTED_SAMPLERS",
    "TMPD",
    "CFGiG",
    "Choice",
    "Deterministic",
    "DiffPIR",
    "FKSteering",
    "Guided",
    "IndexLaw",
    "InnerSteps",
    "Langevin",
    "MCGDiff",
    "Midpoint",
    "Mix",
    "PiGDM",
    "PnPDM",
    "PosteriorSampler",
    "REDDiff",
    "RePaint",
    "Sampler",
    "ScoreSDE",
    "TiltedGibbs",
    "TiltedSampler",
    "TwistedSMC",
    "Unconditional",
    "Uniform",
    "at_budget",
    "choose",
    "cost",
    "rebuild_part",
    "rebuild_sampler",
    "rewarded",
]
