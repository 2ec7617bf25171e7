"""Tilted laws that are known exactly: against other routes to the same numbers."""

import math

import pytest
import torch
from torch import Tensor

import posteria as po
from common.tilted import generator, quadrature
from helpers import F64, gaussian, normal
from posteria.analytic.tilted import TiltedQuadrature, tilted_gaussian
from posteria.diffusion.denoiser import Counted, Family
from posteria.guidance.tilted.cfg import CFG
from posteria.guidance.tilted.two_level import TwoLevel
from posteria.problems.tilted import (
    TiltedProblem,
    cfgig_toy,
    rare_mode,
    three_kinds,
)
from posteria.target import Tilted
from posteria.testing import check_denoiser

EVERY_LEVEL = (1e-5, 0.002, 0.01, 0.02, 0.025, 0.03, 0.05, 0.1, 0.3, 1.0, 5.0, 80.0)


def line(weights: list[float], means: list[float], variances: list[float]) -> po.GaussianMixture:
    parts = [torch.tensor(part, dtype=F64) for part in (weights, means, variances)]
    return po.GaussianMixture(parts[0], parts[1][:, None], parts[2][:, None, None])


def one_dimension(mean: float, variance: float) -> po.Gaussian:
    return po.Gaussian(torch.tensor([mean], dtype=F64), torch.tensor([[variance]], dtype=F64))


def reachable(law: TiltedQuadrature, sigma: float, n: int = 15) -> Tensor:
    """Points `[n, 1]` over all of a noised law that is above exp(-92) of its highest density."""
    std = math.sqrt(float(law.covariance) + sigma**2)
    x = law.mean + std * torch.linspace(-15, 15, 4001, dtype=F64)[:, None]
    log_prob = law.noised_log_prob(x, sigma)
    x = x[log_prob > log_prob.max() - 92]
    return x[torch.linspace(0, len(x) - 1, n).long()]


# Gaussians.


def test_tilted_gaussian_is_the_product_of_powers() -> None:
    # Catches: precisions that are not full matrices, the mean of one law where both pull.
    given, free = gaussian(4, seed=3), gaussian(4, seed=8)
    free = po.Gaussian(free.mean, 4 * free.covariance)
    law, x = tilted_gaussian(given, free, 1.7), normal(50, 4)
    gap = 1.7 * given.log_prob(x) - 0.7 * free.log_prob(x) - law.log_prob(x)
    assert torch.allclose(gap, gap[:1].expand(50), atol=1e-9)
    for weight, one in ((1.0, given), (0.0, free)):
        same = tilted_gaussian(given, free, weight)
        assert torch.allclose(same.mean, one.mean)
        assert torch.allclose(same.covariance, one.covariance)
    # The worked example of the paper's appendix.
    pair = tilted_gaussian(one_dimension(1.3, 0.25), one_dimension(-0.7, 1.0), 3.0)
    assert float(pair.covariance) == pytest.approx(0.1) and float(pair.mean) == pytest.approx(1.7)


def test_what_has_no_integral_is_refused() -> None:
    # Catches: a density that grows and is cut off at a box, a covariance that is not positive.
    wide, narrow = one_dimension(0.0, 1.0), one_dimension(0.0, 0.5)
    for build in (tilted_gaussian, TiltedQuadrature):
        with pytest.raises(po.InputError, match="no finite integral"):
            build(wide, narrow, 3.0)
        # 2 / 1 - 1 / 0.5 = 0.
        with pytest.raises(po.InputError, match="no finite integral"):
            build(wide, narrow, 2.0)
        build(wide, narrow, 1.9)
        with pytest.raises(po.ShapeError, match="one shape"):
            build(wide, gaussian(2), 1.0)
        for weight, sentence in (
            ("2", "'2' is not"),
            (math.nan, "nan is not"),
            (math.inf, "inf is not"),
        ):
            with pytest.raises(po.InputError, match=sentence):
                build(wide, narrow, weight)  # type: ignore[arg-type]
    with pytest.raises(po.InputError, match="level above 0"):
        TiltedQuadrature(wide, narrow, 1.9).noised_log_prob(torch.zeros(1, 1), 0.0)
    # In one direction only, and that not along an axis.
    tall = po.Gaussian(
        torch.zeros(2, dtype=F64), torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=F64)
    )
    disk = po.Gaussian(torch.zeros(2, dtype=F64), 1.5 * torch.eye(2, dtype=F64))
    with pytest.raises(po.InputError, match="no finite integral"):
        TiltedQuadrature(tall, disk, 8.0)
    with pytest.raises(po.InputError, match="1 or 2 dimensions; these laws have 3"):
        TiltedQuadrature(gaussian(3), gaussian(3), 1.0)
    # A narrow component that no draw meets does not bound the tails; a wide one does.
    TiltedQuadrature(line([1.0], [0.0], [0.3]), line([0.5, 0.5], [0.0, 1.0], [0.1, 1.0]), 3.0)
    with pytest.raises(po.InputError, match="too rough"):
        TiltedQuadrature(line([1.0, 1.0], [0.0, 50.0], [1e-4, 1.0]), one_dimension(0, 9.0), 2.0)


@pytest.mark.parametrize("d", [1, 2])
def test_quadrature_of_two_gaussians_is_their_closed_form(d: int) -> None:
    # Catches: a box that the law leaves, a rule that is wrong where it changes over, a wrong unit
    # of the noise. The law lies outside of both that it is made of.
    given = po.Gaussian(2 * normal(d, seed=2), 0.3 * gaussian(d, seed=1).covariance)
    free = po.Gaussian(-3 * normal(d, seed=2), 2.0 * gaussian(d, seed=5).covariance)
    law, exact = TiltedQuadrature(given, free, 3.0), tilted_gaussian(given, free, 3.0)
    assert torch.allclose(law.mean, exact.mean, atol=1e-10)
    assert torch.allclose(law.covariance, exact.covariance, atol=1e-10)
    x = exact.sample(6, generator())
    assert torch.allclose(law.log_prob(x), exact.log_prob(x), atol=1e-9)
    for sigma in EVERY_LEVEL:
        noisy = x + sigma * normal(6, d)
        assert torch.allclose(law(noisy, sigma), exact(noisy, sigma), rtol=0, atol=1e-10), sigma
        log_prob = exact.noised(sigma).log_prob(noisy)
        assert torch.allclose(law.noised_log_prob(noisy, sigma), log_prob, atol=1e-8), sigma


# The ideal denoiser.


@pytest.mark.parametrize("build", [cfgig_toy, rare_mode])
def test_ideal_denoiser_is_right_to_1e_8(build: type[TiltedProblem]) -> None:
    # Catches: cells that are too wide for little noise, a mode missed from the valley between two,
    # tails cut off. The reference is one sum over 20 001 points.
    law = quadrature(build())
    for sigma in EVERY_LEVEL:
        x = reachable(law, sigma)
        around = torch.linspace(-1, 1, 20_001, dtype=F64)
        reference = []
        for point in x[:, 0]:
            z = point + 30 * sigma * around if sigma < 0.04 else 14 * around
            joint = law.log_density(z[:, None]) - (z - point) ** 2 / (2 * sigma**2)
            reference.append(point + (joint.softmax(0) * (z - point)).sum())
        error = (law(x, sigma)[:, 0] - torch.stack(reference)).abs().max()
        assert error < 1e-8, (sigma, error)


def test_ideal_denoiser_in_the_plane() -> None:
    # Catches: axes that are exchanged, a kernel of one axis used for both.
    law = quadrature(three_kinds())
    x0 = law.sample(4, generator(1))
    for sigma in (0.01, 0.05, 0.2, 1.0, 30.0):
        x = x0 + sigma * normal(4, 2)
        around = torch.linspace(-1, 1, 351, dtype=F64)
        for row, mean in zip(x, law(x, sigma), strict=True):
            half = min(12 * sigma, 7.0)
            center = row if sigma < 0.5 else torch.zeros(2, dtype=F64)
            z = torch.cartesian_prod(center[0] + half * around, center[1] + half * around)
            joint = law.log_density(z) - ((z - row) ** 2).sum(-1) / (2 * sigma**2)
            assert torch.allclose(mean, joint.softmax(0) @ z, atol=1e-8), sigma


@pytest.mark.parametrize("build", [cfgig_toy, rare_mode, three_kinds])
def test_ideal_denoiser_passes_the_battery(build: type[TiltedProblem]) -> None:
    # Catches: rows that know one another, levels of one batch that take different rules, a
    # derivative that is not that of the value.
    law = quadrature(build())
    check_denoiser(law, sigmas=(0.3, 1.0, 5.0))
    x = law.sample(4, generator(2))
    levels = torch.tensor([1e-3, 0.02, 0.3, 9.0], dtype=F64)
    together = law(x, levels)
    for i, level in enumerate(levels):
        assert torch.allclose(together[i], law(x[i : i + 1], float(level))[0], rtol=0, atol=1e-12)
    assert torch.allclose(law(x, 0.0), x, rtol=0, atol=1e-9)
    # The Jacobian is the covariance of x_0 given x over sigma^2, hence symmetric and positive.
    jacobian = torch.stack(
        [law.vjp(x, 0.02)[1](v.expand_as(x)) for v in torch.eye(x.shape[1], dtype=F64)], 1
    )
    assert torch.allclose(jacobian, jacobian.mT, atol=1e-6)
    assert (torch.linalg.eigvalsh(jacobian) > 0).all()


def test_ideal_denoiser_at_other_weights_and_shapes() -> None:
    # Catches: a weight in the wrong place, events that are not vectors.
    problem = cfgig_toy()
    target, x = problem.target, torch.linspace(-3, 5, 17, dtype=F64)[:, None]
    given, free = target.conditional, target.unconditional
    assert isinstance(given, po.GaussianMixture) and isinstance(free, po.GaussianMixture)
    for weight, one in ((1.0, given), (0.0, free)):
        law = TiltedQuadrature(given, free, weight)
        for sigma in (0.01, 0.2, 3.0):
            assert torch.allclose(law(x, sigma), one(x, sigma), rtol=0, atol=1e-9)
    between = TiltedQuadrature(given, free, 0.5)
    assert torch.allclose(2 * between.log_density(x), given.log_prob(x) + free.log_prob(x))
    scalars = [
        po.GaussianMixture(law.weights, law.means[:, 0], law.covariances) for law in (given, free)
    ]
    law, flat = quadrature(problem), x[:, 0]
    bare = TiltedQuadrature(scalars[0], scalars[1], 3.0)
    assert bare.sample(5, generator()).shape == (5,) and bare.mean.shape == ()
    assert torch.equal(bare(flat, 0.3), law(x, 0.3)[:, 0])
    assert torch.equal(bare.log_prob(flat), law.log_prob(x))
    assert law(x.reshape(1, 17, 1), 0.3).shape == (1, 17, 1)
    single = cfgig_toy(dtype=torch.float32)
    out = quadrature(single)(x.float(), 0.3)
    assert out.dtype == torch.float32 and torch.allclose(out.double(), law(x, 0.3), atol=1e-5)


# What guidance leaves out.


def renyi_apart(law: TiltedQuadrature, point: float, sigma: float, free: float) -> float:
    """The divergence by its definition, from the two posteriors in closed form."""
    y, eye = torch.tensor([point], dtype=F64), po.operators.Matrix(torch.eye(1, dtype=F64))
    laws = (law.conditional, law.unconditional)
    p, q = (
        one.posterior(po.GaussianLikelihood(eye, std=level), y)
        for one, level in zip(laws, (sigma, free), strict=True)
    )
    z = torch.linspace(-9, 9, 60_001, dtype=F64)[:, None]
    w = law.weight
    log_ratio = w * p.log_prob(z) + (1 - w) * q.log_prob(z)
    return (float(log_ratio.logsumexp(0)) + math.log(18 / 60_000)) / (w - 1)


def slope_apart(law: TiltedQuadrature, point: float, sigma: float, free: float) -> float:
    h = 1e-3
    value = {k: renyi_apart(law, point + k * h, sigma, free) for k in (-2, -1, 1, 2)}
    return (8 * (value[1] - value[-1]) - (value[2] - value[-2])) / (12 * h)


LAWS = {
    "toy": quadrature(cfgig_toy()),
    "rare": quadrature(rare_mode()),
    "weight 0.5": quadrature(cfgig_toy(0.5)),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_missing_term_is_a_renyi_divergence(name: str) -> None:
    # D* = D_w + sigma^2 (w - 1) grad R_w (arXiv:2505.21101). Catches: the factor w - 1, the order
    # of the divergence, its two laws exchanged, an estimate of guidance that adds to it.
    law = LAWS[name]
    target = Tilted(Family(law.unconditional, {0: law.conditional}), po.Label(0), law.weight)
    for sigma in (0.15, 0.5, 2.0):
        for point in (-2.5, 0.3, 1.9, 3.4):
            x = torch.tensor([[point]], dtype=F64)
            assert float(law.renyi(x, sigma)) == pytest.approx(
                renyi_apart(law, point, sigma, sigma), abs=1e-7
            )
            slope = slope_apart(law, point, sigma, sigma)
            assert float(law.renyi_gradient(x, sigma)) == pytest.approx(slope, abs=1e-6)
            guided = float(CFG().at(target, x, sigma)) + sigma**2 * (law.weight - 1) * slope
            assert float(law(x, sigma)) == pytest.approx(guided, abs=1e-6)


def test_the_missing_term_vanishes_with_the_noise() -> None:
    # It is of the order sigma^2, which is why CFGiG works. Catches: digits lost at low noise, by
    # which it would grow.
    law = LAWS["toy"]
    x = torch.linspace(1.0, 3.0, 9, dtype=F64)[:, None]
    sizes = [float(law.renyi_gradient(x, sigma).norm()) for sigma in (0.1, 0.03, 0.01, 0.003)]
    assert sizes[1] / sizes[0] == pytest.approx(0.11, abs=0.02)
    assert sizes[2] / sizes[1] == pytest.approx(1 / 9, rel=0.05)
    assert sizes[3] / sizes[2] == pytest.approx(0.09, rel=0.01)


def test_renyi_divergence_of_gaussians() -> None:
    # Catches: a constant that the gradient does not see.
    w, sigma, x = 3.0, 0.8, torch.linspace(-2, 2, 5, dtype=F64)[:, None]
    (m1, v1), (m0, v0) = (1.3, 0.25), (-0.7, 1.0)
    law = TiltedQuadrature(one_dimension(m1, v1), one_dimension(m0, v0), w)

    def given(mean: float, variance: float) -> tuple[Tensor, float]:
        gain = variance / (variance + sigma**2)
        return mean + gain * (x[:, 0] - mean), gain * sigma**2

    (a1, s1), (a0, s0) = given(m1, v1), given(m0, v0)
    mixed = w * s0 + (1 - w) * s1
    log_integral = math.log(s0**w * s1 ** (1 - w) / mixed) / 2
    log_integral = log_integral + w * (w - 1) * (a1 - a0) ** 2 / mixed / 2
    assert torch.allclose(law.renyi(x, sigma), log_integral / (w - 1), atol=1e-9)
    for weight in (0.0, 1.0):
        with pytest.raises(po.InputError, match="order other than 0 and 1"):
            TiltedQuadrature(law.conditional, law.unconditional, weight).renyi(x, sigma)
    with pytest.raises(po.InputError, match="above 0"):
        law.renyi(x, 1.0, 0.5)


# Two noise levels.


@pytest.mark.parametrize("delta", [0.1, 0.7, 2.0, 5.0])
def test_two_levels_and_their_renyi_term_are_the_score(delta: float) -> None:
    # Catches: the published code's weight - 1 in place of delta; a level that is not that of the
    # estimate it belongs to.
    law = LAWS["toy"]
    w, rule = law.weight, TwoLevel(delta=delta)
    target = Tilted(Family(law.unconditional, {0: law.conditional}), po.Label(0), w)
    for sigma in (0.3, 1.0):
        levels = sigma * math.sqrt(w / (1 + delta)), sigma * math.sqrt((w - 1) / delta)
        for point in (-1.0, 0.8, 2.6):
            x = torch.tensor([[point]], dtype=F64)
            slope = slope_apart(law, point, *levels)
            assert float(law.renyi_gradient(x, *levels)) == pytest.approx(slope, abs=1e-6)
            whole = float(rule.at(target, x, sigma)) + sigma**2 * (w - 1) * slope
            assert float(law(x, sigma)) == pytest.approx(whole, abs=1e-6)


def test_two_levels_on_gaussians() -> None:
    # With the right delta the rule is the ideal denoiser of the tilted law, at every level and in
    # its mean too. Catches: any slip in either level. With delta = weight - 1 it is CFG.
    v, v_u, w = 0.25, 1.0, 3.0
    given = po.Gaussian(normal(3, seed=1), v * torch.eye(3, dtype=F64))
    free = po.Gaussian(normal(3, seed=2), v_u * torch.eye(3, dtype=F64))
    target = Tilted(Family(free, {0: given}), po.Label(0), w)
    exact = tilted_gaussian(given, free, w)
    delta = float(exact.covariance[0, 0]) * (w - 1) / v_u
    rule, x = TwoLevel(delta=delta).denoiser(target), 2 * normal(5, 3)
    for sigma in (0.01, 0.5, 3.0, 80.0):
        assert torch.allclose(rule(x, sigma), exact(x, sigma), rtol=0, atol=1e-10)
        same = TwoLevel(delta=w - 1).at(target, x, sigma)
        assert torch.allclose(same, CFG().at(target, x, sigma), rtol=0, atol=1e-12)
    # Any delta is right in the limit of no noise, where the score is that of the tilted law.
    score = (exact.mean - x) / exact.covariance[0, 0]
    for share in (0.1, 1.0, 4.0):
        estimate = TwoLevel(delta=share).at(target, x, 1e-3)
        assert torch.allclose((estimate - x) / 1e-6, score, rtol=1e-3, atol=1e-2)
    levels = torch.tensor([0.1, 0.5, 1.0, 2.0, 9.0], dtype=F64)
    rows = [rule(x[i : i + 1], float(level))[0] for i, level in enumerate(levels)]
    assert torch.allclose(rule(x, levels), torch.stack(rows), rtol=0, atol=1e-12)
    counted = Counted(target.prior)
    TwoLevel().at(Tilted(counted, po.Label(0), w), x, 1.0)
    assert counted.meter.forward == 2 * len(x)
    check_denoiser(rule)


def test_what_two_levels_refuse() -> None:
    target = cfgig_toy(1.0).target
    with pytest.raises(po.InputError, match=r"TwoLevel needs a weight above 1; weight=1\."):
        TwoLevel().check(target)
    with pytest.raises(po.InputError, match=r"above 1; 0\.5 is not"):
        TwoLevel(0.5)
    with pytest.raises(po.InputError, match="delta"):
        TwoLevel(delta=0.0)
    TwoLevel(2.0).check(target)
