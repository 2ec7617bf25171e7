"""Pipelines of diffusers as priors: the samples are those of their own loops."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DiTPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from torch import Tensor

import posteria as po
from common.models.diffusers_models import (
    LEADING,
    NO_POOLED,
    NO_TOKENS,
    POOLED,
    QUIET,
    TABLE,
    TOKENS,
    clip,
    close,
    continued,
    ddim,
    dit,
    pixels,
    text_prior,
    text_unet,
    vae,
)
from helpers import normal
from posteria.priors import (
    Embeddings,
    Prompt,
    decode,
    from_diffusers,
    sample_pipeline,
    schedule_of,
)
from posteria.priors.pipeline.schedulers import reading_of
from posteria.samplers.tilted.cfgig import CFGiG

pytestmark = QUIET


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


def test_the_page_of_guidance_draws_from_a_pipeline() -> None:
    # Catches: a page after names and conventions that have changed.
    page = (Path(__file__).parents[2] / "docs" / "guidance.md").read_text()
    (code,) = re.findall(r"```python diffusers\n(.*?)```", page, re.DOTALL)
    encoder, _, tokenizer = clip()
    parts = (vae(), encoder, tokenizer, text_unet(), ddim())
    pipe = diffusers.StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)
    names: dict[str, Any] = {"po": po, "pipe": pipe}
    exec(code.replace("30)", "4)").replace("pictures = sample_", "images = sample_"), names)
    close((names["pictures"] / 2 + 0.5).clamp(0, 1), names["images"])


def test_stable_diffusion_is_ours(tmp_path: Path) -> None:
    encoder, _, tokenizer = clip()
    pipeline = diffusers.StableDiffusionPipeline(
        vae(), encoder, tokenizer, text_unet(), ddim(), None, None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    check_text_pipeline(pipeline, po.Guided(schedule=schedule_of(ddim(), 6), solver=po.DDIM()))


@pytest.mark.parametrize("zeros", [True, False])
def test_stable_diffusion_xl_is_ours(zeros: bool, tmp_path: Path) -> None:
    _, encoder, tokenizer = clip()
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
