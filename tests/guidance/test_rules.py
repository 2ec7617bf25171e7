"""One contract of rules: those of a posterior with any solver, and a tilted rule inside one."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import posteria as po
from common.guidance.battery import RULES as TILTED_RULES
from helpers import F64, linear_posterior, normal, random_covariance
from posteria.guidance import LIKELIHOOD_RULES, RULES, Estimate, Memory, Nested, StepInfo
from posteria.guidance.base import TiltedRule
from posteria.samplers import POSTERIOR_SAMPLERS
from posteria.samplers.ruled import RuledSampler
from posteria.testing import example_posterior, example_tilted

LEVELS = po.Karras(steps=12)
SOLVERS = [po.DDIM(), po.solvers.DDPM(), po.Heun(), po.solvers.DPMpp2M(), po.solvers.DPMpp2M(1.0)]


@pytest.mark.parametrize("name", sorted(set(LIKELIHOOD_RULES) & set(POSTERIOR_SAMPLERS)))
def test_a_short_name_is_its_rule_with_its_solver(name: str) -> None:
    # Catches: a setting that does not reach the rule, a push that the generic sampler forgets or adds at
    # another place.
    target = example_posterior()
    short: Any = POSTERIOR_SAMPLERS[name]().with_steps(12)
    assert isinstance(short, RuledSampler)
    assert isinstance(short.rule, LIKELIHOOD_RULES[name])
    if name == "tfg":
        short = replace(short, repeats=1)
    guided = short.guided
    assert type(guided) is po.Guided and guided.rule == short.rule
    assert torch.equal(guided.sample(target, 5), short.sample(target, 5))
    # A sampler that is short for a rule stands for it.
    assert po.Guided(rule=POSTERIOR_SAMPLERS[name]()) == po.Guided(rule=LIKELIHOOD_RULES[name]())
    assert po.samplers.rebuild_sampler(repr(guided)) == guided


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_an_exact_rule_draws_the_posterior_with_every_solver(solver: po.solvers.Solver) -> None:
    # MMPS is exact for Gaussians: whatever the solver, mean and covariance are the posterior's.
    # Catches: a solver that asks at another level than it says, a rule that is asked with the wrong one.
    prior = po.Gaussian(normal(4), random_covariance(4))
    target = linear_posterior(prior)
    exact = prior.posterior(target.likelihood, target.y)
    few = isinstance(solver, po.Heun)
    schedule = po.Karras(steps=60 if few else 150, sigma_max=50.0)
    sampler = po.Guided(rule=po.MMPS(), solver=solver, schedule=schedule)
    x = sampler.sample(target, 4000)
    spread = exact.covariance.diagonal().sqrt()
    assert ((x.mean(0) - exact.mean) / spread).abs().max() < 0.08
    assert (x.std(0) / spread - 1).abs().max() < 0.06


def test_a_setting_that_would_be_lost_is_refused() -> None:
    # Catches: a schedule of the short name that Guided drops in silence.
    for lost in (po.MMPS(schedule=LEVELS), po.MMPS(eta=0.0), po.DPS(order=2)):
        with pytest.raises(po.InputError, match="are settings of Guided"):
            po.Guided(rule=lost)
    with pytest.raises(po.CapabilityError, match="Guided needs a Rule; this is a Karras"):
        po.Guided(rule=LEVELS)  # type: ignore[arg-type]


def guided_restoration() -> po.Posterior:
    """A measurement whose prior is a tilted law."""
    return replace(example_posterior(), prior=example_tilted(2.0))


def test_cfg_inside_a_rule_is_that_rule_on_the_tilted_law() -> None:
    # Catches: an inner rule that is asked at another level, a derivative that misses one of the members.
    target = guided_restoration()
    for outer in (po.MMPS(), po.samplers.PiGDM(prior_std=1.0), po.DPS()):
        plain = po.Guided(rule=outer, schedule=LEVELS).sample(target, 4)
        nested = po.Guided(rule=Nested(outer, po.CFG()), schedule=LEVELS).sample(target, 4)
        assert torch.allclose(nested, plain, atol=1e-9)


class Remembering(TiltedRule):
    """The estimate of CFG, with a memory of all that was asked."""

    def init(self, target: po.Tilted, x: torch.Tensor) -> Memory:
        return {"asked": torch.zeros(len(x), dtype=F64)}

    def __call__(
        self, target: po.Tilted, x: torch.Tensor, info: StepInfo, memory: Memory
    ) -> Estimate:
        return Estimate(target(x, info.sigma), {"asked": memory["asked"] + info.sigma})


def test_an_inner_rule_with_memory() -> None:
    # Catches: a memory that is lost between steps, or advanced once for each derivative.
    target = guided_restoration()
    sampler = po.Guided(rule=Nested(po.MMPS(), Remembering()), solver=po.DDIM(), schedule=LEVELS)
    *_, last = sampler.iterate(target, 3)
    expected = torch.full((3,), sum(LEVELS.levels()), dtype=F64)
    assert torch.allclose(last.memory["inner.asked"], expected)
    apg = po.Guided(rule=Nested(po.MMPS(), po.APG(3.0, beta=-0.5)), schedule=LEVELS)
    whole = apg.sample(target, [3, 7, 11])
    assert torch.allclose(whole[1:2], apg.sample(target, [7]), atol=1e-10)
    with pytest.raises(po.CapabilityError, match="Nested needs a Tilted"):
        apg.sample(example_posterior(), 1)


class Pushing(Remembering):
    """A rule of a tilted law that moves the iterate."""

    def __call__(
        self, target: po.Tilted, x: torch.Tensor, info: StepInfo, memory: Memory
    ) -> Estimate:
        return super().__call__(target, x, info, memory)._replace(push=0 * x + 1)


def test_an_inner_rule_that_pushes_is_refused() -> None:
    # Catches: a push that is dropped in silence.
    sampler = po.Guided(rule=Nested(po.MMPS(), Pushing()), schedule=LEVELS)
    with pytest.raises(po.CapabilityError, match="Pushing pushes the iterate"):
        sampler.sample(guided_restoration(), 1)


def test_rules_refuse_the_other_kind_of_target() -> None:
    # Catches: a rule of a posterior that takes a tilted law for a prior, and the other way round, and a rule whose own
    # check forgets that of all (an AttributeError).
    with pytest.raises(po.CapabilityError, match="MMPS needs a Posterior; this is a Tilted"):
        po.Guided(rule=po.MMPS()).sample(example_tilted(), 1)
    for rule in TILTED_RULES.values():
        name = type(rule).__name__
        with pytest.raises(
            po.CapabilityError, match=f"{name} needs a Tilted; this is a Posterior"
        ):
            po.Guided(rule=rule).sample(example_posterior(), 1)
    assert not set(RULES) & set(LIKELIHOOD_RULES)


def test_a_number_of_samples_steps_and_a_run() -> None:
    # Catches: a bare TypeError for `sample(target, 8)`, seeds that do not begin at 0, a cost that is the
    # batch's, steps that take other settings with them.
    target, sampler = example_posterior(), po.MMPS(iterations=2).with_steps(9)
    assert sampler == po.MMPS(iterations=2, schedule=po.Karras(steps=9))
    assert torch.equal(sampler.sample(target, 3), sampler.sample(target, [0, 1, 2]))
    drawn = sampler.run(target, 3)
    assert torch.equal(drawn.x, sampler.sample(target, 3))
    assert drawn.seeds == (0, 1, 2) and len(drawn) == 3
    assert (drawn.cost.forward, drawn.cost.backward) == (9, 18)
    # Of the operator a step asks one evaluation, and in each iteration its adjoint and itself.
    assert drawn.cost.operator == 9 * (1 + 2 * 2)
    assert drawn.log_evidence is None
    tilted = po.Guided(schedule=po.Karras(steps=5), solver=po.DDIM()).run(example_tilted(), 2)
    assert tilted.cost.forward == 10
