"""Priors of pictures and signals of any size: local networks, and the windows in which they are evaluated."""

from .networks import BiasFree as BiasFree, LocalUNet as LocalUNet
from .windows import Windowed as Windowed
