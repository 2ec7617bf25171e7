"""Rules as guiders of diffusers, and pipelines of diffusers as priors."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.guiders import (
    AdaptiveProjectedGuidance,
    BaseGuidance,
    ClassifierFreeGuidance,
    ClassifierFreeZeroStarGuidance,
)
from torch import Tensor, nn

import posteria as po
from helpers import normal
from posteria.guidance.base import StepInfo, TiltedRule
from posteria.guidance.models.autoguidance import AutoGuidance
from posteria.guidance.tilted.adaptive import AdaptiveGuidance
from posteria.guidance.tilted.two_level import TwoLevel
from posteria.interop import to_diffusers
from posteria.priors import (
    Embeddings,
    GivenLevels,
    Prompt,
    decode,
    from_diffusers,
    sample_pipeline,
    schedule_of,
)
from posteria.priors.pipeline.schedulers import reading_of
from posteria.priors.pipeline.schedules import sigma_of
from posteria.samplers.guided import GuidedState
from posteria.samplers.tilted.cfgig import CFGiG

# NumPy tells schedulers of diffusers, made or asked for timesteps, that PyTorch's arrays will change.
# Networks of random weights have no scale.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*diverged:RuntimeWarning"),
]

# The table of Stable Diffusion, without the noise that its DDIM leaves in the result.
TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LEADING = {**TABLE, "timestep_spacing": "leading", "steps_offset": 1}


# As a pipeline is saved with it: no object, from which levels could be taken.
NAMED = {**LEADING, "_class_name": "DDIMScheduler", "num_train_timesteps": 1000}


def ddim(prediction: str = "epsilon") -> DDIMScheduler:
    return DDIMScheduler(**LEADING, clip_sample=False, prediction_type=prediction)


def flow() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


# ---------------------------------------------------------------------------------------- guiders


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
EPSILON = ddim("epsilon")
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


# --------------------------------------------------------------------------------------- pipelines


@cache
def vae() -> AutoencoderKL:
    torch.manual_seed(3)
    return AutoencoderKL(
        block_out_channels=(4, 4),
        norm_num_groups=2,
        latent_channels=4,
        sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        scaling_factor=0.3,
    ).eval()


@cache
def pixels(classes: int | None = None) -> UNet2DModel:
    return channels(2, 2, classes)


def channels(given: int, made: int, classes: int | None = None) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8,
        in_channels=given,
        out_channels=made,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        num_class_embeds=classes,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval()


@cache
def dit() -> DiTTransformer2DModel:
    torch.manual_seed(1)
    return DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        norm_num_groups=2,
        num_embeds_ada_norm=1000,
    ).eval()


@cache
def text_unet(xl: bool = False) -> UNet2DConditionModel:
    torch.manual_seed(2)
    more: dict[str, Any] = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + 8,
    }
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **(more if xl else {}),
    ).eval()


TOKENS, NO_TOKENS = normal(7, 8, seed=1).float(), normal(7, 8, seed=2).float()
POOLED, NO_POOLED = normal(8, seed=3).float(), normal(8, seed=4).float()


def text_prior(scheduler: Any, xl: bool = False) -> po.diffusion.Conditional:
    parts = {"unet": text_unet(xl), "scheduler": scheduler, "vae": vae()}
    return from_diffusers(parts, null=Embeddings(NO_TOKENS, NO_POOLED))


def continued(sampler: Any, target: po.Denoiser, x: Tensor) -> Tensor:
    """The samples of a run that starts from a given iterate."""
    rng = po.Rng(range(len(x)))
    state = GuidedState(x=x, x0=x, memory={})
    rule = getattr(sampler, "rule", None)
    if isinstance(rule, TiltedRule) and isinstance(target, po.Tilted):
        state = GuidedState(x=x, x0=x, memory=rule.init(target, x))
    *_, last = sampler.iterate(target, range(len(x)), (state, rng.state()))
    return last.x


def loop(
    scheduler: Any, ask: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: float, steps: int
) -> Tensor:
    """The loop of a pipeline of diffusers from `x` at a level, in posteria's coordinate at both ends."""
    scheduler.set_timesteps(steps)
    latents = x if scheduler.init_noise_sigma > 1 else x / math.hypot(1, sigma)
    for t in scheduler.timesteps:
        output = ask(scheduler.scale_model_input(latents, t), t)
        latents = scheduler.step(output, t, latents).prev_sample
    return latents


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    """A difference relative to the largest entry."""
    assert (ours - theirs).abs().max() < tolerance * theirs.abs().max()


KARRAS = {**TABLE, "use_karras_sigmas": True}
SCHEDULERS: list[tuple[type, dict[str, Any], po.solvers.Solver]] = [
    (DDIMScheduler, {**LEADING, "clip_sample": False}, po.DDIM()),
    (EulerDiscreteScheduler, LEADING, po.DDIM()),
    (EulerDiscreteScheduler, KARRAS, po.DDIM()),
    (EulerDiscreteScheduler, {**LEADING, "prediction_type": "v_prediction"}, po.DDIM()),
    (HeunDiscreteScheduler, LEADING, po.Heun()),
    (HeunDiscreteScheduler, KARRAS, po.Heun()),
    (DDIMScheduler, {**TABLE, "timestep_spacing": "trailing", "clip_sample": False}, po.DDIM()),
    (DPMSolverMultistepScheduler, LEADING, po.solvers.DPMpp2M()),
]
NAMES = [
    "ddim",
    "euler",
    "euler-karras",
    "euler-v",
    "heun",
    "heun-karras",
    "ddim-trailing",
    "dpmpp",
]


@pytest.mark.parametrize(("kind", "config", "solver"), SCHEDULERS, ids=NAMES)
def test_guided_is_the_loop_of_diffusers(
    kind: type, config: dict[str, Any], solver: po.solvers.Solver
) -> None:
    # Catches: a level or timestep that is off by one, the wrong coordinate, swapped members,
    # outputs taken for another kind.
    scheduler = kind(**config)
    prior = text_prior(scheduler)
    target = po.Tilted(prior, Embeddings(TOKENS), 3.0)
    schedule = schedule_of(scheduler, 10)
    sampler = po.Guided(schedule=schedule, rule=po.CFG(), solver=solver)
    sigma = schedule.levels()[0]
    x = sigma * normal(2, 4, 8, 8).float()
    both = torch.stack([NO_TOKENS, TOKENS]).repeat_interleave(2, 0)

    @torch.no_grad()
    def ask(z: Tensor, t: Tensor) -> Tensor:
        output = text_unet()(torch.cat([z, z]), t, encoder_hidden_states=both).sample
        free, given = output.chunk(2)
        return free + 3.0 * (given - free)

    close(continued(sampler, target, x), loop(scheduler, ask, x, sigma, 10))


def test_a_pixel_pipeline_is_ours() -> None:
    # Catches: images in another range, a clipping that is no part of the denoiser.
    scheduler = DDIMScheduler(clip_sample=False)
    pipeline = DDIMPipeline(pixels(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    theirs = pipeline(2, seeds, num_inference_steps=10, output_type="np").images
    schedule = schedule_of(pipeline.scheduler, 10)
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    noise = torch.cat([torch.randn(1, 2, 8, 8, generator=seed) for seed in seeds])
    sampler = po.Unconditional(schedule=schedule, solver=po.DDIM())
    x = math.hypot(1, schedule.levels()[0]) * noise
    ours = decode(pipeline, continued(sampler, from_diffusers(pipeline), x))
    close(ours, torch.from_numpy(theirs).permute(0, 3, 1, 2))
    images = sample_pipeline(pipeline, sampler=sampler, seeds=[0, 1, 2], batch=2)
    alone = sample_pipeline(pipeline, sampler=sampler, seeds=[2])
    assert images.shape == (3, 2, 8, 8)
    close(images[2:], alone, 1e-5)


def test_a_transformer_of_classes_is_ours() -> None:
    # Catches: a learned variance taken for a prediction, another null label than the pipeline's,
    # latents that are not scaled before they are decoded.
    scheduler = DDIMScheduler(clip_sample=False)
    pipeline = DiTPipeline(dit(), vae(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        [7],
        guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(5)],
        num_inference_steps=8,
        output_type="pt",
    ).images
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    schedule = schedule_of(scheduler, 8)
    counted = po.diffusion.Counted(from_diffusers(pipeline))
    sampler = po.Guided(schedule=schedule, solver=po.DDIM())
    target = po.Tilted(counted, po.Label(7), 3.0)
    x = math.hypot(1, schedule.levels()[0]) * noise
    close(decode(pipeline, continued(sampler, target, x)), theirs)
    assert counted.meter.forward == 2 * 8
    images = sample_pipeline(pipeline, 7, sampler=sampler, seeds=[3], weight=3.0)
    assert torch.equal(images, decode(pipeline, sampler.sample(target, [3])))


def test_the_layout_of_stable_diffusion_xl_reaches_the_network() -> None:
    # Catches: time ids of latents and not of pixels, the pooled embedding of the other member.
    prior = text_prior(ddim(), xl=True)
    x, sigma = normal(2, 4, 8, 8).float(), 2.0
    t = reading_of(ddim()).time(sigma)
    told = torch.tensor([16.0, 16, 0, 0, 16, 16]).expand(2, -1)
    for member, tokens, pooled in (
        (prior.given(Embeddings(TOKENS, POOLED)), TOKENS, POOLED),
        (prior.unconditional(), NO_TOKENS, NO_POOLED),
    ):
        with torch.no_grad():
            noise = text_unet(xl=True)(
                x / math.hypot(1, sigma),
                torch.tensor(t),
                encoder_hidden_states=tokens.expand(2, -1, -1),
                added_cond_kwargs={"text_embeds": pooled.expand(2, -1), "time_ids": told},
            ).sample
        close(member(x, sigma), x - sigma * noise, 1e-5)


@pytest.mark.parametrize(
    ("kind", "solver", "cost"),
    [(EulerDiscreteScheduler, po.DDIM(), 8), (HeunDiscreteScheduler, po.Heun(), 15)],
    ids=["euler", "heun"],
)
def test_cfgig_without_rounds_is_the_conditional_loop(
    kind: type, solver: po.solvers.Solver, cost: int
) -> None:
    # Catches: guidance in the first run, and levels that are not those of the pipeline's range.
    scheduler = kind(**KARRAS)
    schedule = schedule_of(scheduler, 8)
    assert isinstance(schedule, po.Karras)
    counted = po.diffusion.Counted(text_prior(scheduler))
    target = po.Tilted(counted, Embeddings(TOKENS), 7.5)
    sampler = CFGiG(schedule=schedule, rounds=0, initial=8, solver=solver)
    sigma = schedule.levels()[0]
    x = sigma * normal(2, 4, 8, 8).float()

    @torch.no_grad()
    def ask(z: Tensor, t: Tensor) -> Tensor:
        tokens = TOKENS.expand(2, -1, -1)
        return text_unet()(z, t, encoder_hidden_states=tokens).sample

    close(continued(sampler, target, x), loop(scheduler, ask, x, sigma, 8))
    assert counted.meter.forward == len(x) * cost


def test_cfgig_draws_images_of_a_pipeline() -> None:
    # Catches: samples that are not decoded or depend on their batch, and passes that nobody
    # asked for: one a level in the first run, two in the rounds.
    scheduler = EulerDiscreteScheduler(**KARRAS)
    parts = {"unet": text_unet(), "scheduler": scheduler, "vae": vae()}
    null = Embeddings(NO_TOKENS)
    sampler = CFGiG(schedule=schedule_of(scheduler, 9), rounds=2, initial=3, solver=po.DDIM())
    counted = po.diffusion.Counted(from_diffusers(parts, null=null))
    latents = sampler.sample(po.Tilted(counted, Embeddings(TOKENS), 2.0), [4, 5])
    assert counted.meter.forward == 2 * (3 + 2 * 2 * 3)
    images = sample_pipeline(
        parts, Embeddings(TOKENS), sampler=sampler, seeds=[4, 5], weight=2.0, null=null, batch=1
    )
    assert images.shape == (2, 3, 16, 16)
    with torch.no_grad():
        plain = vae().decode(latents / 0.3).sample
    close(images, (plain / 2 + 0.5).clamp(0, 1))


def test_a_rule_with_memory_runs_on_the_wrapped_network() -> None:
    prior = text_prior(ddim())
    target = po.Tilted(prior, Embeddings(TOKENS), 4.0)
    schedule = schedule_of(ddim(), 6)
    plain = po.Guided(schedule=schedule, solver=po.DDIM()).sample(target, [0, 1])
    neutral = po.Guided(schedule=schedule, rule=po.APG(eta=1.0), solver=po.DDIM())
    close(neutral.sample(target, [0, 1]), plain)


def test_the_autoencoder_is_asked_as_the_pipelines_do() -> None:
    # Catches: a shift or a mean before the scale, and an autoencoder that overflows in half
    # precision or is left in another one.
    x = normal(1, 4, 8, 8).float()
    seen: list[Tensor] = []

    class Autoencoder(nn.Module):
        dtype, device = torch.float16, torch.device("cpu")

        def __init__(self, **config: Any) -> None:
            super().__init__()
            self.config = config

        def decode(self, z: Tensor, return_dict: bool) -> tuple[Tensor]:
            seen.append(z)
            return (z,)

    cases: list[tuple[dict[str, Any], Tensor]] = [
        ({"scaling_factor": 0.5, "shift_factor": 3.0}, x / 0.5 + 3.0),
        ({"scaling_factor": 0.5, "shift_factor": None}, x / 0.5),
        (
            {"scaling_factor": 0.5, "latents_mean": [1.0] * 4, "latents_std": [2.0] * 4},
            x * 2.0 / 0.5 + 1.0,
        ),
    ]
    parts = {"unet": text_unet(), "scheduler": ddim()}
    for config, want in cases:
        own = Autoencoder(**config, force_upcast=True)
        images = decode({**parts, "vae": own}, x)
        torch.testing.assert_close(seen[-1], want)
        torch.testing.assert_close(images, (want / 2 + 0.5).clamp(0, 1))
    decode({**parts, "vae": Autoencoder()}, x)
    assert seen[-1].dtype == torch.float16


def test_a_pipeline_is_not_changed() -> None:
    # Catches: weights that are frozen or a mode that is flipped in the caller's pipeline.
    unet = channels(2, 2).train()
    prior = from_diffusers({"unet": unet, "scheduler": ddim()})
    _, pullback = prior.vjp(torch.ones(1, 2, 8, 8), 1.0)
    pullback(torch.ones(1, 2, 8, 8))
    assert unet.training
    assert all(p.requires_grad and p.grad is None for p in unet.parameters())


def test_decoded_images_are_no_operator() -> None:
    # Catches: a decoder behind no_grad whose derivative counts as 0, so that DPS draws the prior.
    parts = {"unet": text_unet(), "scheduler": ddim(), "vae": vae()}
    prior = text_prior(ddim())
    operator = po.operators.Function(lambda z: 2 * decode(parts, z) - 1, prior.space)
    y = torch.zeros(operator.codomain.shape)
    target = po.Posterior(prior, po.GaussianLikelihood(operator, 0.05), y)
    with pytest.raises(po.CapabilityError, match="has no derivative"):
        po.DPS(schedule=po.Karras(steps=2, sigma_max=10.0)).sample(target, [0])


@pytest.mark.parametrize("name", ["from_diffusers", "Prompt", "schedule_of", "decode"])
def test_old_names_work_for_one_version(name: str) -> None:
    with pytest.warns(
        DeprecationWarning, match=f"posteria.interop.{name} is now posteria.priors.{name}"
    ):
        assert getattr(po.interop, name) is getattr(po.priors, name)


def test_offloaded_weights() -> None:
    # Catches: the space of a network whose weights lie on "meta" between its calls.
    accelerate = pytest.importorskip("accelerate")
    parts = {"unet": pixels(), "scheduler": ddim()}
    x = normal(2, 2, 8, 8).float()
    want, pull = from_diffusers(parts).vjp(x, 1.0)
    unet = channels(2, 2)
    accelerate.cpu_offload(unet, execution_device=torch.device("cpu"))
    prior = from_diffusers({"unet": unet, "scheduler": ddim()})
    assert prior.space.device == torch.device("cpu")
    got, pullback = prior.vjp(x, 1.0)
    assert torch.equal(got, want)
    torch.testing.assert_close(pullback(x), pull(x))


def test_the_derivative_of_a_wrapped_network() -> None:
    # Catches: a network behind no_grad, which no sampler of a posterior can use.
    member = text_prior(ddim()).given(Embeddings(TOKENS))
    x, v, u = (normal(1, 4, 8, 8, seed=seed).float() for seed in range(3))
    _, pullback = member.vjp(x, 1.0)
    step = (member(x + 1e-2 * u, 1.0) - member(x - 1e-2 * u, 1.0)) / 2e-2
    torch.testing.assert_close((pullback(v) * u).sum(), (v * step).sum(), rtol=2e-2, atol=1e-2)


# --------------------------------------------------------------------------------------- schedules


def test_levels_are_those_of_the_scheduler() -> None:
    # Catches: levels in another coordinate (flow matching), the doubled ones of Heun, a scheduler
    # that is changed by being read.
    scheduler = HeunDiscreteScheduler(**LEADING)
    before = scheduler.timesteps.clone()
    schedule = schedule_of(scheduler, 10)
    assert torch.equal(scheduler.timesteps, before)
    assert isinstance(schedule, GivenLevels)
    table = po.schedules.ScaledLinearBetas().sigmas
    want = [table[t] for t in range(901, 0, -100)]
    assert schedule.levels() == pytest.approx([*want, 0.0], rel=1e-3)
    assert schedule.steps == 10
    assert schedule_of(DDPMScheduler(**LEADING), 10).levels() == pytest.approx([*want, 0.0])
    for u in (0.0, 0.3, 1.0):
        assert schedule.time(float(schedule.at(u))) == pytest.approx(u)
        assert float(schedule.at(torch.tensor(u))) == pytest.approx(float(schedule.at(u)))
    edm = schedule_of(EDMEulerScheduler(sigma_min=0.01, sigma_max=50.0), 7)
    assert isinstance(edm, po.Karras)
    want = po.Karras(steps=7, sigma_min=0.01, sigma_max=50.0).levels()
    assert edm.levels() == pytest.approx(want, rel=1e-5)
    exponential = EulerDiscreteScheduler(**TABLE, use_exponential_sigmas=True)
    assert isinstance(schedule_of(exponential, 7), po.schedules.LogLinear)
    one = schedule_of(scheduler, 1)
    assert len(one.levels()) == 2


def test_a_level_and_its_timestep_belong_together() -> None:
    for scheduler in (EPSILON, flow(), EDMEulerScheduler()):
        reading = reading_of(scheduler)
        for sigma in (0.05, 1.0, 10.0):
            assert sigma_of(reading, float(reading.time(sigma))) == pytest.approx(sigma)


def refused() -> Iterator[tuple[str, Callable[[], object], str]]:
    def part(**changes: Any) -> dict[str, Any]:
        return {"unet": text_unet(), "scheduler": ddim(), "vae": vae()} | changes

    def unet(**config: Any) -> Any:
        own = text_unet()
        made = SimpleNamespace(
            config={**own.config, **config}, parameters=own.parameters, modules=own.modules
        )
        made.config = type(own.config)(made.config)
        return type("UNet2DConditionModel", (), vars(made))()

    prior = text_prior(ddim())
    yield "network", lambda: from_diffusers(part(unet=nn.Linear(1, 1))), "cannot read a Linear"
    yield "parts", lambda: from_diffusers({"unet": text_unet()}), "lacks one of them"
    yield "size", lambda: from_diffusers(part(), size=(15, 16)), "multiples of 2"
    yield "inpainting", lambda: from_diffusers(part(unet=unet(in_channels=9))), "9 channels"
    yield (
        "distilled",
        lambda: from_diffusers(part(unet=unet(time_cond_proj_dim=8))),
        "time_cond_proj_dim=8",
    )
    yield "encoder", lambda: prior.given(Prompt("a cat")), "There is no text encoder here"
    yield "label", lambda: prior.given(po.Label(1)), "cannot be given"
    yield "width", lambda: prior.given(Embeddings(torch.zeros(7, 5))), "8 channels; these have 5"
    yield (
        "pooled",
        lambda: text_prior(ddim(), xl=True).given(Embeddings(TOKENS)),
        "pooled embedding",
    )
    yield (
        "layout",
        lambda: text_prior(ddim(), xl=True).given(Embeddings(TOKENS, POOLED[:6])),
        "32 numbers",
    )
    yield (
        "null",
        lambda: from_diffusers({"unet": pixels(4), "scheduler": ddim()}, null=po.Label(2)),
        "the last of the 4 classes",
    )
    yield (
        "kind",
        lambda: reading_of(dict(LEADING)),
        "cannot read a scheduler without a _class_name",
    )
    yield (
        "channels",
        lambda: from_diffusers({"unet": channels(6, 3), "scheduler": ddim()}),
        "takes 6 channels and gives 3",
    )
    yield (
        "continuous",
        lambda: schedule_of(EulerDiscreteScheduler(timestep_type="continuous"), 5),
        "timestep_type='continuous'",
    )
    yield "pure-noise", lambda: schedule_of(flow(), 5), "starts from pure noise"
    yield "steps", lambda: schedule_of(ddim(), 2000), "cannot make 2000 steps"
    yield (
        "range",
        lambda: sample_pipeline(part(), sampler=po.Unconditional(), seeds=[0]),
        "knows noise up to 14.61 and the schedule starts at 80",
    )
    yield "levels", lambda: GivenLevels(above=(1.0, 2.0)), "decreasing"


@pytest.mark.parametrize(
    ("make", "words"), [pytest.param(make, words, id=name) for name, make, words in refused()]
)
def test_what_cannot_be_read_is_refused_in_a_sentence(
    make: Callable[[], object], words: str
) -> None:
    with pytest.raises(po.PosteriaError, match=words):
        make()


def test_classes_of_a_pixel_network() -> None:
    parts = {"unet": pixels(4), "scheduler": ddim()}
    with pytest.raises(po.CapabilityError, match="no unconditional branch"):
        from_diffusers(parts).unconditional()
    guided = from_diffusers(parts, null=po.Label(3))
    x = normal(1, 2, 8, 8).float()
    assert torch.equal(guided(x, 1.0), from_diffusers(parts).given(po.Label(3))(x, 1.0))
    with pytest.raises(po.InputError, match="from 0 to 2"):
        guided.given(po.Label(3))


@pytest.mark.parametrize("xl", [False, True])
def test_prompts_are_encoded_by_the_pipeline_once(xl: bool) -> None:
    # Catches: the embedding of the other member, and an encoder that is run at every level.
    texts: list[str] = []

    def encode(
        prompt: str, device: object, num_images_per_prompt: int, do_classifier_free_guidance: bool
    ) -> tuple[Tensor | None, ...]:
        texts.append(prompt)
        free = do_classifier_free_guidance
        tokens = (TOKENS[None], NO_TOKENS[None] if free else None)
        return (*tokens, POOLED[None], NO_POOLED[None] if free else None) if xl else tokens

    parts = {"unet": text_unet(xl), "scheduler": ddim(), "vae": vae()}
    prior = from_diffusers(SimpleNamespace(**parts, encode_prompt=encode, text_encoder=1))
    same = text_prior(ddim(), xl)
    x = normal(1, 4, 8, 8).float()
    for _ in range(2):
        given = same.given(Embeddings(TOKENS, POOLED))
        assert torch.equal(prior.given(Prompt("cat"))(x, 1.0), given(x, 1.0))
        assert torch.equal(prior(x, 1.0), same(x, 1.0))
    assert texts == ["cat", ""]


def test_embeddings_are_told_apart() -> None:
    # Catches: equality by the fields of a condition, of which there are none, so that one prompt
    # is answered with another.
    first, second = Embeddings(TOKENS), Embeddings(NO_TOKENS)
    assert first != second
    assert first == first
    assert len({first, second}) == 2


# ------------------------------------------------------------------------------- with text encoders


def clip(tmp_path: Path) -> tuple[Any, Any, Any]:
    """A tiny text encoder without and with a projection, and a tokenizer of letters."""
    transformers = pytest.importorskip("transformers")
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    tokenizer = transformers.CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=7
    )
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=7,
        projection_dim=8,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=len(words) - 1,
    )
    torch.manual_seed(4)
    return (
        transformers.CLIPTextModel(config).eval(),
        transformers.CLIPTextModelWithProjection(config).eval(),
        tokenizer,
    )


def test_stable_diffusion_is_ours(tmp_path: Path) -> None:
    encoder, _, tokenizer = clip(tmp_path)
    pipeline = diffusers.StableDiffusionPipeline(
        vae(), encoder, tokenizer, text_unet(), ddim(), None, None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    check_text_pipeline(pipeline, po.Guided(schedule=schedule_of(ddim(), 6), solver=po.DDIM()))


@pytest.mark.parametrize("zeros", [True, False])
def test_stable_diffusion_xl_is_ours(zeros: bool, tmp_path: Path) -> None:
    _, encoder, tokenizer = clip(tmp_path)
    scheduler = EulerDiscreteScheduler(**LEADING)
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae(),
        None,
        encoder,
        None,
        tokenizer,
        text_unet(xl=True),
        scheduler,
        force_zeros_for_empty_prompt=zeros,
    )
    pipeline.set_progress_bar_config(disable=True)
    check_text_pipeline(pipeline, po.Guided(schedule=schedule_of(scheduler, 6), solver=po.DDIM()))


def check_text_pipeline(pipeline: Any, sampler: po.Guided) -> None:
    sigma = sampler.schedule.levels()[0]
    x = sigma * normal(1, 4, 8, 8).float()
    start = x / math.hypot(1, sigma)
    if hasattr(pipeline.scheduler, "sigmas"):
        pipeline.scheduler.set_timesteps(6)
        start = x / float(pipeline.scheduler.init_noise_sigma)
    for negative in (None, "dog"):
        theirs = pipeline(
            "cat",
            negative_prompt=negative,
            latents=start,
            guidance_scale=3.0,
            num_inference_steps=6,
            output_type="pt",
        ).images
        prior = from_diffusers(pipeline, null=None if negative is None else Prompt(negative))
        target = po.Tilted(prior, Prompt("cat"), 3.0)
        close(decode(pipeline, continued(sampler, target, x)), theirs)
        assert prior.given(Prompt("cat")) is prior.given(Prompt("cat"))
