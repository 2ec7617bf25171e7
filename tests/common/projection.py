"""What the tests of projection share."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

import posteria as po
from affine import Affine, Problem
from helpers import F64, normal, random_covariance
from posteria.core.rng import Rng
from posteria.samplers.posterior import PosteriorSampler

TEN = po.Karras(steps=10)


def inpainting(scale: float = 1.0, std: float = 0.5, white: bool = False) -> Problem:
    """Entries 0 and 2 of 4 are seen."""
    covariance = torch.eye(4, dtype=F64) if white else random_covariance(4, 3)
    y = scale * torch.tensor([0.9, -0.7], dtype=F64)
    a = torch.eye(4, dtype=F64)[[0, 2]]
    return Problem(scale * normal(4, seed=4) / 2, scale**2 * covariance, a, y, scale * std)


def masked(p: Problem) -> po.Posterior:
    """The same with an inpainting operator in the place of a matrix."""
    operator = po.operators.Inpainting(p.a.sum(0).bool())
    prior = po.Gaussian(p.mean, p.covariance)
    return po.Posterior(prior, po.GaussianLikelihood(operator, std=p.std), p.y)


def general(std: float = 0.5) -> Problem:
    """A matrix that shares no direction with the prior."""
    return Problem(
        normal(4, seed=1),
        random_covariance(4),
        normal(2, 4, seed=11),
        normal(2, seed=12),
        std,
    )


class Impulses(Rng):
    """Noise of which one entry is 1 in each row, and none in row 0."""

    def __init__(self, rows: int) -> None:
        super().__init__(range(rows))
        self.used = 0
        self._streams.normal_ = self.impulses  # type: ignore[method-assign]

    def impulses(self, out: Tensor) -> Tensor:
        rows = out.zero_().view(len(out), -1)
        for entry in range(rows.shape[1]):
            self.used += 1
            if self.used < len(rows):
                rows[self.used, entry] = 1
        return out


def run(sampler: po.samplers.Sampler[Any], target: po.Posterior, rng: Rng) -> Tensor:
    problem = sampler.narrow(target) if isinstance(sampler, PosteriorSampler) else target
    state = sampler.init(problem, rng)
    for sigma, sigma_next in pairwise(sampler.schedule.levels()):
        state = sampler.step(problem, state, sigma, sigma_next, rng)
    return state.x.flatten(1)


@torch.no_grad()
def law(sampler: po.samplers.Sampler[Any], target: po.Posterior) -> Affine:
    """What a sampler does that is affine in its noise, exactly."""
    silence = Impulses(1)
    run(sampler, target, silence)
    x = run(sampler, target, Impulses(1 + silence.used))
    return Affine(x[0], (x[1:] - x[0]).mT)


def assert_same_law(ours: Affine, theirs: Affine) -> None:
    assert torch.allclose(ours.offset, theirs.offset, rtol=1e-8, atol=1e-10)
    assert torch.allclose(ours.covariance, theirs.covariance, rtol=1e-8, atol=1e-10)


class Directions:
    """The singular directions of a problem, with `y / s` and `std / s`."""

    def __init__(self, p: Problem) -> None:
        u, s, vt = torch.linalg.svd(p.a)
        self.vt, rest = vt, len(vt) - len(s)
        self.value = torch.cat([(u.mT @ p.y) / s, torch.zeros(rest, dtype=F64)])
        self.level = torch.cat([p.std / s, torch.full((rest,), torch.inf, dtype=F64)])

    def scale(self, weights: Tensor) -> Tensor:
        return self.vt.mT @ torch.diag(weights) @ self.vt

    def towards(self, weights: Tensor) -> Tensor:
        return self.vt.mT @ (weights * self.value)


def vp(sigma: float) -> float:
    """The root of abar."""
    return (1 + sigma**2) ** -0.5
