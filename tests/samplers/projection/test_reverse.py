"""A reverse run from the measurement draws the exact posterior of a signal in noise."""

import pytest
import torch

import posteria as po
from helpers import normal
from posteria.diffusion.betas import ScaledLinearBetas
from posteria.diffusion.parametrisation import Epsilon

N = 4000
SAMPLER = po.samplers.ReverseDiffusion().with_steps(64)


def noisy(prior: po.Denoiser, y: torch.Tensor, std: float) -> po.Posterior:
    operator = po.operators.Identity(prior.space.shape)
    return po.Posterior(prior, po.GaussianLikelihood(operator, std=std), y)


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("std", [0.02, 0.5, 30.0])
def test_gaussian(std: float) -> None:
    """The mean and the covariance of a Gaussian posterior, whose axes are wider and narrower than the noise.

    Catches: a run from another level than that of the noise, one from an estimate in place of y, a flow without
    noise, which has no spread.
    """
    widths = torch.tensor([0.05, 0.3, 2.0, 10.0], dtype=torch.float64)
    turn = torch.linalg.qr(normal(4, 4, seed=1))[0]
    covariance = turn * widths**2 @ turn.mT
    mean, y = normal(4, seed=2), normal(4, seed=3)
    prior = po.analytic.Gaussian(mean, covariance)
    gain = covariance @ torch.linalg.inv(covariance + std**2 * torch.eye(4, dtype=torch.float64))
    exact = covariance - gain @ covariance
    x = SAMPLER.sample(noisy(prior, y, std), seeds=range(100, 100 + N))
    axes = torch.linalg.cholesky(exact)
    white = torch.linalg.solve_triangular(axes, (x - mean - gain @ (y - mean)).mT, upper=False)
    assert float(white.mean(1).abs().max()) < 4 / N**0.5
    spread = torch.linalg.eigvalsh(torch.cov(white))
    assert 0.93 < float(spread.min()) <= float(spread.max()) < 1.09


@pytest.mark.usefixtures("one_stream")
def test_weights_of_modes() -> None:
    """Of two modes at 0 and 1 that y = 0.55 does not tell apart each has its exact weight.

    Catches: a run that goes to the nearest mode, as that of a flow does.
    """
    means = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    weights = torch.tensor([0.7, 0.3], dtype=torch.float64)
    covariances = torch.full((2, 1, 1), 0.05**2, dtype=torch.float64)
    prior = po.analytic.GaussianMixture(weights, means, covariances)
    std, y = 0.8, torch.tensor([0.55], dtype=torch.float64)
    energy = (y - means[:, 0]) ** 2 / (2 * (std**2 + 0.05**2))
    first = float((weights.log() - energy).softmax(0)[0])
    x = SAMPLER.sample(noisy(prior, y, std), seeds=range(100, 100 + N))
    assert (
        abs(float((x < 0.5).double().mean()) - first) < 4 * (first * (1 - first) / N) ** 0.5 + 0.01
    )


def test_at_picture_size() -> None:
    """At 784 dimensions it is as near as exact draws are, in sixteen evaluations.

    Catches: steps of first order, which lose a quarter of the variance (1.04 of the distance).
    """
    problem = po.problems.pictures_exact("denoise", std=0.1, seed=0)
    samples = po.samplers.ReverseDiffusion().sample(problem.target, seeds=range(1000, 1128))
    said = po.metrics.AgainstExact(problem.exact, 128).evaluate(samples)
    assert said["ratio"] < 1.0
    assert 0.92 < said["variance_ratio"] < 1.08


def test_seen_twice_is_seen_with_less_noise() -> None:
    """Two looks at a turned signal, doubled, are one at a level of the noise over 2 root 2.

    Catches: a gain that is left out, or is not squared.
    """
    prior = po.analytic.Gaussian(normal(3, seed=2), torch.eye(3, dtype=torch.float64))
    turn = 2 * torch.linalg.qr(normal(3, 3, seed=1))[0]
    twice = po.operators.Matrix(torch.cat([turn, turn]))
    y = normal(6, seed=4)
    target = po.Posterior(prior, po.GaussianLikelihood(twice, std=0.4), y)
    mean = twice.adjoint(y) / 8
    one = noisy(prior, mean, 0.4 / 8**0.5)
    assert torch.allclose(SAMPLER.sample(target, 5), SAMPLER.sample(one, 5))


def test_what_it_refuses() -> None:
    prior = po.analytic.Gaussian(normal(4, seed=2), torch.eye(4, dtype=torch.float64))
    mask = torch.tensor([True, False, True, True])
    likelihood = po.GaussianLikelihood(po.operators.Inpainting(mask, (4,)), std=0.3)
    with pytest.raises(po.CapabilityError, match="needs the signal itself in white noise"):
        SAMPLER.sample(po.Posterior(prior, likelihood, normal(3, seed=1)), 2)
    # Catches: a decomposition of each operator that is looked at.
    few = po.operators.Matrix(normal(2, 4, seed=5))
    with pytest.raises(po.CapabilityError, match="measures 2 of 4 numbers"):
        SAMPLER.check(po.Posterior(prior, po.GaussianLikelihood(few, std=0.3), normal(2)), [0])
    assert few._svd is None
    several = po.GaussianLikelihood(
        po.operators.Identity((4,)), std=torch.tensor([0.1, 0.1, 0.2, 0.1])
    )
    with pytest.raises(po.CapabilityError, match="one noise level"):
        SAMPLER.sample(po.Posterior(prior, several, normal(4, seed=1)), 2)


def test_advice() -> None:
    prior = po.analytic.Gaussian(normal(4, seed=2), torch.eye(4, dtype=torch.float64))
    choice = po.choose(noisy(prior, normal(4, seed=1), 0.3), budget=60)
    assert choice.sampler == po.samplers.ReverseDiffusion().with_steps(60)


def test_what_a_network_knows_is_compared_with_the_noise_of_the_measurement() -> None:
    # Catches: a warning of the schedule's highest level, which is not visited; noise that it does not know.
    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return x

    prior = po.Network(Net(), po.Space((2,)), Epsilon(ScaledLinearBetas(0.00085, 0.012)))
    SAMPLER.sample(noisy(prior, torch.zeros(2), 0.3), 1)
    with pytest.warns(
        RuntimeWarning, match=r"knows noise up to 14.61, and that of the measurement is 50"
    ):
        SAMPLER.sample(noisy(prior, torch.zeros(2), 50.0), 1)


def test_a_sample_shares_no_noise_with_the_measurement() -> None:
    """Catches: a y that was drawn with PyTorch's generator of the same seed, whose noise a first step adds again."""
    prior = po.analytic.Gaussian(normal(200, seed=2), torch.eye(200, dtype=torch.float64))
    noise = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    x = SAMPLER.sample(noisy(prior, prior.mean + noise, 1.0), seeds=[7])[0]
    # Half of the noise stays in the mean, and half of its variance is that of the sample around it.
    own = (x - prior.mean - noise / 2) * 2**0.5
    assert abs(float((own * noise).mean())) < 4 / 200**0.5
