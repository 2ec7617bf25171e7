"""What is read of a pipeline of diffusers: its schedule, its network, its autoencoder; and what is refused."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from torch import Tensor, nn

import posteria as po
from common.models.diffusers_models import (
    EPSILON,
    LEADING,
    NO_POOLED,
    NO_TOKENS,
    POOLED,
    QUIET,
    TABLE,
    TOKENS,
    channels,
    ddim,
    flow,
    pixels,
    text_prior,
    text_unet,
    vae,
)
from helpers import normal
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

pytestmark = QUIET


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
    # Catches: a factor that a damaged configuration lacks, taken for 1.
    with pytest.raises(po.InputError, match=r"scaling_factor .* has None"):
        decode({**parts, "vae": Autoencoder(scaling_factor=None)}, x)


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
    # And those of a decoder, whose latents would be sent there.
    z, own = normal(1, 4, 8, 8).float(), vae()
    parts = {"unet": text_unet(), "scheduler": ddim(), "vae": own}
    want = from_diffusers(parts).decode(z)
    accelerate.cpu_offload(own, execution_device=torch.device("cpu"))
    assert torch.equal(from_diffusers(parts).decode(z), want)


def test_the_derivative_of_a_wrapped_network() -> None:
    # Catches: a network behind no_grad, which no sampler of a posterior can use.
    member = text_prior(ddim()).given(Embeddings(TOKENS))
    x, v, u = (normal(1, 4, 8, 8, seed=seed).float() for seed in range(3))
    _, pullback = member.vjp(x, 1.0)
    step = (member(x + 1e-2 * u, 1.0) - member(x - 1e-2 * u, 1.0)) / 2e-2
    torch.testing.assert_close((pullback(v) * u).sum(), (v * step).sum(), rtol=2e-2, atol=1e-2)


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
        "null label of this network is the last, 3",
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
        "knows noise up to 14.61, and the schedule starts at 80",
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
    # Catches: arrays of NumPy, which end at the first evaluation.
    array, x = Embeddings(TOKENS.numpy()), normal(1, 4, 8, 8).float()
    prior = from_diffusers({"unet": text_unet(), "scheduler": ddim(), "vae": vae()}, null=array)
    assert torch.equal(prior(x, 1.0), prior.given(Embeddings(TOKENS))(x, 1.0))
    with pytest.raises(po.InputError, match="embedding tokens holds"):
        Embeddings(np.array(["a cat"]))  # type: ignore[arg-type]
    first, second = Embeddings(TOKENS), Embeddings(NO_TOKENS)
    assert first != second
    assert first == first
    assert len({first, second}) == 2
