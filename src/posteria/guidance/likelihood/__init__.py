"""Rules of a posterior: estimates of E[x_0 | x, y] for any solver."""

from .dps import DPS as DPS
from .lgd import LGD as LGD
from .mmps import MMPS as MMPS
from .pigdm import PiGDM as PiGDM
from .psld import PSLD as PSLD
from .tfg import TFG as TFG
from .tmpd import TMPD as TMPD
