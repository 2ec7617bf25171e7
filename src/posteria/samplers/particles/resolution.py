"""What x says of x_0 at a few noise levels, measured on draws of a prior."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.linalg import lanczos
from ...core.rng import Rng
from ...diffusion.denoiser import Denoiser
from ...diffusion.scale import STREAM
from ...likelihood import GaussianLikelihood
from ...operators.base import LinearOperator
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
    """What D misses of draws `[draws, *event]`, and A(D) of their measurements; `curved` takes Jacobians."""
    sigmas, rng = places(levels), Rng(range(len(draws)), target.space.device, stream=STREAM)
    rows = [_at(target, draws, sigma, rng.normal_like(draws), curved) for sigma in sigmas.tolist()]
    signal, gaps, least = zip(*rows, strict=True)
    variance = np.array([signal, [float(gap.var(0).mean()) for gap in gaps]])
    bias = torch.stack([gap.mean(0) for gap in gaps])
    return Resolution(np.log(sigmas), variance, bias, np.array(least))


def _at(
    target: Observed, draws: Tensor, sigma: float, noise: Tensor, curved: bool
) -> tuple[float, Tensor, float]:
    """Mean square of x_0 - D, A(x_0) - A(D), and the least eigenvalue of a Jacobian."""
    likelihood = target.likelihood
    # One population of all draws.
    x0, least = _denoise(target.prior, (draws + sigma * noise)[None], sigma, noise[None], curved)
    if isinstance(likelihood, GaussianLikelihood) and not isinstance(
        likelihood.operator, LinearOperator
    ):
        gap = likelihood.operator(draws) - likelihood.operator(x0[0])
    else:
        gap = torch.zeros_like(draws).flatten(1)[:, :1]
    return float((draws - x0[0]).square().mean()), gap, least


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
