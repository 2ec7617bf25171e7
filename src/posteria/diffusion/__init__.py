"""Priors as denoisers, noise schedules, and the moves between noise levels."""

from .denoiser import (
    Condition as Condition,
    Conditional as Conditional,
    Counted as Counted,
    Denoiser as Denoiser,
    Family as Family,
    Label as Label,
)
from .network import Network as Network
from .parametrisation import (
    EDM as EDM,
    X0 as X0,
    Angle as Angle,
    Denoised as Denoised,
    Epsilon as Epsilon,
    FlowMatching as FlowMatching,
    Parametrisation as Parametrisation,
    Score as Score,
    Velocity as Velocity,
)
from .reading import misfits as misfits
from .units import Units as Units
