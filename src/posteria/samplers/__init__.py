"""Samplers."""

from .base import Sampler
from .budget import at_budget, cost
from .choose import Choice, choose
from .fitted.dcps import DCPS
from .fitted.gaussian_vi import InnerSteps
from .fitted.mgdm import MGDM, Deterministic, IndexLaw, Midpoint, Mix, Uniform
from .fitted.mgps import MGPS
from .guided import Guided, TiltedSampler
from .particles.exact import Exact
from .particles.fk import FK, rewarded
from .particles.fps import FPS
from .particles.mcgdiff import MCGDiff
from .particles.tds import TDS
from .posterior import PosteriorSampler
from .projection.ddnm import DDNM
from .projection.ddrm import DDRM
from .projection.repaint import RePaint
from .projection.score_sde import ScoreSDE
from .projection.sda import SDA
from .registry import (
    POSTERIOR_SAMPLERS,
    SAMPLERS,
    TILTED_SAMPLERS,
    rebuild_part,
    rebuild_sampler,
)
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

__all__ = [
    "DAPS",
    "DCPS",
    "DDNM",
    "DDRM",
    "DPS",
    "FK",
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
    "Exact",
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
    "Unconditional",
    "Uniform",
    "at_budget",
    "choose",
    "cost",
    "rebuild_part",
    "rebuild_sampler",
    "rewarded",
]
