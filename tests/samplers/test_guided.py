"""Tilted laws, families of priors, and a rule with a solver."""

from collections import deque
from dataclasses import dataclass
from itertools import islice

import pytest
import torch
from torch import Tensor

import posteria as po
from helpers import F64, gaussian, mixture, normal
from posteria.core import linalg
from posteria.guidance.base import Estimate, Memory, StepInfo, TiltedRule
from posteria.guidance.classifiers.classifier import BayesClassifier
from posteria.samplers.guided import Guided
from posteria.target import Tilted
from posteria.testing import check_denoiser

STEPS = po.Karras(steps=12)


def family(k: int = 2) -> po.Family:
    members = {i: mixture(seed=10 * i + 10) for i in range(k)}
    return po.Family(mixture(seed=3), members)


def test_a_tilted_law_as_a_denoiser_is_guidance() -> None:
    # Catches: a power that is off by one (the papers' weight is ours minus 1), and a pullback of one
    # member only.
    target = Tilted(family(), po.Label(1), 2.5)
    x = normal(5, 4, seed=1)
    given, free = target.conditional(x, 0.7), target.unconditional(x, 0.7)
    assert torch.allclose(target(x, 0.7), given + 1.5 * (given - free))
    v = normal(5, 4, seed=2)
    by_hand = linalg.vjp(lambda z: target(z, 0.7), x)[1](v)
    assert torch.allclose(target.vjp(x, 0.7)[1](v), by_hand)
    check_denoiser(target)


@pytest.mark.parametrize(("weight", "calls"), [(0.0, 1), (1.0, 1), (2.0, 2)])
def test_members_whose_share_is_zero_are_not_evaluated(weight: float, calls: int) -> None:
    # Catches: paying twice for the conditional law; and a family whose members are not counted.
    counted = po.diffusion.Counted(family())
    target = Tilted(counted, po.Label(0), weight)
    Guided(schedule=STEPS, solver=po.DDIM()).sample(target, seeds=[0, 1])
    assert counted.meter.forward == 2 * calls * 12
    target(normal(3, 4), 1.0)
    assert counted.meter.forward == 2 * calls * 12 + 3 * calls


def test_cfg_is_the_solver_on_the_tilted_denoiser() -> None:
    # Catches: a guided sampler with a start or a solver of its own.
    target = Tilted(family(), po.Label(0), 2.0)
    x = Guided(schedule=STEPS).sample(target, seeds=range(6))
    assert torch.equal(x, po.Unconditional(schedule=STEPS).sample(target, seeds=range(6)))
    rule = po.CFG(2.0).denoiser(Tilted(family(), po.Label(0), 5.0))
    assert torch.allclose(x, po.Unconditional(schedule=STEPS).sample(rule, seeds=range(6)))


@pytest.mark.usefixtures("one_stream")
def test_the_rule_of_an_affine_pair_in_closed_form() -> None:
    # Catches: a target's weight that the rule does not use, or the other way round. With equal
    # covariances guidance is exact: N(m_u + w (m_c - m_u), C).
    center, other = gaussian(seed=1), gaussian(seed=1)
    shifted = po.Gaussian(other.mean + 1.0, other.covariance)
    target = Tilted(po.Family(center, {0: shifted}), po.Label(0), 3.0)
    schedule = po.Karras(steps=60, sigma_min=0.005, sigma_max=400.0)
    for rule, shift in ((po.CFG(), 3.0), (po.CFG(2.0), 2.0)):
        x = Guided(schedule=schedule, rule=rule).sample(target, seeds=range(4000))
        error = x.mean(0) - (center.mean + shift)
        assert error.abs().max() < 0.06


@dataclass(frozen=True)
class Average(TiltedRule):
    """A rule with a memory: the mean of all estimates so far."""

    def init(self, target: Tilted, x: Tensor) -> Memory:
        return {"sum": torch.zeros_like(x), "count": torch.zeros(len(x), dtype=F64)}

    def __call__(self, target: Tilted, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        total = memory["sum"] + target.conditional(x, info.sigma)
        count = memory["count"] + 1
        assert (count == info.index + 1).all()
        return Estimate(total / count[:, None], {"sum": total, "count": count})


def test_memory_is_in_the_state() -> None:
    # Catches: a memory on the rule, which survives a run, is shared by runs and lost when one resumes.
    sampler = Guided(schedule=STEPS, solver=po.DDIM(), rule=Average())
    target = Tilted(family(), po.Label(0), 1.0)
    x = sampler.sample(target, seeds=range(3))
    state, rng = next(islice(sampler.checkpoints(target, range(3)), 5, None))
    rest = deque(sampler.iterate(target, range(3), (state, rng.state())), maxlen=1)[0]
    assert torch.equal(rest.x, x)
    assert torch.allclose(sampler.sample(target, seeds=[2])[0], x[2], rtol=0, atol=1e-10)


def test_where_a_rule_is() -> None:
    # Catches: an off-by-one in the next level, on which CFG++ depends.
    levels = [4.0, 2.0, 1.0, 0.0]
    assert StepInfo.of(levels, 4.0) == StepInfo(4.0, 2.0, 0, 3)
    assert StepInfo.of(levels, 1.0) == StepInfo(1.0, 0.0, 2, 3)


@pytest.mark.usefixtures("one_stream")
def test_guided_restoration() -> None:
    # Catches: a tilted prior that a sampler of posteriors takes for its unconditional member. For equal
    # covariances guidance is exact, so that the posterior is that of the shifted Gaussian.
    center = gaussian(seed=1)
    shifted = po.Gaussian(center.mean + 1.0, center.covariance)
    prior = Tilted(po.Family(center, {0: shifted}), po.Label(0), 2.0)
    operator = po.operators.Matrix(normal(2, 4, seed=11), (4,))
    likelihood, y = po.GaussianLikelihood(operator, std=0.5), normal(2, seed=12)
    exact = po.Gaussian(center.mean + 2.0, center.covariance).posterior(likelihood, y)
    x = po.MMPS(schedule=po.Karras(steps=100)).sample(
        po.Posterior(prior, likelihood, y), seeds=range(3000)
    )
    assert ((x.mean(0) - exact.mean) / exact.covariance.diag().sqrt()).abs().max() < 0.08


def test_a_bayes_classifier_is_the_ratio_of_laws() -> None:
    # Catches: shares that are not in the logits, and a noise level that is not in the laws.
    laws = [mixture(seed=1), mixture(seed=2)]
    classifier = BayesClassifier(laws, shares=[1.0, 3.0])
    x = normal(6, 4, seed=5)
    joint = torch.stack([laws[0].noised(0.5).log_prob(x), laws[1].noised(0.5).log_prob(x)], -1)
    joint = joint.exp() * torch.tensor([0.25, 0.75], dtype=F64)
    exact = joint[:, 1] / joint.sum(-1)
    assert torch.allclose(classifier.log_prob(1, x, 0.5).exp(), exact)


def test_what_is_refused() -> None:
    # Catches: failing in the middle of a run, or with a traceback from inside torch.
    some = family()
    with pytest.raises(po.CapabilityError, match="Tilted needs a Conditional"):
        Tilted(mixture(), po.Label(0), 2.0)  # type: ignore[arg-type]
    with pytest.raises(po.InputError, match="no member for Label"):
        Tilted(some, po.Label(7), 2.0)
    with pytest.raises(po.InputError, match="weight of a tilted law"):
        Tilted(some, po.Label(0), -1.0)
    with pytest.raises(po.CapabilityError, match="no unconditional member"):
        Tilted(po.Family(None, {0: mixture()}), po.Label(0), 2.0)
    with pytest.raises(po.InputError, match="at least one member"):
        po.Family(mixture(), {})
    with pytest.raises(po.ShapeError, match="member of the family draws signals of shape"):
        po.Family(mixture(d=3), {0: mixture(d=4)})
    with pytest.raises(po.CapabilityError, match="needs a Conditional"):
        po.diffusion.Counted(mixture()).given(po.Label(0))
    with pytest.raises(po.InputError, match="weight of CFG is None, or at least 0; nan is not"):
        po.CFG(float("nan"))
    with pytest.raises(po.CapabilityError, match=r"the class MMPS: make one, MMPS\(...\)"):
        Guided(rule=po.MMPS)  # type: ignore[arg-type]
    with pytest.raises(po.CapabilityError, match="CFG needs a Tilted"):
        Guided().sample(mixture(), seeds=[0])  # type: ignore[arg-type]
    # Without the unconditional member the conditional law itself can still be drawn.
    alone = Tilted(po.Family(None, {0: mixture()}), po.Label(0), 1.0)
    with pytest.raises(po.CapabilityError, match="no unconditional member"):
        Guided(rule=po.CFG(3.0)).sample(alone, seeds=[0])
