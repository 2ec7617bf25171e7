"""PiGDM."""

import math
from dataclasses import replace

import torch

import posteria as po
from helpers import F64, gaussian, linear_posterior, normal
from posteria.samplers.ruled import PiGDM


def test_the_published_update_of_pigdm() -> None:
    # In the paper's units: x_vp, abar, r^2 = 1 - abar, and the gradient in x_vp weighted by
    # r^2 sqrt(abar abar_next). Catches: a factor of sqrt(abar) lost on the way to x = x_vp / sqrt(abar).
    target, sigma, after = linear_posterior(gaussian()), 0.8, 0.5
    likelihood = target.likelihood
    assert isinstance(likelihood, po.GaussianLikelihood)
    assert isinstance(likelihood.operator, po.operators.Matrix)
    a, std = likelihood.operator.matrix(), 0.5
    abar, abar_next = 1 / (1 + sigma**2), 1 / (1 + after**2)
    sampler = PiGDM(prior_std=1.0, eta=0.0, order=1, strength=1.0)
    target, _ = sampler.arrange(target, [0, 1])
    state = sampler.init(target, po.Rng([0, 1]))
    x_vp = normal(2, 4, seed=3)
    state = replace(state, x=x_vp / math.sqrt(abar))
    got = sampler.step(target, state, sigma, after, po.Rng([0, 1])).x * math.sqrt(abar_next)

    z = x_vp.clone().requires_grad_()
    x0 = target.prior(z / math.sqrt(abar), sigma)
    noise = (z - math.sqrt(abar) * x0) / math.sqrt(1 - abar)
    r2 = 1 - abar
    inverse = (a @ a.mT + std**2 / r2 * torch.eye(2, dtype=F64)).inverse()
    residual = target.y - x0 @ a.mT
    (gradient,) = torch.autograd.grad(-((residual @ inverse) * residual).sum() / 2, z)
    plain = math.sqrt(abar_next) * x0 + math.sqrt(1 - abar_next) * noise
    assert torch.allclose(got, plain + math.sqrt(abar * abar_next) * gradient, atol=1e-10)
