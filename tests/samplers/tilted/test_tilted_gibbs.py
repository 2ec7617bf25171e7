"""The sampler of tilted laws that tends to the exact one."""

import math
from collections import deque
from dataclasses import fields
from itertools import islice

import pytest
import torch
from torch import Tensor

import posteria as po
from helpers import F64
from posteria.samplers.tilted.tilted_gibbs import TiltedGibbs, TiltedState

FAST = po.Karras(steps=40, sigma_min=0.01, sigma_max=20.0)


def mixture(
    weights: list[float], means: list[float], variances: list[float]
) -> po.GaussianMixture:
    """In one dimension."""
    means_, variances_ = (torch.tensor(v, dtype=F64) for v in (means, variances))
    return po.GaussianMixture(
        torch.tensor(weights, dtype=F64), means_[:, None], variances_[:, None, None]
    )


def white(mean: float, variance: float, d: int = 3) -> po.Gaussian:
    """A round Gaussian."""
    return po.Gaussian(torch.full((d,), mean, dtype=F64), variance * torch.eye(d, dtype=F64))


def tilted(given: po.Denoiser, free: po.Denoiser, weight: float) -> po.Tilted:
    return po.Tilted(po.Family(free, {0: given}), po.Label(0), weight)


TOY = tilted(mixture([1, 1], [1.5, 2.5], [0.1, 0.1]), mixture([1, 1], [-2, 2], [1, 1]), 3.0)
# The tilt takes most of the mass from the mode on the right.
MOVED = tilted(
    mixture([1, 1], [-1.5, 1.5], [0.1, 0.2]), mixture([35, 65], [-1.5, 1.5], [0.4, 0.35]), 3.0
)
GAUSSIAN = tilted(white(1.0, 0.25), white(-0.5, 1.0), 3.0)


def quantiles(target: po.Tilted, n: int) -> Tensor:
    """`n` quantiles of a tilted law in one dimension."""
    x = torch.linspace(-8, 8, 160_001, dtype=F64)[:, None]
    given, free = target.conditional, target.unconditional
    assert isinstance(given, po.GaussianMixture) and isinstance(free, po.GaussianMixture)
    log_density = target.weight * given.log_prob(x) + (1 - target.weight) * free.log_prob(x)
    edges = log_density.softmax(0).cumsum(0)
    points = (torch.arange(n, dtype=F64) + 0.5) / n
    return x[torch.searchsorted(edges, points).clamp(max=len(x) - 1), 0]


def distance(x: Tensor, target: po.Tilted) -> float:
    """Wasserstein-1 to the tilted law."""
    return float((x.flatten().sort().values - quantiles(target, len(x))).abs().mean())


def test_the_power_of_the_condition_grows_with_the_signal_to_noise_ratio() -> None:
    # Catches: a ratio of levels in place of variances, which no law sees, since every path of powers is exact.
    sampler = TiltedGibbs(schedule=FAST, sigma_star=0.5)
    powers = [sampler.power(GAUSSIAN, sigma) for sigma in (0.0, 0.25, 0.5, 1.0)]
    assert powers == pytest.approx([3.0, 1 + 2 / 1.25, 2.0, 1 + 2 / 5])


def test_a_gaussian_pair_in_closed_form() -> None:
    # Catches: classifier-free guidance's variance (1/64 here, the tilted law has 1/10), a weight that
    # is dropped, and a variance of the kernels that is not matched.
    x = TiltedGibbs(schedule=FAST).sample(GAUSSIAN, seeds=range(8192))
    variance = 1 / (3 / 0.25 - 2 / 1.0)
    mean = variance * (3 * 1.0 / 0.25 + 2 * 0.5 / 1.0)
    assert (x.mean(0) - mean).abs().max() < 0.05 * math.sqrt(variance)
    assert abs(float(x.var(0).mean()) / variance - 1) < 0.04


def test_the_integral_of_the_tilted_density_is_estimated() -> None:
    # Catches: weights that are only right up to a constant, such as a forgotten normaliser of the
    # geometric mixture. The closed form is (w - 1) times the Renyi divergence of two Gaussians.
    w, v1, v0, gap = 3.0, 0.25, 1.0, 1.5
    va = w * v0 + (1 - w) * v1
    each = 0.5 * (w * math.log(v0) + (1 - w) * math.log(v1) - math.log(va))
    exact = 3 * (each + 0.5 * w * (w - 1) * gap**2 / va)
    estimates = TiltedGibbs(schedule=FAST).log_evidence(GAUSSIAN, range(0, 4096, 512))
    assert estimates.logsumexp(0) - math.log(8) == pytest.approx(exact, abs=0.1)


def test_the_toy_of_the_guidance_papers() -> None:
    # Catches: the bias of classifier-free guidance (0.49 here) and of CFGiG (0.022 at 61 calls).
    family = po.diffusion.Counted(TOY.prior)
    sampler = TiltedGibbs(
        schedule=po.schedules.LogLinear(steps=50, sigma_min=0.02, sigma_max=80.0)
    )
    x = sampler.sample(po.Tilted(family, po.Label(0), 3.0), seeds=range(10_240))
    assert distance(x, TOY) < 0.012
    # Two members an evaluation: 50 guided evaluations and 50 guided vjps a sample.
    assert family.meter.forward == family.meter.backward == 100 * 10_240


def test_mass_moves_between_modes() -> None:
    # Catches: rounds at a small level in place of weights, which leave the modes their conditional
    # shares (0.5 each; the tilted law has 0.13 on the right).
    exact = float((quantiles(MOVED, 100_000) > 0).double().mean())
    assert 0.5 - exact > 1 / 3
    x = TiltedGibbs(schedule=po.Karras(steps=120, sigma_min=0.01, sigma_max=20.0)).sample(
        MOVED, seeds=range(5120)
    )
    assert float((x > 0).double().mean()) == pytest.approx(exact, abs=0.02)
    assert distance(x, MOVED) < 0.04


def rounds_from(x: Tensor, sampler: TiltedGibbs, target: po.Tilted) -> TiltedState:
    """Gibbs rounds alone, from given particles."""
    state = sampler.init(target, po.Rng([0]))
    state = TiltedState(**{
        **{f.name: getattr(state, f.name) for f in fields(state)},
        "x": x[None],
        "x0": x[None],
        "count": sampler.schedule.steps,
    })
    resume = (state, po.Rng([0]).state())
    last = deque(sampler.checkpoints(target, range(len(x)), resume), maxlen=1)[0][0]
    return last


def test_rounds_leave_the_tilted_law_as_it_is() -> None:
    # Catches: a Metropolis test with the ratio upside down, or without one: four rounds at the full
    # power then narrow the law as classifier-free guidance does.
    x = quantiles(TOY, 4096)[:, None]
    sampler = TiltedGibbs(
        schedule=FAST, particles=len(x), rounds=4, round_steps=12, sigma_star=0.6
    )
    last = rounds_from(x, sampler, TOY)
    assert distance(last.x[0], TOY) < 0.02
    assert 0.6 < float(last.accepted.mean()) / 4 < 0.99
    assert float((last.x[0] - x).abs().mean()) > 0.1


@pytest.mark.usefixtures("one_stream")
def test_rounds_alone_tilt_within_a_mode() -> None:
    # Catches: a round that does nothing. The mean of the tilted Gaussian is reached from the
    # conditional one, by each sample alone.
    sampler = TiltedGibbs(schedule=FAST, particles=1, rounds=16, round_steps=8, sigma_star=0.5)
    x = sampler.sample(GAUSSIAN, seeds=range(600))
    assert float(x.mean()) == pytest.approx(1.3, abs=0.03)
    assert float(x.var(0).mean()) == pytest.approx(0.1, rel=0.12)


def test_weight_one_is_the_conditional_law() -> None:
    # Catches: a weight that is owed where nothing is tilted.
    target = tilted(GAUSSIAN.conditional, GAUSSIAN.unconditional, 1.0)
    sampler = TiltedGibbs(schedule=FAST, particles=64)
    assert float(sampler.log_evidence(target, [0]).abs().max()) < 1e-9


@pytest.mark.parametrize(
    "sampler",
    [
        TiltedGibbs(schedule=po.Karras(steps=8), particles=16, sigma_star=0.5),
        TiltedGibbs(
            schedule=po.Karras(steps=6), particles=4, rounds=2, round_steps=3, sigma_star=0.5
        ),
        TiltedGibbs(
            schedule=po.Karras(steps=6), particles=1, rounds=2, round_steps=3, sigma_star=0.5
        ),
    ],
)
def test_a_sample_is_a_function_of_its_seed_and_a_run_resumes(sampler: TiltedGibbs) -> None:
    # Catches: weights, paths or Metropolis tests that are shared by populations, and memory that is
    # not in the state.
    x = sampler.sample(TOY, seeds=range(40))
    for seed in (0, 17, 39):
        assert torch.allclose(sampler.sample(TOY, [seed])[0], x[seed], rtol=0, atol=1e-10)
    runs = sampler.checkpoints(TOY, range(40))
    state, rng = next(islice(runs, 4, None))
    rest = deque(sampler.checkpoints(TOY, range(40), (state, rng.state())), maxlen=1)[0][0]
    assert torch.equal(sampler.draws(TOY, rest, range(40)), x)


def test_what_it_refuses() -> None:
    # Catches: a traceback from inside torch.
    with pytest.raises(po.InputError, match="sigma_star is a level of the schedule"):
        TiltedGibbs(sigma_star=100.0)
    with pytest.raises(po.InputError, match="rounds of TiltedGibbs is an integer, at least 0"):
        TiltedGibbs(rounds=-1)
    with pytest.raises(po.InputError, match="between two levels"):
        TiltedGibbs(schedule=po.schedules.Table(steps=50), rounds=1)
    # At weight 1 a tilted law may lack the member that the sampler asks at any weight.
    alone = po.Tilted(po.Family(None, {0: white(0.0, 1.0)}), po.Label(0), 1.0)
    with pytest.raises(po.CapabilityError, match="no unconditional member"):
        TiltedGibbs().check(alone, [0])
    # Catches: an estimate of 0 that is none.
    with pytest.raises(po.InputError, match="needs a population"):
        TiltedGibbs(particles=1).log_evidence(GAUSSIAN, [0])
    with pytest.raises(po.CapabilityError, match="TiltedGibbs needs a Tilted"):
        TiltedGibbs().sample(white(0.0, 1.0), seeds=[0])
