"""Rules as guiders of diffusers."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    EDMEulerScheduler,
)
from diffusers.guiders import (
    AdaptiveProjectedGuidance,
    BaseGuidance,
    ClassifierFreeGuidance,
    ClassifierFreeZeroStarGuidance,
)
from torch import Tensor, nn

import posteria as po
from common.models.diffusers_models import EPSILON, LEADING, QUIET, continued, ddim, flow
from helpers import normal
from posteria.guidance.base import StepInfo, TiltedRule
from posteria.guidance.models.autoguidance import AutoGuidance
from posteria.guidance.tilted.adaptive import AdaptiveGuidance
from posteria.guidance.tilted.two_level import TwoLevel
from posteria.interop import to_diffusers
from posteria.priors import (
    schedule_of,
)
from posteria.priors.pipeline.schedulers import reading_of
from posteria.priors.pipeline.schedules import sigma_of

pytestmark = QUIET

# As a pipeline is saved with it: no object, from which levels could be taken.
NAMED = {**LEADING, "_class_name": "DDIMScheduler", "num_train_timesteps": 1000}


def guided_loop(
    guider: BaseGuidance,
    scheduler: Any,
    network: Callable[[Tensor, Tensor, int], Tensor],
    x: Tensor,
    steps: int,
) -> tuple[Tensor, list[int]]:
    """The loop of a modular pipeline; the latents at its end, and how many passes each step took."""
    scheduler.set_timesteps(steps)
    passes = []
    for i, t in enumerate(scheduler.timesteps):
        guider.set_state(step=i, num_inference_steps=steps, timestep=t)
        batches = guider.prepare_inputs({"member": (torch.tensor(1), torch.tensor(0))})
        for batch in batches:
            guider.prepare_models(None)
            assert guider.is_conditional == bool(batch.member)
            batch.noise_pred = network(scheduler.scale_model_input(x, t), t, int(batch.member))
            guider.cleanup_models(None)
        passes.append(len(batches))
        x = scheduler.step(guider(batches)[0], t, x).prev_sample
    return x, passes


def outputs(step: int, n: int = 3) -> dict[str, Tensor]:
    """Two outputs of some network at a step; the batch is first."""
    return {
        "pred_cond": normal(n, 2, 4, 4, seed=10 + step).float(),
        "pred_uncond": normal(n, 2, 4, 4, seed=90 + step).float(),
    }


def run(guider: BaseGuidance, times: list[float], n: int = 3) -> list[Tensor]:
    """What a guider makes of the outputs of a network at some timesteps."""
    said = []
    for step, t in enumerate(times):
        guider.set_state(step=step, num_inference_steps=len(times), timestep=torch.tensor(t))
        given = outputs(step, n)
        batches = guider.prepare_inputs({"noise_pred": (given["pred_cond"], given["pred_uncond"])})
        said.append(guider(batches).pred)
    return said


TIMES = [901.0, 601.0, 301.0, 1.0]

CLEAN = ddim("sample")

VELOCITY = ddim("v_prediction")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (to_diffusers(po.CFG(3.0)), ClassifierFreeGuidance(3.0)),
        (to_diffusers(po.CFG(), weight=0.5), ClassifierFreeGuidance(0.5)),
        (to_diffusers(po.CFG(1.0)), ClassifierFreeGuidance(1.0)),
        (
            to_diffusers(po.CFG(3.0), start=0.3, stop=0.8),
            ClassifierFreeGuidance(3.0, start=0.3, stop=0.8),
        ),
        (
            to_diffusers(
                po.guidance.Rescale(5.0, 0.6, output=po.diffusion.Epsilon()), scheduler=EPSILON
            ),
            ClassifierFreeGuidance(5.0, guidance_rescale=0.6),
        ),
        (to_diffusers(po.APG(3.0, eta=1.0), scheduler=EPSILON), ClassifierFreeGuidance(3.0)),
        # diffusers' other formulation of APG is the paper's.
        (
            to_diffusers(po.APG(4.0, eta=0.25, radius=2.0, beta=-0.5), scheduler=CLEAN),
            AdaptiveProjectedGuidance(
                3.0,
                adaptive_projected_guidance_momentum=-0.5,
                adaptive_projected_guidance_rescale=2.0,
                eta=0.25,
                use_original_formulation=True,
            ),
        ),
        (
            to_diffusers(po.guidance.ZeroStar(4.0, zero_init_steps=2), scheduler=flow()),
            ClassifierFreeZeroStarGuidance(4.0, zero_init_steps=2),
        ),
    ],
    ids=["cfg", "below-one", "one", "window", "rescale", "neutral-apg", "apg", "zero-star"],
)
def test_a_guider_says_what_that_of_diffusers_does(
    ours: BaseGuidance, theirs: BaseGuidance
) -> None:
    # Catches: members in the wrong order, the paper's weight for diffusers', a norm over the
    # batch, a momentum that is not reset by a new run, a factor of the level that does not cancel.
    for _ in range(2):
        for a, b in zip(run(ours, TIMES), run(theirs, TIMES), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


class Toy(nn.Module):
    """A network of two members with outputs that depend on signal, time and member."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(3, 4, 4, seed=5) / 2)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        mixed = torch.tanh(x @ self.weight[label][:, None]) + self.weight[2]
        return mixed * (1 + time.to(x) / 500)[:, None, None, None]


def toy(scheduler: Any) -> po.Network:
    space = po.Space((2, 4, 4), torch.float64)
    return po.Network(Toy(), space, reading_of(scheduler), labels=2, null_label=0)


RULES: list[tuple[TiltedRule, list[Any]]] = [
    (po.CFG(3.0), [EPSILON, VELOCITY, CLEAN, flow(), EDMEulerScheduler()]),
    (
        po.guidance.Interval(3.0, low=0.3, high=5.0),
        [EPSILON, VELOCITY, flow(), EDMEulerScheduler()],
    ),
    (po.APG(3.0, eta=1.0, radius=0.7, beta=-0.5), [EPSILON, VELOCITY, flow()]),
    (po.APG(3.0, radius=0.7, beta=-0.5), [CLEAN]),
    (po.guidance.Rescale(3.0), [VELOCITY]),
    (po.guidance.Rescale(3.0, output=po.diffusion.FlowMatching()), [flow()]),
    (po.guidance.ZeroStar(3.0), [flow()]),
    (AdaptiveGuidance(3.0, threshold=0.8), [EPSILON]),
    (po.guidance.CFGPlusPlus(lam=0.4), [EPSILON, VELOCITY, flow()]),
]


@pytest.mark.parametrize(
    ("rule", "scheduler"), [(rule, scheduler) for rule, kinds in RULES for scheduler in kinds]
)
def test_a_guider_is_the_rule_without_the_latents(rule: TiltedRule, scheduler: Any) -> None:
    # Catches: a rule that depends on the latents and is exported all the same, a wrong level, a
    # memory in the units of one step, rows of a memory that change places.
    prior = toy(scheduler)
    target = po.Tilted(prior, po.Label(1), 3.0)
    scheduler.set_timesteps(12)
    guider = to_diffusers(rule, scheduler=scheduler)
    levels = [sigma_of(prior.parametrisation, float(t)) for t in scheduler.timesteps] + [0.0]
    memory: dict[str, Tensor] = {}
    for i, (t, sigma) in enumerate(zip(scheduler.timesteps, levels[:-1], strict=True)):
        sigma = min(sigma, 1e6)
        x = (1 + sigma) * normal(3, 2, 4, 4, seed=i)
        memory = memory or rule.init(target, x)
        info = StepInfo(sigma, levels[i + 1], i, 12)
        want, memory, _ = rule(target, x, info, memory)
        _, skip, out = prior.parametrisation.coefficients(sigma)
        guider.set_state(step=i, num_inference_steps=12, timestep=t)
        members = (prior.given(po.Label(1)), prior)[: guider.num_conditions]
        said = [(member(x, sigma) - skip * x) / out for member in members]
        x0 = skip * x + out * guider.forward(*said).pred
        torch.testing.assert_close(x0, want, rtol=1e-6, atol=1e-6 * (1 + sigma))


def test_the_unconditional_pass_is_made_only_where_a_rule_asks() -> None:
    # Catches: an interval in steps and not in levels, a pass too many outside, an adaptive rule
    # that never ends, a pipeline that has no negative prompt in its second run because the first
    # ended outside.
    rule = po.guidance.Interval(3.0, low=0.5, high=3.0)
    guider = to_diffusers(rule, scheduler=EPSILON)
    network = toy(EPSILON).module

    def ask(x: Tensor, t: Tensor, member: int) -> Tensor:
        return network(x, t.expand(len(x)), torch.full((len(x),), member))

    for _ in range(2):
        assert guider.num_conditions == 2
        _, passes = guided_loop(guider, EPSILON, ask, normal(2, 2, 4, 4), 20)
        levels = [sigma_of(reading_of(EPSILON), float(t)) for t in EPSILON.timesteps]
        assert passes == [1 + (0.5 < sigma <= 3.0) for sigma in levels]
        assert 3 < sum(passes) - 20 < 17
    ending = to_diffusers(AdaptiveGuidance(3.0, threshold=0.8, armed=False), scheduler=EPSILON)
    _, passes = guided_loop(ending, EPSILON, ask, normal(2, 2, 4, 4), 20)
    assert passes == sorted(passes, reverse=True)
    assert set(passes) == {1, 2}
    ending.disable()
    assert ending.num_conditions == 1
    starting = to_diffusers(po.guidance.ZeroStar(3.0, zero_init_steps=2), scheduler=flow())
    starting.set_state(step=1, num_inference_steps=10, timestep=900.0)
    assert starting.num_conditions == 1


@pytest.mark.parametrize("rule", [po.CFG(2.0), po.guidance.CFGPlusPlus(lam=0.4)])
def test_a_loop_of_diffusers_with_a_guider_is_ours(rule: TiltedRule) -> None:
    # Catches: CFG++ with the level of another step, which no test of a single step sees.
    scheduler = ddim()
    prior = toy(scheduler)
    target = po.Tilted(prior, po.Label(1), 2.0)
    sampler = po.Guided(schedule=schedule_of(scheduler, 10), rule=rule, solver=po.DDIM())
    x = 14.0 * normal(2, 2, 4, 4)

    def ask(z: Tensor, t: Tensor, member: int) -> Tensor:
        return prior.module(z, t.expand(len(z)), torch.full((len(z),), member))

    start = x / math.hypot(1, sampler.schedule.levels()[0])
    guider = to_diffusers(rule, scheduler=scheduler)
    theirs, _ = guided_loop(guider, scheduler, ask, start, 10)
    torch.testing.assert_close(theirs, continued(sampler, target, x), rtol=1e-4, atol=1e-4)


def test_a_guider_is_saved_and_copied(tmp_path: Path) -> None:
    # Catches: a configuration that holds an object, so that a pipeline with it cannot be saved.
    rule = po.APG(eta=1.0, radius=2.0, beta=-0.5)
    guider = to_diffusers(rule, scheduler=EPSILON, weight=4.0, stop=0.9)
    guider.save_pretrained(tmp_path)
    for other in (type(guider).from_pretrained(tmp_path), guider.new()):
        assert other.rule == rule
        assert other.guidance_scale == pytest.approx(4.0)
        for a, b in zip(run(guider, TIMES), run(other, TIMES), strict=True):
            assert torch.equal(a, b)
    changed = guider.new(weight=2.0)
    assert changed.guidance_scale == pytest.approx(2.0)
    assert "num_conditions: 2" in repr(guider)


def test_half_precision_does_not_overflow() -> None:
    # Catches: a squared norm in float16, which is infinite here, so that nothing is left of the push.
    guider = to_diffusers(po.APG(3.0, eta=1.0, radius=1e5), scheduler=EPSILON)
    guider.set_state(step=0, num_inference_steps=1, timestep=500)
    given, free = (500 * output for output in outputs(0).values())
    want = free + 3.0 * (given - free)
    pred = guider.forward(given.half(), free.half()).pred
    assert pred.dtype == torch.float16
    torch.testing.assert_close(pred.float(), want, rtol=1e-2, atol=5.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: to_diffusers(po.APG(3.0), scheduler=EPSILON), "needs eta=1"),
        (
            lambda: to_diffusers(po.guidance.Rescale(3.0), scheduler=EPSILON),
            "Rescale needs the output",
        ),
        (lambda: to_diffusers(po.guidance.ZeroStar(3.0), scheduler=EPSILON), "flow matching"),
        (lambda: to_diffusers(TwoLevel(3.0), scheduler=EPSILON), "from_diffusers"),
        (
            lambda: to_diffusers(AutoGuidance(3.0)),
            "AutoGuidance needs the latents or other models",
        ),
        (lambda: to_diffusers(po.guidance.Interval(3.0)), "scheduler=pipe.scheduler"),
        (lambda: to_diffusers(po.CFG()), "CFG has no weight of its own"),
        (lambda: to_diffusers(po.APG(0.5, eta=1.0), scheduler=EPSILON), "at least 1"),
        (
            lambda: run(to_diffusers(po.guidance.CFGPlusPlus(), scheduler=NAMED), TIMES),
            "guider.follow",
        ),
        (lambda: to_diffusers(po.CFG(2.0)).forward(torch.zeros(1, 1), None), "set_state"),
    ],
)
def test_what_a_guider_cannot_be_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(po.PosteriaError, match=words):
        make()
