"""What samples say of themselves: residuals and R-hat of laws that are known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import posteria as po
from helpers import F64, gaussian, linear_posterior, normal
from posteria.samplers.diagnostics import diagnose, expected_rhat, split_rhat


@pytest.mark.parametrize("m", [1, 5, 400])
def test_the_expected_residual_is_that_of_chi(m: int) -> None:
    # Catches: an interval of chi-square instead of its root, or of one entry.
    prior = gaussian(8)
    operator = po.operators.Matrix(normal(m, 8), (8,))
    target = po.Posterior(prior, po.GaussianLikelihood(operator, 0.3), torch.zeros(m, dtype=F64))
    found = diagnose(normal(3, 8), range(3), target)
    expected = np.sqrt(stats.chi2.ppf([0.025, 0.975], m) / m)
    assert found.expected == pytest.approx(expected, abs=0.035)


def test_exact_samples_have_the_residual_that_is_expected() -> None:
    # Catches: a residual in data units; noise per entry that is not divided out; the residual of the mean.
    prior, g = gaussian(6), torch.Generator().manual_seed(0)
    operator = po.operators.Matrix(normal(12, 6, seed=2), (6,))
    likelihood = po.GaussianLikelihood(operator, std=torch.linspace(0.1, 2.0, 12, dtype=F64))
    inside = 0
    for i in range(200):
        truth = prior.sample(1, g)
        y = likelihood.sample(truth, po.Rng([i], stream=1))[0]
        x = prior.posterior(likelihood, y).sample(1, g)
        found = diagnose(x, [0], po.Posterior(prior, likelihood, y))
        assert found.expected is not None and found.residual is not None
        inside += found.expected[0] <= found.residual <= found.expected[1]
    assert stats.binomtest(inside, 200, 0.95).pvalue > 1e-3


def reference_rhat(chains: np.ndarray) -> float:
    """Split R-hat by the letter of the paper, of `[chains, draws]`."""

    def rhat(z: np.ndarray) -> float:
        n = z.shape[1]
        within = z.var(1, ddof=1).mean()
        total = (n - 1) / n * within + z.mean(1).var(ddof=1)
        return math.sqrt(total / within)

    def normalised(z: np.ndarray) -> np.ndarray:
        rank = stats.rankdata(z.flatten()).reshape(z.shape)
        return stats.norm.ppf((rank - 3 / 8) / (z.size + 1 / 4))

    half = chains.shape[1] // 2
    parts = np.concatenate([chains[:, :half], chains[:, -half:]])
    return max(rhat(normalised(parts)), rhat(normalised(abs(parts - np.median(parts)))))


def test_split_rhat_is_that_of_the_paper() -> None:
    # Catches: chains that are not split, ranks that are not normalised, the folded half left out, ties in order.
    chains = normal(3, 21, 4).round(decimals=1)
    chains[1, :, 1] += 1
    chains[2, :, 2] *= 5
    chains[:, 11:, 3] += 2
    expected = [reference_rhat(chains[..., k].numpy()) for k in range(4)]
    assert split_rhat(chains).tolist() == pytest.approx(expected)
    assert (split_rhat(chains)[1:] > 1.1).all()
    assert split_rhat(torch.ones(2, 6)).item() == 1


def test_independent_draws_stay_below_the_expected_rhat() -> None:
    # Catches: a bound for one projection, or for whole chains; with 16 of them 1 % go beyond.
    for chains, draws in ((2, 16), (4, 64)):
        largest = split_rhat(normal(chains, draws, 16 * 400)).reshape(16, 400).amax(0)
        beyond = int((largest > expected_rhat(chains, draws)).sum())
        assert stats.binomtest(beyond, 400, 0.03, alternative="greater").pvalue > 1e-3


def test_populations_are_chains_and_single_samples_are_none() -> None:
    # Catches: chains of one population, or of populations with different measurements; sizes that are lost.
    target = linear_posterior(gaussian(4))
    sampler = po.samplers.TDS(particles=16, schedule=po.Karras(steps=10))
    samples = sampler.run(target, seeds=64)
    found = samples.diagnostics()
    assert samples.ess is not None and samples.ancestors is not None
    assert found.chains == 4 and found.particles == 16 and found.rhat is not None
    assert found.ess == samples.ess.tolist() and found.ancestors == samples.ancestors.tolist()
    assert "split R-hat" in str(found)
    axes = torch.randn(4, 16, dtype=F64, generator=torch.Generator().manual_seed(1903))
    assert found.rhat == pytest.approx(float(split_rhat(samples.x.reshape(4, 16, 4) @ axes).max()))
    several = po.Posterior(target.prior, target.likelihood, normal(2, 2).repeat_interleave(16, 0))
    assert sampler.run(several, seeds=32).diagnostics().rhat is None
    assert sampler.run(target, seeds=16).diagnostics().chains == 0
    alone = po.DPS(schedule=po.Karras(steps=3)).run(target, seeds=4).diagnostics()
    assert alone.rhat is None and alone.ess is None and alone.residual is not None


def test_populations_that_disagree_are_said_to() -> None:
    x = normal(40, 4)
    x[20:] += 3
    target = linear_posterior(gaussian(4))
    found = diagnose(x, range(40), target, particles=20, ess=[9, 8], ancestors=[12, 1])
    sentence, *_ = found.warnings()
    assert "populations disagree" in sentence
    assert ["effective size", "at least 8 of 20 particles"] in found.rows()
    # Catches: populations that stand still, each at a point of its own, and are said to agree.
    still = torch.zeros(40, 4, dtype=F64)
    still[20:] += 3
    assert diagnose(still, range(40), target, particles=20).rhat == math.inf


def test_a_signal_may_be_a_single_number() -> None:
    # Catches: an axis of signals that is taken for granted.
    prior = po.Gaussian(torch.zeros((), dtype=F64), torch.eye(1, dtype=F64))
    operator = po.operators.Function(lambda x: 2 * x, prior.space)
    target = po.Posterior(prior, po.GaussianLikelihood(operator, 0.5), torch.ones((), dtype=F64))
    found = diagnose(torch.tensor([0.5, 0.75, math.nan], dtype=F64), range(3), target)
    assert found.residual == pytest.approx(0.5) and found.lost == 1
    assert diagnose(normal(40), range(40), target, particles=20).chains == 2


def test_a_residual_is_worth_a_sentence_where_noise_does_not_explain_it() -> None:
    # Catches: a sentence on every run, one for a few measurements that are far by chance, a measurement that the prior
    # excludes called a matter of steps alone.
    said = {
        0.3: "nearer to",
        1.0: "",
        1.29: "",
        2.0: "farther from",
        12.0: "the prior excludes it",
    }
    operator, y = po.operators.Inpainting(torch.ones(100) > 0, (100,)), torch.zeros(100, dtype=F64)
    for off, words in said.items():
        target = po.Posterior(gaussian(100), po.GaussianLikelihood(operator, 0.1), y)
        found = diagnose(torch.full((2, 100), 0.1 * off, dtype=F64), range(2), target)
        assert found.residual == pytest.approx(off)
        assert [words in sentence for sentence in found.warnings()] == [True] * bool(words)
        assert all(f"residual {off:.3f} sigma" in sentence for sentence in found.warnings())
    one = po.GaussianLikelihood(po.operators.Inpainting(torch.arange(4) < 1, (4,)), 0.1)
    target = po.Posterior(gaussian(4), one, torch.zeros(1, dtype=F64))
    assert not diagnose(torch.full((1, 4), 0.2, dtype=F64), [0], target).warnings()


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    # Catches: a residual that is NaN for one bad sample.
    target = linear_posterior(gaussian(4))
    x = normal(3, 4)
    x[1] = torch.nan
    found = diagnose(x, range(3), target)
    assert found.lost == 1 and found.residual == diagnose(x[[0, 2]], range(2), target).residual
    nothing = diagnose(x[1:2], range(1), target)
    assert nothing.lost == 1 and nothing.residual is None
    poisson = po.PoissonLikelihood(target.likelihood.operator, peak=4.0)  # type: ignore[attr-defined]
    counted = po.Posterior(target.prior, poisson, torch.ones(2, dtype=F64))
    assert diagnose(x, range(3), counted).residual is None


def test_what_is_measured_by_a_network_leaves_no_graph() -> None:
    # Catches: a decoder that is differentiated for nothing, whose memory it takes, and torch's warning of it.
    seen = []
    weight = torch.nn.Parameter(torch.ones((), dtype=F64))

    def decode(x: torch.Tensor) -> torch.Tensor:
        seen.append(torch.is_grad_enabled())
        return weight * x

    prior = gaussian(4)
    operator = po.operators.Function(decode, prior.space)
    target = po.Posterior(prior, po.GaussianLikelihood(operator, std=0.5), normal(4))
    seen.clear()
    found = diagnose(normal(3, 4, seed=2), range(3), target)
    assert found.residual is not None and seen and not any(seen)
