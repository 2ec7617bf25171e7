"""What the tests of theory share."""

import math

import torch
from torch import Tensor

from affine import Affine, Problem
from helpers import F64


def small_problem() -> Problem:
    covariance = torch.tensor([[1.0, 0.6, 0.1], [0.6, 1.5, -0.4], [0.1, -0.4, 0.7]], dtype=F64)
    a = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]], dtype=F64)
    mean = torch.tensor([0.5, -1.0, 0.3], dtype=F64)
    return Problem(mean, covariance, a, torch.tensor([1.5, -2.0], dtype=F64), 0.5)


def assert_same_law(x: Tensor, law: Affine, slack: float) -> None:
    """Mean and covariance within Monte Carlo error plus `slack` standard deviations."""
    std, n = law.covariance.diagonal().sqrt(), len(x)
    assert ((x.mean(0) - law.offset) / std).abs().max() < 4 / math.sqrt(n) + slack
    assert ((x.T.cov() - law.covariance) / torch.outer(std, std)).abs().max() < 6 / math.sqrt(
        n
    ) + slack
