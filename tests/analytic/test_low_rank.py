"""Mixtures of probabilistic principal component analysers against mixtures with whole covariances, and autograd."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import posteria as po
from helpers import F64, normal
from posteria.analytic import PPCAMixture
from posteria.core import linalg
from posteria.metrics.distribution import sliced_wasserstein, two_sample_floor
from posteria.testing import check_denoiser

SHAPE = (1, 4, 4)


def low_rank(k: int = 4, r: int = 3, shape: Sequence[int] = SHAPE, seed: int = 0) -> PPCAMixture:
    d = math.prod(shape)
    factors = torch.linalg.qr(normal(k, d, r, seed=seed)).Q
    weights, noise = normal(k, seed=seed + 1).exp(), 0.1 * normal(k, seed=seed + 2).exp()
    variances, means = normal(k, r, seed=seed + 3).exp(), normal(k, *shape, seed=seed + 4)
    return PPCAMixture(weights, means, factors, variances, noise, torch.arange(k) // 2)


def whole(law: PPCAMixture) -> po.GaussianMixture:
    covariances = (law.factors * law.variances[:, None]) @ law.factors.mT
    eye = torch.eye(law.space.size, dtype=law.means.dtype)
    return po.GaussianMixture(law.weights, law.means, covariances + law.noise[:, None, None] * eye)


LAW = low_rank()
WHOLE = whole(LAW)
STD = torch.linspace(0.1, 1, 16, dtype=F64).reshape(SHAPE)
KERNEL = po.operators.gaussian_kernel(3, 0.8)
# With a decomposition and without one, with one noise level and several, with more numbers than the signal has.
LIKELIHOODS = {
    "mask": po.GaussianLikelihood(
        po.operators.Inpainting(torch.arange(16).reshape(SHAPE) % 3 > 0, SHAPE), std=0.3
    ),
    "average": po.GaussianLikelihood(po.operators.SuperResolution(2, SHAPE), std=0.1),
    "blur": po.GaussianLikelihood(po.operators.CircularBlur(KERNEL, SHAPE), std=0.2),
    "padded": po.GaussianLikelihood(po.operators.Blur(KERNEL + torch.eye(3) / 9, SHAPE), std=0.2),
    "levels": po.GaussianLikelihood(po.operators.Identity(SHAPE), std=STD),
    "tall": po.GaussianLikelihood(po.operators.Matrix(normal(20, 16), SHAPE), std=0.5),
    "precise": po.GaussianLikelihood(po.operators.Matrix(normal(3, 16), SHAPE), std=1e-3),
}


def test_battery() -> None:
    check_denoiser(LAW)
    check_denoiser(LAW.given(po.Label(1)))


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 2.0, 80.0])
def test_a_mixture_with_whole_covariances_says_the_same(sigma: float) -> None:
    # Catches: a gain, a determinant or the spread between components that is off at one end of the levels.
    x = LAW.sample(6, torch.Generator().manual_seed(1)) + sigma * normal(6, *SHAPE, seed=2)
    v = normal(6, *SHAPE, seed=3)
    (ours, pullback), (theirs, other) = LAW.vjp(x, sigma), WHOLE.vjp(x, sigma)
    assert torch.allclose(ours, theirs, atol=1e-9)
    assert torch.allclose(pullback(v), other(v), atol=1e-7)
    assert torch.allclose(pullback(v), linalg.vjp(lambda z: LAW(z, sigma), x)[1](v), atol=1e-7)
    noised = WHOLE.noised(sigma)
    assert torch.allclose(LAW.log_prob(x, sigma), noised.log_prob(x), rtol=1e-9)
    assert torch.allclose(LAW.noised(sigma).log_prob(x), noised.log_prob(x), rtol=1e-9)
    score = linalg.score(lambda z: LAW.log_prob(z, sigma), x)
    assert torch.allclose(LAW.score(x, sigma), score, rtol=1e-6, atol=1e-8)
    # Tweedie.
    assert torch.allclose(ours, x + sigma**2 * score, atol=1e-8)


def test_a_level_may_differ_from_sample_to_sample() -> None:
    x, levels = normal(3, 2, *SHAPE), torch.tensor([[0.1, 1.0], [2.0, 5.0], [0.3, 0.4]]).double()
    together = LAW(x, levels), LAW.log_prob(x, levels), LAW.vjp(x, levels)[1](x)
    for i in range(3):
        for j in range(2):
            z, sigma = x[i, j], float(levels[i, j])
            apart = LAW(z, sigma), LAW.log_prob(z, sigma), LAW.vjp(z, sigma)[1](z)
            assert all(torch.allclose(a[i, j], b) for a, b in zip(together, apart, strict=True))


@pytest.mark.parametrize("sigma", [2e-3, 0.1, 1.0, 80.0])
def test_single_precision_keeps_up(sigma: float) -> None:
    # Catches: squares and differences that cancel in float32, at the levels where a sampler ends and begins.
    wide = low_rank(20, 8, (1, 16, 16), seed=5)
    parts = (wide.weights, wide.means, wide.factors, wide.variances, wide.noise)
    single = PPCAMixture(*(part.float() for part in parts))
    x = (wide.sample(8, torch.Generator().manual_seed(0)) + sigma * normal(8, 1, 16, 16)).float()
    v = normal(8, 1, 16, 16, seed=4).float()
    (ours, pullback), (exact, other) = single.vjp(x, sigma), wide.vjp(x.double(), sigma)
    assert ours.dtype == torch.float32
    assert torch.allclose(ours.double(), exact, atol=1e-4)
    assert torch.allclose(pullback(v).double(), other(v.double()), atol=1e-3)
    gap = single.log_prob(x, sigma).double() - wide.log_prob(x.double(), sigma)
    assert gap.abs().max() < 0.02


def test_a_sample_does_not_depend_on_its_batch() -> None:
    # Catches: a product whose last bits depend on how many rows there are, or on a row's place.
    wide = low_rank(20, 8, (1, 16, 16), seed=5)
    parts = (wide.weights, wide.means, wide.factors, wide.variances, wide.noise)
    for law in (wide, PPCAMixture(*(part.float() for part in parts))):
        x = normal(37, 1, 16, 16).to(law.means)
        d, pullback = law.vjp(x, 0.4)
        for i in (0, 20, 36):
            alone, pull = law.vjp(x[i : i + 1], 0.4)
            assert torch.equal(alone[0], d[i]) and torch.equal(
                pull(x[i : i + 1])[0], pullback(x)[i]
            )


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_posterior_against_whole_covariances(name: str) -> None:
    # Catches: a wrong sign in Woodbury's identity, a volume left out, axes that are not the posterior's.
    likelihood = LIKELIHOODS[name]
    truth = LAW.sample(1, torch.Generator().manual_seed(4))
    y = likelihood.sample(truth, po.Rng([0]))[0]
    ours, exact = LAW.posterior(likelihood, y), WHOLE.posterior(likelihood, y)
    loose = 1e-5 if name == "precise" else 1e-8
    assert torch.allclose(ours.weights, exact.weights, atol=loose)
    assert torch.allclose(ours.log_evidence, WHOLE.log_evidence(likelihood, y), atol=loose)
    assert torch.allclose(LAW.log_evidence(likelihood, y), ours.log_evidence)
    assert torch.allclose(ours.mean, exact.mean, atol=loose)
    eye = torch.eye(16, dtype=F64)
    assert torch.allclose(ours.covariance_times(eye), exact.covariance, atol=loose)
    assert torch.allclose(ours.std, exact.std, atol=loose)
    axes = ours.axes(5, iterations=60)
    assert torch.allclose(axes.directions @ axes.directions.mT, torch.eye(5, dtype=F64))
    along = (axes.directions @ exact.covariance @ axes.directions.mT).diagonal()
    assert torch.allclose(axes.variances, along, atol=loose)
    values = torch.linalg.eigvalsh(exact.covariance).flip(0)[:5]
    assert torch.allclose(axes.variances, values, rtol=1e-3)
    if name != "precise":
        x = exact.sample(5, torch.Generator().manual_seed(2))
        assert torch.allclose(ours.log_prob(x), exact.log_prob(x), atol=1e-7)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_draws_have_the_law(name: str) -> None:
    # Catches: noise left out of Matheron's rule, which makes draws too narrow; draws of other components.
    likelihood = LIKELIHOODS[name]
    truth = LAW.sample(1, torch.Generator().manual_seed(4))
    y = likelihood.sample(truth, po.Rng([0]))[0]
    ours, exact = LAW.posterior(likelihood, y), WHOLE.posterior(likelihood, y)
    x, which = ours.sample_with_components(2000, torch.Generator().manual_seed(3))
    other = exact.sample(2000, torch.Generator().manual_seed(5))
    floor = two_sample_floor(exact.sample, 2000, repetitions=10)
    assert sliced_wasserstein(x, other) < floor.mean + 6 * math.sqrt(10) * floor.standard_error
    share = torch.bincount(which, minlength=4) / 2000
    assert (share - ours.weights).abs().max() < 0.05
    assert (LAW.responsibilities(x).mean(0) - ours.weights).abs().max() < 0.05
    assert torch.equal(
        ours.sample(3, torch.Generator().manual_seed(3)),
        ours.sample(3, torch.Generator().manual_seed(3)),
    )


def test_prior_draws_have_the_law() -> None:
    x = LAW.sample(4000, torch.Generator().manual_seed(3))
    floor = two_sample_floor(WHOLE.sample, 4000, repetitions=10)
    other = WHOLE.sample(4000, torch.Generator().manual_seed(5))
    assert sliced_wasserstein(x, other) < floor.mean + 6 * math.sqrt(10) * floor.standard_error
    assert LAW.scale is not None
    assert torch.allclose(LAW.scale.mean, WHOLE.mean)
    assert math.isclose(LAW.scale.std, float(WHOLE.std.square().mean().sqrt()))


def test_a_class_has_its_components_alone() -> None:
    member = LAW.given(po.Label(1))
    assert LAW.labels == 2 and len(member.weights) == 2
    assert torch.allclose(member.weights, LAW.weights[2:] / LAW.weights[2:].sum())
    with pytest.raises(po.InputError, match="no class 5; the labels are 0 to 1"):
        LAW.given(po.Label(5))
    with pytest.raises(po.CapabilityError, match="no classes"):
        member.given(po.Label(1))


def test_bad_input() -> None:
    parts = [LAW.weights, LAW.means, LAW.factors, LAW.variances, LAW.noise]
    with pytest.raises(po.ShapeError, match=r"4 means of 16 entries need weights \(4,\)"):
        PPCAMixture(parts[0][:2], *parts[1:])
    with pytest.raises(po.InputError, match="noise of a mixture are above 0"):
        PPCAMixture(*parts[:4], 0 * LAW.noise)
    with pytest.raises(po.InputError, match="orthonormal"):
        PPCAMixture(*parts[:2], 2 * LAW.factors, *parts[3:])
    # Catches: classes of fewer components, or of shares, in which labels are looked for and not found.
    for classes in (torch.tensor([0.0, 0.5, 1.0, 1.0]), torch.tensor([0, 1, -1, 0])):
        with pytest.raises(po.InputError, match="Classes are integers from 0 on"):
            PPCAMixture(*parts, classes)
    with pytest.raises(po.ShapeError, match=r"4 components have classes \(4,\); got \(2,\)"):
        PPCAMixture(*parts, torch.tensor([0, 1]))
    with pytest.raises(po.CapabilityError, match="LinearOperator"):
        LAW.posterior(po.GaussianLikelihood(po.operators.Clip(SHAPE), std=1.0), torch.zeros(SHAPE))
    with pytest.raises(po.ShapeError, match="y has shape"):
        LAW.posterior(LIKELIHOODS["average"], torch.zeros(3))
    with pytest.raises(po.InputError, match="n=17"):
        LAW.posterior(LIKELIHOODS["average"], torch.zeros(1, 2, 2)).axes(17)


def test_excluded_components_do_no_harm() -> None:
    # Catches: a weight that underflows and makes moments or draws nan.
    law = low_rank()
    far = PPCAMixture(
        law.weights,
        law.means + 100 * torch.arange(4).reshape(4, 1, 1, 1),
        law.factors,
        law.variances,
        law.noise,
    )
    y = LIKELIHOODS["mask"].operator(far.means[1])
    posterior = far.posterior(LIKELIHOODS["mask"], y)
    assert posterior.weights[1] == 1 and posterior.mean.isfinite().all()
    assert (posterior.sample(50, torch.Generator().manual_seed(0)) - far.means[1]).abs().max() < 10


def test_large_measurements_without_a_decomposition_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("posteria.analytic.low_rank_posterior.LARGEST", 15)
    with pytest.raises(po.CapabilityError, match="at most 15 entries"):
        LAW.posterior(LIKELIHOODS["padded"], torch.zeros(SHAPE))


def test_no_matrix_of_the_size_of_a_signal_squared(monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: a dense operator or covariance on the way, which would end at pictures.
    law = low_rank(3, 2, (1, 64, 64))
    operator = po.operators.CircularBlur(KERNEL, (1, 64, 64))

    def never(*_: object, **__: object) -> Tensor:
        raise AssertionError

    monkeypatch.setattr(type(operator), "matrix", never)
    posterior = law.posterior(po.GaussianLikelihood(operator, std=0.1), operator(law.means[0]))
    assert posterior.sample(2, torch.Generator().manual_seed(0)).isfinite().all()
    largest = max(t.numel() for t in vars(posterior).values() if isinstance(t, Tensor))
    assert largest <= 3 * 2 * 64 * 64
