"""Certificates: exact samplers pass at the stated level, wrong ones fail in the right words."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from typing_extensions import override

import posteria as po
from helpers import F64, normal, random_covariance
from posteria.certification.certificate import Curve, Statistic, curve
from posteria.certification.figures import binomial_interval, bins_of, coverage, histogram
from posteria.certification.simulate import Design
from posteria.certification.statistics import groups, resolution
from posteria.core.rng import Rng
from posteria.core.state import State
from posteria.latent import Decoder, Latent
from posteria.metrics.calibration import holm, interval_coverage, rank_tests
from posteria.samplers import Unconditional
from posteria.samplers.posterior import PosteriorSampler

SIZE, SEEN = 20, 5
PRIOR = po.Gaussian(normal(SIZE, seed=1), random_covariance(SIZE))
LIKELIHOOD = po.GaussianLikelihood(po.operators.Matrix(normal(SEEN, SIZE, seed=2), (SIZE,)), 0.3)


@dataclass(frozen=True, kw_only=True)
class Closed(PosteriorSampler[State]):
    """Draws from the posterior of a Gaussian, with a fault.

    Args:
        variance: By how much its variance is too large.
        shift: Of its mean, in standard deviations.
        blind: Whether it draws from the prior instead.
        broken: Whether its first sample is not finite.
    """

    schedule: po.schedules.Schedule = field(default_factory=lambda: po.Karras(steps=1))
    variance: float = 1.0
    shift: float = 0.0
    blind: bool = False
    broken: bool = False

    @override
    def step(self, target: Any, state: State, sigma: float, sigma_next: float, rng: Rng) -> State:
        prior, matrix = target.prior.base, target.likelihood.operator.matrix()
        noise, covariance, mean = rng.normal(target.space), prior.covariance, prior.mean
        if not self.blind:
            precision = covariance.inverse()
            covariance = (precision + matrix.mT @ matrix / target.likelihood.std**2).inverse()
            pull = target.y.reshape(-1, SEEN) @ matrix / target.likelihood.std**2
            mean = (precision @ prior.mean + pull) @ covariance
        root = torch.linalg.cholesky(self.variance * covariance)
        x = mean + noise @ root.mT + self.shift * covariance.diagonal().sqrt()
        first = torch.tensor([self.broken and seed == 0 for seed in rng.seeds])
        x = torch.where(first[:, None], torch.nan, x)
        return State(x=x, x0=x, sigma=sigma_next, count=state.count + 1)


def certify(sampler: PosteriorSampler[Any], **settings: Any) -> po.Certificate:
    return po.certify(sampler, PRIOR, LIKELIHOOD, **{"batch": 10**6, **settings})


def test_an_exact_sampler_passes() -> None:
    # Catches: truths and samples that share noise, a measurement of another truth, samples of another y.
    found = certify(Closed(), simulations=200)
    assert found.passes and not found.faults
    assert found.verdict.startswith("passes: none of 109 tests rejects at 1 % over all (Holm)")
    for group in found.curves.values():
        for level in (0.5, 0.9):
            share, error = group.at(level)
            assert abs(share - level) < 4 * error < 0.1
    assert found.residual is not None
    assert found.residual.low < found.residual.samples < found.residual.high
    assert found.truths == "exact draws of the prior"


@pytest.mark.parametrize(
    ("fault", "words", "never"),
    [
        # Catches: width the wrong way round; a location test that a wrong width trips.
        ({"variance": 1.5}, "too wide", "shifted"),
        ({"variance": 0.6}, "too sure", "shifted"),
        # Catches: a shift that is called a wrong width because truths lie far from the samples, or all on one side.
        ({"shift": 0.5}, "shifted", "too sure"),
        ({"shift": -1.5}, "shifted", "too wide"),
        # Catches: ranks of signals alone, which samples of the prior pass.
        ({"blind": True}, "too far from the measurement", "too"),
    ],
)
def test_a_wrong_sampler_fails_in_words(fault: dict[str, Any], words: str, never: str) -> None:
    found = certify(Closed(**fault))
    assert not found.passes
    headline = found.verdict.partition(":")[0]
    assert words in headline and never not in headline.replace(words, "")
    assert "90 % intervals hold" in found.verdict


def test_the_coverage_that_is_stated_is_that_of_the_sampler() -> None:
    # Catches: a coverage of one value, or an error over values instead of simulations.
    found = certify(Closed(variance=0.25), simulations=300, samples=99)
    share, error = found.curves["entries"].at(0.9)
    expected = 2 * stats.norm.cdf(1.645 * 0.5) - 1
    assert share == pytest.approx(expected, abs=4 * error)
    assert f"{100 * share:.0f} ± {100 * error:.0f} %" in found.curves["entries"].stated(0.9)


def test_the_level_holds_over_all_tests() -> None:
    # Catches: tests that are not exact for few simulations, an adjustment left out (36 % would fail).
    fails = sum(not certify(Closed(), simulations=20, seed=20 * i).passes for i in range(60))
    # 0.6 are expected; 5 or more have a probability of 4e-4.
    assert fails < 5


@pytest.mark.slow
def test_the_level_holds_over_many() -> None:
    # Catches: a level of 2 % instead of 1 %.
    fails = sum(not certify(Closed(), simulations=40, seed=40 * i).passes for i in range(3000))
    assert stats.binomtest(fails, 3000, 0.01, alternative="greater").pvalue > 1e-3


def test_residuals_are_tested_by_chi_square() -> None:
    # Catches: residuals of several samples of one simulation taken for independent, a test of the root, one side alone;
    # samples too far from the measurement by a little, which few ranks do not show.
    found = certify(Closed(), simulations=30).residual
    assert found is not None and found.p_value > 1e-3
    total = 30 * SEEN * found.first
    both = stats.chi2.cdf(total, 30 * SEEN), stats.chi2.sf(total, 30 * SEEN)
    assert found.p_value == pytest.approx(2 * min(both))
    wide = certify(Closed(variance=1.5), simulations=30, statistics=("log-likelihood",))
    assert wide.residual is not None and wide.residual.p_value < 0.05 and wide.tests == 4
    p_values = []
    for i in range(40):
        residual = certify(Closed(), simulations=10, seed=10 * i).residual
        p_values.append(residual.p_value if residual else 0.0)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    counts = po.PoissonLikelihood(LIKELIHOOD.operator, peak=1.0)
    free = po.certify(po.MGDM(schedule=po.schedules.Table(steps=3)), PRIOR, counts, 10)
    assert free.residual is None and free.tests == 108


def test_simulations_do_not_depend_on_batches_or_on_each_other() -> None:
    # Catches: seeds by batch, noise of the measurement by batch, a simulation that its neighbours change.
    whole, small = certify(Closed(), simulations=30), certify(Closed(), simulations=30, batch=1)
    later = certify(Closed(), simulations=20, seed=10)
    for a, b, c in zip(whole.statistics, small.statistics, later.statistics, strict=True):
        assert a == b and a.ranks[10:] == c.ranks


def test_populations_have_whole_seeds_of_their_own() -> None:
    # Catches: simulations that share a population, which would then have two measurements.
    design = Design(sampler=po.samplers.TDS(particles=8), prior=PRIOR, likelihood=LIKELIHOOD)
    assert design.seeds(2) == list(range(48, 67)) and len(design.batches[0]) == 3
    seeds = [set(s // 8 for s in design.seeds(i)) for i in range(4)]
    assert not set.intersection(*seeds)


class Hidden(po.Denoiser):
    """A prior that cannot draw from itself."""

    def __init__(self, prior: po.Gaussian) -> None:
        self.prior, self.space = prior, prior.space

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self.prior(x, sigma)


def test_truths_of_a_prior_that_cannot_draw_come_from_the_diffusion() -> None:
    # Catches: truths of another law, or noise that a truth shares with its samples.
    truths = Unconditional(schedule=po.Karras(steps=20))
    kwargs: dict[str, Any] = {"prior": Hidden(PRIOR), "likelihood": LIKELIHOOD, "truths": truths}
    design = Design(sampler=po.DPS(), **kwargs)
    assert design.drawn_directly() is None and "Unconditional" in design.source
    assert min(design.truth_seeds) > max(design.seeds(0, design.simulations))
    found = po.certify(po.DPS(schedule=po.Karras(steps=4)), simulations=10, **kwargs)
    assert found.cost.forward == 4 and "approximate" in found.truths


def test_what_latents_are_decoded_to_is_measured() -> None:
    # Catches: latents that are measured as if they were signals, or refused.
    decoded = normal(5, 3)
    inner = Hidden(po.Gaussian(torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64)))
    latent = Latent(inner, Decoder(lambda z: z @ decoded.mT, inner.space, (5,)))
    seen = po.operators.Inpainting(torch.arange(5) < 2)
    settings: dict[str, Any] = {"simulations": 12, "samples": 4, "truths": po.Unconditional()}
    sampler = po.MMPS().with_steps(6)
    found = po.certify(sampler, latent, po.GaussianLikelihood(seen, 0.3), **settings)
    exact = po.GaussianLikelihood(po.operators.Matrix(decoded[:2]), 0.3)
    direct = po.certify(sampler, inner, exact, **settings)
    assert [s.ranks for s in found.statistics] == [s.ranks for s in direct.statistics]


def test_statistics_of_one_s_own_are_ranked_beside_the_others() -> None:
    # Catches: a function that sees the samples of another order than the truth; several numbers taken for one.
    own: dict[str, Callable[[Tensor], Tensor]] = {
        "largest": lambda x: x.amax(-1),
        "both": lambda x: x[:, :2],
    }
    found = certify(Closed(shift=2.0), statistics=own)
    by_name = {tested.name: tested for tested in found.statistics}
    assert by_name["largest"].shift < -1 and {"both 1", "both 2"} <= by_name.keys()
    few = certify(Closed(), statistics=("mean", "projections"))
    assert [tested.name for tested in few.statistics][:2] == ["mean", "projection 1"]
    assert few.tests == 52


def test_depth_and_distance_take_truth_and_samples_alike() -> None:
    # Catches: ties that put the truth first or last; distances from the samples' mean alone, which the truth is
    # farther from by one part in n.
    space = po.Space((3,), F64)
    for name in ("depth", "distance"):
        (group,) = groups((name,), space, LIKELIHOOD)
        x = normal(6, 3)
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        assert torch.allclose(group(x, x)[order], group(x[order], x))
        assert group(torch.ones(6, 3), x).unique().numel() == 1
    (depth,) = groups(("depth",), space, LIKELIHOOD)
    column = torch.tensor([[2.0], [0.0], [1.0], [3.0], [4.0]])
    assert depth(column.expand(-1, 3), column)[:, 0].tolist() == pytest.approx([
        0,
        0.64,
        0.16,
        0.16,
        0.64,
    ])


def test_levels_round_as_pictures_do() -> None:
    grey = resolution(256)(torch.tensor([-1.2, -1.0, -0.9999, 0.0019, 0.7, 5.0]))
    assert ((grey + 1) * 127.5).tolist() == pytest.approx([0, 0, 0, 128, 217, 255], abs=1e-4)
    x = torch.rand(4)
    assert resolution(0)(x) is x


def test_tests_of_ranks_are_those_of_normal_scores() -> None:
    # Catches: a quadrature that is off; one-sided p-values; Student's law with m degrees of freedom.
    g = torch.Generator().manual_seed(0)
    ranks = torch.randint(0, 20, (15, 4), generator=g)
    found = rank_tests(ranks, 19, torch.Generator().manual_seed(1))
    u = torch.rand(15, 4, dtype=F64, generator=torch.Generator().manual_seed(1))
    z = stats.norm.ppf(((ranks + u) / 20).numpy())
    assert found.p_values[0].tolist() == pytest.approx(stats.ttest_1samp(z, 0).pvalue.tolist())
    square = 14 * z.var(0, ddof=1)
    both = 2 * stats.chi2.cdf(square, 14), 2 * stats.chi2.sf(square, 14)
    expected = [min(pair) for pair in zip(*both, strict=True)]
    assert found.p_values[1].tolist() == pytest.approx(expected)
    many = rank_tests(torch.randint(0, 5, (30, 4000), generator=g), 4, g).p_values
    for p in many[:2]:
        assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_holm_is_holm() -> None:
    adjusted = holm(torch.tensor([[0.01, 0.04], [0.03, 0.5]], dtype=F64))
    assert adjusted.flatten().tolist() == pytest.approx([0.04, 0.09, 0.09, 0.5])


def test_a_curve_is_interval_coverage_at_every_level() -> None:
    # Catches: slices of ranks that are cut at the wrong ends.
    x, truth = normal(7, 50, 9), 1.3 * normal(50, 9, seed=3)
    counts = torch.stack([
        torch.bincount((x[:, i] < truth[i]).sum(0), minlength=8) for i in range(50)
    ])
    found = curve(counts)
    for level in (0.3, 0.5, 0.9):
        assert found.at(level)[0] == pytest.approx(interval_coverage(x, truth, level))


def test_a_sampler_that_diverges_is_said_to() -> None:
    with pytest.warns(RuntimeWarning, match="diverged"):
        found = certify(Closed(broken=True), simulations=20)
    assert found.verdict.startswith("diverged: 90 %") and found.lost == 1
    assert "1 of 20 simulations have samples not finite" in found.verdict


def test_figures_show_the_counts() -> None:
    # Catches: a band of another binomial; bars that are not the ranks; an entity that breaks the page.
    low, high = binomial_interval(100, 0.1)
    assert stats.binom.cdf(high, 100, 0.1) - stats.binom.cdf(low - 1, 100, 0.1) >= 0.99
    assert (low, high) == tuple(map(int, stats.binom.interval(0.99, 100, 0.1)))
    counts, shares = bins_of(torch.arange(100) % 20, 19)
    assert counts.tolist() == [10] * 10 and shares.tolist() == pytest.approx([0.1] * 10)
    found = certify(Closed(), statistics={"<b>": lambda x: x[:, 0]}, simulations=20)
    for tested in found.statistics:
        drawn = histogram(tested, 19, 0.01)
        assert drawn.startswith("<svg") and "<b>" not in drawn and drawn.count("<rect") == 10
    assert coverage(found.curves).count("<polyline") == 2
    # Catches: a deviation upside down or against another line: 4 points too many are 4/5 of the way up from 0.
    level = [0.25, 0.5, 0.75]
    drawn = coverage({"off": Curve(levels=level, coverage=[0.25, 0.54, 0.75], error=[0.0] * 3)})
    line = re.search(r'<polyline points="([^"]*)"', drawn)
    assert line and [float(at.split(",")[1]) for at in line[1].split()] == [100, 100, 20, 100, 100]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"simulations": 0}, "at least 10 simulations, and 100 to be worth much; got 0"),
        ({"simulations": 10.5}, "at least 10 simulations, and 100 to be worth much; got 10.5"),
        ({"simulations": "20"}, "got '20'"),
        ({"simulations": True}, "got True"),
        ({"batch": 0}, "batch is an integer of at least 1; 0 is not"),
        ({"batch": 2.5}, "batch is an integer of at least 1"),
        ({"seed": -1}, "seed is an integer of at least 0"),
        ({"seed": 1.5}, "seed is an integer of at least 0; 1.5 is not"),
        ({"levels": 2.5}, "levels is an integer of at least 0"),
        ({"level": "0.1"}, "level='0.1' is not a probability"),
        ({"statistics": {"own": lambda x: 1j * x}}, "'own' holds torch.complex128 values"),
        ({"prior": "digits"}, "A certificate needs a Denoiser; this is a str"),
        ({"likelihood": "operator"}, "A certificate needs a Likelihood; this is a Matrix"),
        ({"truths": "heun"}, "A certificate needs a Sampler; this is a str"),
        ({"samples": 1}, "ranked among at least 4 samples"),
        ({"statistics": ("pixel",)}, "no statistic 'pixel'; there are entries"),
        ({"statistics": ()}, "Name a statistic"),
        ({"statistics": {"mean": lambda x: x}}, "its name is not one of"),
        ({"statistics": {"own": lambda x: x.sum()}}, "one or several numbers each"),
        ({"seed": 2**31}, r"below 2\^31"),
        ({"level": 1.5}, "not a probability"),
        ({"levels": 1}, "2 levels or more"),
        ({"sampler": po.samplers.DDNM(), "likelihood": "poisson"}, "needs a GaussianLikelihood"),
        ({"sampler": po.CFGiG()}, "needs a PosteriorSampler"),
        ({"likelihood": "function"}, "cannot simulate measurements"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_drawn(
    settings: dict[str, Any], sentence: str
) -> None:
    class Never(po.Gaussian):
        @override
        def sample(self, n: int, generator: torch.Generator) -> Tensor:
            raise AssertionError

    others = {
        "poisson": po.PoissonLikelihood(LIKELIHOOD.operator, peak=10),
        "function": po.FunctionLikelihood(lambda y, x: x.sum(-1)),
        "operator": LIKELIHOOD.operator,
    }
    sampler = settings.pop("sampler", Closed())
    likelihood: Any = others.get(settings.pop("likelihood", ""), LIKELIHOOD)
    prior = settings.pop("prior", Never(PRIOR.mean, PRIOR.covariance))
    with pytest.raises(po.PosteriaError, match=sentence) as caught:
        po.certify(sampler, prior, likelihood, **settings)
    assert str(caught.value).count(". ") <= 1


def test_truths_and_noise_are_what_can_be_measured() -> None:
    # Catches: truths that are not finite called a fault of the measurement, noise of 0 that divides by itself.
    class Broken(po.Gaussian):
        @override
        def sample(self, n: int, generator: torch.Generator) -> Tensor:
            return torch.full((n, SIZE), torch.nan, dtype=F64)

    with pytest.raises(po.InputError, match="truths that are not finite"):
        po.certify(Closed(), Broken(PRIOR.mean, PRIOR.covariance), LIKELIHOOD, 10)
    # Catches: a truth without a batch, whose entries are taken for truths.
    for wrong, given in ((torch.zeros(SIZE), rf"\({SIZE},\)"), (np.zeros((1, SIZE)), "ndarray")):
        other = type("Other", (po.Gaussian,), {"sample": lambda *_, drawn=wrong: drawn})
        with pytest.raises(po.ShapeError, match=rf"gives a tensor \(1, {SIZE}\); this is {given}"):
            po.certify(Closed(), other(PRIOR.mean, PRIOR.covariance), LIKELIHOOD, 10)
    with pytest.raises(po.InputError, match="noise level is a number above 0"):
        po.certify(Closed(), PRIOR, po.GaussianLikelihood(LIKELIHOOD.operator, 0.0), 10)


def test_a_certificate_prints_what_is_worst_first() -> None:
    found = certify(Closed(blind=True), simulations=30)
    lines = str(found).splitlines()
    assert lines[0] == found.verdict and lines[2].startswith("log-likelihood")
    assert "With 30 simulations" in found.sees()


def test_faults_follow_the_kind() -> None:
    def tested(kind: Any, shift: float, width: float, adjusted: list[float]) -> set[str]:
        part = Statistic(
            name="", kind=kind, ranks=[], shift=shift, width=width, p_values=[], adjusted=adjusted
        )
        return part.faults(0.01)

    assert tested("value", 0.1, 1.4, [0.5, 0.001, 0.5]) == {"sure"}
    assert tested("value", 1.9, 0.4, [1e-9, 1e-9, 0.5]) == {"shifted"}
    assert tested("distance", -0.9, 1.0, [1e-9, 0.5, 0.5]) == {"wide"}
    assert tested("fit", -0.9, 1.0, [1e-9, 0.5, 0.001]) == {"overfitted", "shape"}
