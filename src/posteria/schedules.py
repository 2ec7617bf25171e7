"""Noise levels: schedules, and the noise tables of trained networks."""

from .diffusion.betas import (
    Betas as Betas,
    CosineBetas as CosineBetas,
    GivenBetas as GivenBetas,
    KarrasBetas as KarrasBetas,
    LinearBetas as LinearBetas,
    ScaledLinearBetas as ScaledLinearBetas,
)
from .diffusion.schedule import (
    VP as VP,
    Flow as Flow,
    Karras as Karras,
    LogLinear as LogLinear,
    Schedule as Schedule,
    Table as Table,
    levels_of as levels_of,
)
