"""Posteriors of pictures that are known exactly: digits drawn from a mixture that was fitted to MNIST."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch

from ..analytic import PPCAMixture
from ..core.errors import expect, unknown
from ..likelihood import GaussianLikelihood
from ..operators import (
    CircularBlur,
    Identity,
    Inpainting,
    LinearOperator,
    SuperResolution,
    gaussian_kernel,
)
from ..operators.masks import box_mask, half_mask, random_mask
from ..priors import load_prior
from ..target import Posterior
from .toy import Problem

Shape = Sequence[int]


def _random(shape: Shape, share: float, seed: int) -> LinearOperator:
    return Inpainting(random_mask(shape[-2], shape[-1], share, seed), shape)


# By name: shape and seed to an operator. Numbers of measured entries are those of 28 x 28 pixels.
PICTURES: dict[str, Callable[[Shape, int], LinearOperator]] = {
    # 495, around a missing box.
    "box": lambda shape, _: Inpainting(box_mask(shape[-2], shape[-1]), shape),
    # 392, the left half.
    "half": lambda shape, _: Inpainting(half_mask(shape[-2], shape[-1]), shape),
    # 39 and 235 pixels, others for each seed.
    "random5": lambda shape, seed: _random(shape, 0.05, seed),
    "random30": lambda shape, seed: _random(shape, 0.3, seed),
    # 196 and 49 averages of blocks.
    "sr2": lambda shape, _: SuperResolution(2, shape),
    "sr4": lambda shape, _: SuperResolution(4, shape),
    # 784, with singular values from 1 down to 1e-5.
    "blur": lambda shape, _: CircularBlur(gaussian_kernel(7, 1.5), shape),
    # 784.
    "denoise": lambda shape, _: Identity(shape),
}
# Noise levels, for values in [-1, 1].
NOISE = (0.05, 0.1, 0.3)


@lru_cache
def digits(dtype: torch.dtype) -> PPCAMixture:
    """The mixture of digits that ships."""
    return expect(load_prior("digits-mixture", dtype=dtype), PPCAMixture, by="A problem of digits")


@lru_cache
def tiny(dtype: torch.dtype = torch.float32) -> PPCAMixture:
    """A mixture of 5 components in 8 x 8 pixels, for tests: smooth axes of rank 4, and grain of variance 0.02."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(5, 5, 8, 8, dtype=torch.float64, generator=generator)
    smooth = CircularBlur(gaussian_kernel(5, 1.2), (1, 8, 8)).apply(noise[:, :, None])
    factors = torch.linalg.qr(smooth[:, :4].reshape(5, 4, 64).mT).Q
    return PPCAMixture(
        weights=torch.tensor([0.3, 0.25, 0.2, 0.15, 0.1], dtype=dtype),
        means=(1.5 * smooth[:, 4] / smooth[:, 4].std()).to(dtype),
        factors=factors.to(dtype),
        variances=torch.tensor([2.0, 1.0, 0.5, 0.25], dtype=dtype).expand(5, 4),
        noise=torch.full((5,), 0.02, dtype=dtype),
    )


def pictures_exact(
    task: str,
    std: float = 0.1,
    *,
    seed: int,
    dtype: torch.dtype = torch.float32,
    prior: PPCAMixture | None = None,
) -> Problem:
    """A digit of 28 x 28 pixels that was measured by one of `PICTURES`, and its posterior.

    `posteria.metrics.AgainstExact(problem.exact, n)` says how far samples are from it. `seed` draws the
    truth, the noise, and a random mask; `prior` may be another law than the mixture of digits, such as
    `tiny()`, whose dtype then counts.

    Raises:
        InputError: If there is no such task.
    """
    if task not in PICTURES:
        raise unknown("task", task, PICTURES)
    law = digits(dtype) if prior is None else prior
    shape, generator = law.space.shape, torch.Generator().manual_seed(seed)
    operator = PICTURES[task](shape, seed)
    truth = law.sample(1, generator)[0]
    noise = torch.randn(operator.codomain.shape, dtype=law.space.dtype, generator=generator)
    likelihood = GaussianLikelihood(operator, std=std)
    target = Posterior(law, likelihood, operator(truth) + std * noise)
    exact = law.posterior(target.likelihood, target.y)
    return Problem(target, exact, truth, float(exact.log_evidence))
