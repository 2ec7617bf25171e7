"""Rules of a posterior: estimates of E[x_0 | x, y] for any solver."""

from .dps import DPS
from .lgd import LGD
from .mmps import MMPS
from .pigdm import PiGDM
from .tfg import TFG
from .tmpd import TMPD

__all__ = ["DPS", "LGD", "MMPS", "TFG", "TMPD", "PiGDM"]
