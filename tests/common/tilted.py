"""Problems of tilted laws, and their integrals."""

import torch

from posteria.analytic.tilted import TiltedQuadrature
from posteria.problems.tilted import (
    TiltedProblem,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quadrature(problem: TiltedProblem) -> TiltedQuadrature:
    assert isinstance(problem.exact, TiltedQuadrature)
    return problem.exact
