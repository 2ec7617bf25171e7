"""Samplers."""

from .base import Sampler as Sampler
from .budget import at_budget as at_budget, cost as cost
from .choose import Choice as Choice, choose as choose
from .fitted.dcps import DCPS as DCPS
from .fitted.gaussian_vi import InnerSteps as InnerSteps
from .fitted.mgdm import (
    MGDM as MGDM,
    Deterministic as Deterministic,
    IndexLaw as IndexLaw,
    Midpoint as Midpoint,
    Mix as Mix,
    Uniform as Uniform,
)
from .fitted.mgps import MGPS as MGPS
from .guided import Guided as Guided, TiltedSampler as TiltedSampler
from .particles.exact import Exact as Exact
from .particles.fk import FK as FK, rewarded as rewarded
from .particles.fps import FPS as FPS
from .particles.mcgdiff import MCGDiff as MCGDiff
from .particles.tds import TDS as TDS
from .particles.tempered.sampler import Tempered as Tempered
from .posterior import PosteriorSampler as PosteriorSampler
from .projection.ddnm import DDNM as DDNM
from .projection.ddrm import DDRM as DDRM
from .projection.msdm import MSDM as MSDM
from .projection.repaint import RePaint as RePaint
from .projection.resample import ReSample as ReSample
from .projection.reverse import ReverseDiffusion as ReverseDiffusion
from .projection.score_sde import ScoreSDE as ScoreSDE
from .projection.sda import SDA as SDA
from .registry import (
    POSTERIOR_SAMPLERS as POSTERIOR_SAMPLERS,
    SAMPLERS as SAMPLERS,
    TILTED_SAMPLERS as TILTED_SAMPLERS,
    rebuild_part as rebuild_part,
    rebuild_sampler as rebuild_sampler,
)
from .ruled import DPS as DPS, LGD as LGD, MMPS as MMPS, TMPD as TMPD, PiGDM as PiGDM
from .splitting.daps import DAPS as DAPS
from .splitting.diffpir import DiffPIR as DiffPIR
from .splitting.langevin import Langevin as Langevin
from .splitting.pnp_dm import PnPDM as PnPDM
from .splitting.red_diff import REDDiff as REDDiff
from .tfg import TFG as TFG
from .tilted.cfgig import CFGiG as CFGiG
from .tilted.tilted_gibbs import TiltedGibbs as TiltedGibbs
from .unconditional import Unconditional as Unconditional
