"""Measurements that a prior excludes: a sentence at the level where it is known, and none on ordinary problems."""

from dataclasses import replace

import pytest
import torch

import posteria as po
from posteria.problems.pictures import NOISE, PICTURES, pictures_exact, tiny
from posteria.samplers import Exact, PosteriorSampler, Tempered
from posteria.samplers.base import Sampler
from posteria.samplers.particles.population import explained

FEW: dict[str, PosteriorSampler] = {
    "tempered": Tempered(particles=16).with_steps(8),
    "exact": Exact(particles=16).with_steps(32),
}


@pytest.mark.parametrize("sampler", FEW.values(), ids=FEW)
def test_what_the_prior_excludes_is_said_in_a_sentence(sampler: Sampler) -> None:
    # Catches: a run that ends in silence with particles that all are far from the measurement; one of 256 levels that
    # is only seen to be in vain after the last.
    target, steps = pictures_exact("box", 0.1, seed=0, prior=tiny()).target, 0
    for y in (10.0, 1e30):
        states = sampler.iterate(replace(target, y=torch.full_like(target.y, y)), [0])
        with pytest.raises(po.InputError, match="measurement that the prior excludes") as caught:
            for state in states:
                steps = state.count
        assert str(caught.value).startswith(type(sampler).__name__)
        assert "the units of y, the operator and the noise level" in str(caught.value)
    assert isinstance(sampler, Exact) or steps < sampler.schedule.steps - 1


@pytest.mark.parametrize("sampler", FEW.values(), ids=FEW)
@pytest.mark.parametrize("std", NOISE)
def test_it_is_silent_on_the_testbed(sampler: Sampler, std: float) -> None:
    # Catches: an alarm for few particles or steps. The largest residuals of the nearest particle on all tasks with
    # digits of 784 pixels are 1.2 (tempered, 3 steps of 16 particles) and 2.7 (exact, 48 steps of 64); 4 is an alarm.
    for task in PICTURES:
        sampler.sample(pictures_exact(task, std, seed=1, prior=tiny()).target, [0])


def test_few_measurements_may_be_far_by_chance() -> None:
    # Catches: one bound for any number of measurements: the root of one squared standard normal is beyond 4 in 6e-5 of
    # the cases, and that of 100 in none.
    for size, most in ((1, 6.0), (4, 4.0), (100, 4.0)):
        explained(torch.tensor([[9.0, 0.98 * most], [9.0, 1.0]]), size, "it")
        with pytest.raises(po.InputError):
            explained(torch.tensor([[9.0, 1.2 * most], [9.0, 1.0]]), size, "it")
    with pytest.raises(po.InputError, match="inf times"):
        explained(torch.tensor([[torch.nan]]), 100, "it")


@pytest.mark.parametrize("name", ["tds", "fk"])
@pytest.mark.parametrize("left", [-torch.inf, torch.nan])
def test_a_population_without_a_weight_is_not_drawn_from(name: str, left: float) -> None:
    # Catches: particles that a constraint excludes, or whose log-likelihood is nan, drawn as if all were as good.
    def log_prob(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, 0] > 9, 0 * x[:, 0], left)

    prior = po.Gaussian(torch.zeros(2), torch.eye(2))
    target = po.Posterior(prior, po.FunctionLikelihood(log_prob), torch.tensor(0.0))
    sampler = po.samplers.SAMPLERS[name](particles=8).with_steps(6)
    with pytest.raises(po.InputError, match=r"all have the weight 0|is nan"):
        sampler.sample(target, 2)
