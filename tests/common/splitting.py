"""What the tests of splitting share."""

import torch

import posteria as po
from affine import Affine
from helpers import F64


def independent(s: float, std: float) -> tuple[po.Posterior, po.Gaussian]:
    """A prior N(0, s^2 I) of which every other entry is measured, and its posterior."""
    prior = po.Gaussian(torch.zeros(4, dtype=F64), s**2 * torch.eye(4, dtype=F64))
    operator = po.operators.Inpainting(torch.tensor([True, False, True, False]))
    y = torch.tensor([1.5 * s, -0.5 * s], dtype=F64)
    target = po.Posterior(prior, po.GaussianLikelihood(operator, std=std), y)
    return target, prior.posterior(target.likelihood, y)


def as_affine(law: po.Gaussian) -> Affine:
    return Affine(law.mean, torch.linalg.cholesky(law.covariance))
