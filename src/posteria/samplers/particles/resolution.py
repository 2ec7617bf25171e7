"""What x says of x_0 at a few noise levels, measured on draws of a prior."""

import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.linalg import lanczos
from ...core.rng import Rng
from ...diffusion.denoiser import Denoiser
from ...diffusion.scale import STREAM, once
from ...likelihood import GaussianLikelihood
from ...operators.base import LinearOperator, Operator
from ...target import Observed

# Levels at which it is measured, and products with each Jacobian that estimate its least eigenvalue.
PLACES, PROBES = 16, 3


class Resolution(NamedTuple):
    """What was measured of a prior at a few levels.

    Attributes:
        log_sigma: The levels, downwards.
        variance: Of an entry of x_0 given x, and of A(x_0) - A(D), `[2, places]`.
        bias: Mean of A(x_0) - A(D), `[places, *measurement]`.
        least: The least variance of x_0 given x over sigma^2, in any direction that was seen and at any draw, 1
            where x pins x_0; 0 where no Jacobian was taken.
    """

    log_sigma: np.ndarray
    variance: np.ndarray
    bias: Tensor
    least: np.ndarray

    def at(self, levels: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Variances and biases at other levels: straight lines in the logs of level and variance."""
        device, count = self.bias.device, len(self.log_sigma)
        place = np.interp(-np.log(levels), -self.log_sigma, np.arange(count))
        # Never 0, so that logs exist.
        logs = np.log(np.maximum(self.variance, 1e-30))
        variance = np.exp([np.interp(place, np.arange(count), row) for row in logs])
        low = torch.tensor(place, device=device).floor().long()
        high = (low + 1).clamp(max=count - 1)
        share = (torch.tensor(place, device=device) - low).to(self.bias)
        share = share.reshape(-1, *(1,) * (self.bias.ndim - 1))
        bias = self.bias[low].lerp(self.bias[high], share)
        return torch.tensor(variance, device=device), bias

    def pinned(self, share: float) -> float | None:
        """The highest level from which on downwards `least` is at least `share`, if there is one."""
        enough = np.logical_and.accumulate((self.least >= share)[::-1])
        return float(np.exp(self.log_sigma[::-1][enough][-1])) if enough.any() else None


def places(levels: Sequence[float]) -> np.ndarray:
    """The levels at which it is measured, between the ends of `levels` at equal ratios."""
    return np.geomspace(levels[0], levels[-1], min(PLACES, len(levels)))


def measure(target: Observed, draws: Tensor, levels: Sequence[float], curved: bool) -> Resolution:
    """What D misses of draws `[draws, *event]`, and A(D) of their measurements, `once`; `curved` takes Jacobians."""
    sigmas, operator = places(levels), nonlinear(target)
    name = tuple(sigmas.tolist()), curved, None if operator is None else weakref.ref(operator)
    return once(
        target.prior, name, lambda: _measure(target.prior, draws, sigmas, curved, operator)
    )


def _measure(
    prior: Denoiser, draws: Tensor, sigmas: np.ndarray, curved: bool, operator: Operator | None
) -> Resolution:
    rng = Rng(range(len(draws)), draws.device, stream=STREAM)
    signal, gaps, least = [], [], []
    for sigma in sigmas.tolist():
        noise = rng.normal_like(draws)
        # One population of all draws.
        seen = (draws + sigma * noise)[None]
        (x0,), smallest = _denoise(prior, seen, sigma, noise[None], curved)
        signal.append(float((draws - x0).square().mean()))
        # A linear A misses nothing in the mean.
        none = draws.new_zeros(len(draws), 1)
        gaps.append(none if operator is None else operator(draws) - operator(x0))
        least.append(smallest)
    variance = np.array([signal, [float(gap.var(0).mean()) for gap in gaps]])
    bias = torch.stack([gap.mean(0) for gap in gaps])
    return Resolution(np.log(sigmas), variance, bias, np.array(least))


def nonlinear(target: Observed) -> Operator | None:
    """The operator, if it is none that is linear and has Gaussian noise."""
    likelihood = target.likelihood
    if not isinstance(likelihood, GaussianLikelihood):
        return None
    return None if isinstance(likelihood.operator, LinearOperator) else likelihood.operator


def _denoise(
    prior: Denoiser, x: Tensor, sigma: float, probe: Tensor, curved: bool
) -> tuple[Tensor, float]:
    if not curved:
        return prior(x, sigma), 0.0
    x0, jacobian = prior.vjp(x, sigma)
    basis, matrix = lanczos(jacobian, probe, prior.space, iterations=PROBES)
    # The span may end early; what is left of it counts as 1.
    ended = torch.diag_embed(1 - basis.square().sum(-1))
    return x0, float(torch.linalg.eigvalsh(matrix + ended).min())
