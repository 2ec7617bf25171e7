"""PSLD, which glues latents to what encodes as it decodes."""

from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from helpers import F64, normal, random_covariance
from posteria.guidance import DPS, PSLD, StepInfo
from posteria.priors import Decoder, Latent

LATENTS, SIGNALS = 4, 9
BASIS: Tensor = torch.linalg.qr(normal(SIGNALS, LATENTS, seed=3))[0]


def decode(z: Tensor) -> Tensor:
    """Onto a plane."""
    return z @ BASIS.mT


def encode(x: Tensor) -> Tensor:
    """From it, bent a little, so that its Jacobian is not one matrix."""
    z = x @ BASIS
    return z + 0.1 * z.sin()


def posterior(encoder: Any = encode, std: Any = 0.3) -> po.Posterior:
    prior = po.Gaussian(normal(LATENTS), random_covariance(LATENTS))
    latent = Latent(prior, Decoder(decode, prior.space, (SIGNALS,), encoder))
    operator = po.operators.Matrix(normal(3, SIGNALS, seed=5))
    return po.Posterior(latent, po.GaussianLikelihood(operator, std=std), normal(3, seed=7))


@pytest.mark.parametrize(
    "std", [0.3, torch.tensor([0.1, 0.3, 2.0], dtype=F64)], ids=["one", "several"]
)
def test_without_gluing_it_is_dps(std: Any) -> None:
    # Catches: a residual in other units, noise of each entry that is not looked at, a push at another place.
    schedule = po.Karras(steps=8)
    draws = [
        po.Guided(rule=rule, solver=po.DDIM(1.0), schedule=schedule).sample(posterior(std=std), 5)
        for rule in (PSLD(omega=0.3, gamma=0.0), DPS(zeta=0.3))
    ]
    assert torch.allclose(*draws, rtol=1e-9, atol=1e-9)


def test_the_push_is_the_gradient_of_both_norms() -> None:
    # Catches: a gluing that is held constant in the decoder or the encoder, A^T in place of the projection.
    target = posterior()
    rule, x, sigma, sigma_next = PSLD(omega=0.2, gamma=0.7), normal(6, LATENTS, seed=9), 1.3, 0.8
    info = StepInfo.of((sigma, sigma_next, 0.0), sigma)
    narrowed = rule.arrange(target)
    estimate = rule(narrowed, x, info, rule.init(narrowed, x))
    a: Tensor = narrowed.operator.matrix()
    projection = torch.linalg.pinv(a) @ a

    def distance(x: Tensor) -> Tensor:
        z = target.prior.prior(x, sigma)
        glued = torch.linalg.pinv(a) @ target.y + decode(z) @ (
            torch.eye(SIGNALS, dtype=F64) - projection
        )
        norms = (target.y - decode(z) @ a.mT).norm(dim=1), (z - encode(glued)).norm(dim=1)
        return (0.2 * norms[0] + 0.7 * norms[1]).sum()

    gradient = torch.autograd.functional.jacobian(distance, x)
    factor = ((1 + sigma**2) * (1 + sigma_next**2)) ** 0.5
    assert torch.allclose(estimate.push, -factor * gradient, rtol=1e-6, atol=1e-8)


def test_it_draws_as_near_the_posterior_as_dps() -> None:
    # Catches: gluing that pulls the latents away from the posterior of a decoder whose encoder is its inverse.
    target = posterior(lambda x: x @ BASIS, std=0.5)
    z = target.prior.prior.sample(1, torch.Generator().manual_seed(1))
    y = target.likelihood.operator(z)[0] + 0.5 * normal(3, seed=8)
    target = po.Posterior(target.prior, target.likelihood, y)
    matrix = target.likelihood.operator.outer.matrix() @ BASIS
    likelihood = po.GaussianLikelihood(po.operators.Matrix(matrix), std=0.5)
    exact = target.prior.prior.posterior(likelihood, y)
    rule = PSLD(omega=0.2, gamma=0.1)
    sampler = po.Guided(rule=rule, solver=po.DDIM(1.0), schedule=po.schedules.Table(steps=150))
    x, spread = sampler.sample(target, 300), exact.covariance.diagonal().sqrt()
    # Of 300 steps: .27 standard deviations at most with and without gluing; the spread is .71 to 1.0 with both.
    assert ((x.mean(0) - exact.mean) / spread).abs().max() < 0.5
    assert ((x.std(0) / spread - 1).abs() < 0.35).all()


def test_what_it_lacks_is_said() -> None:
    # Catches: gluing to nothing, in silence.
    with pytest.raises(po.CapabilityError, match="has an encoder; this prior has none"):
        PSLD().check(posterior(None))
    plain = po.Posterior(
        po.Gaussian(normal(4), random_covariance(4)),
        po.GaussianLikelihood(po.operators.Identity((4,)), 1.0),
        normal(4),
    )
    with pytest.raises(po.CapabilityError, match="DPS does without"):
        PSLD().check(plain)
