"""Where a sampler stands between two steps: all that a run needs to go on."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a sampler stands.

    Args:
        x: The iterate at the current level, `[len(seeds), *event]`.
        x0: The last estimate of the clean signal.
        sigma: The level at which `x0` was made; infinite before the first step.
        count: Steps made so far.
    """

    x: Tensor
    x0: Tensor
    sigma: float = math.inf
    count: int = 0
