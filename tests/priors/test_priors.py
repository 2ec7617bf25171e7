"""Loading priors: against diffusers' own schedulers on tiny networks, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    DDPMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    ScoreSdeVeScheduler,
)
from safetensors.torch import load_file, save_file

import posteria as po
from common.models.unets import save, tiny
from posteria.priors import prior_sha256, schedule_of
from posteria.testing import check_denoiser

TABLES = [
    {"beta_schedule": "linear"},
    {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": [0.001 * k for k in range(1, 101)], "num_train_timesteps": 100},
]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("table", TABLES, ids=["linear", "scaled", "cosine", "given"])
def test_ddpm_networks_agree_with_diffusers(
    prediction: str, table: dict[str, Any], tmp_path: Path
) -> None:
    # Catches: a table read wrongly, a level off by one step, a prediction taken for another.
    scheduler = DDPMScheduler(prediction_type=prediction, clip_sample=False, **table)
    unet = tiny()
    prior = po.load_prior(str(save(tmp_path, unet, scheduler)))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    last = scheduler.config.num_train_timesteps - 1
    for step in (0, last // 3, last - 1):
        abar = scheduler.alphas_cumprod[step].double()
        sigma = float(((1 - abar) / abar).sqrt())
        with torch.no_grad():
            output = unet(x, step).sample
            expected = scheduler.step(output, step, x).pred_original_sample
            ours = prior(x * (1 + sigma**2) ** 0.5, sigma)
        assert torch.allclose(ours, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.filterwarnings("ignore:__array__")
def test_continuous_networks_agree_with_diffusers(tmp_path: Path) -> None:
    # Catches: a network that is told a quarter of log sigma read as one of a table, up to 212 times wrong.
    scheduler, unet = (
        EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction"),
        tiny(),
    )
    prior = po.load_prior(str(save(tmp_path, unet, scheduler)))
    scheduler.set_timesteps(20)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for k in (0, 7, 15):
        sigma, time = float(scheduler.sigmas[k]), scheduler.timesteps[k]
        scheduler._step_index, scheduler.is_scale_input_called = k, True
        with torch.no_grad():
            output = unet(scheduler.scale_model_input(x * sigma, time), time).sample
            want = scheduler.step(output, time, x * sigma).pred_original_sample
            ours = prior(x * sigma, sigma)
        assert (ours - want).abs().max() < 1e-4 * want.abs().max()


# Its layers do so in the lowest version that is allowed.
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
def test_score_networks_agree_with_diffusers(tmp_path: Path) -> None:
    # Catches: a score read as a noise, a level read as a step, data in [0, 1] read as in [-1, 1].
    unet = tiny(
        time_embedding_type="fourier",
        down_block_types=("SkipDownBlock2D", "AttnSkipDownBlock2D"),
        up_block_types=("AttnSkipUpBlock2D", "SkipUpBlock2D"),
        block_out_channels=(32, 32),
        mid_block_scale_factor=1.414,
    )
    scheduler = ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=50.0)
    prior = po.load_prior(str(save(tmp_path, unet, scheduler)))
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for sigma in (0.02, 1.0, 40.0):
        unit = 0.5 + sigma * noise
        with torch.no_grad():
            score = unet(unit, torch.full((2,), sigma)).sample
            want = 2 * (unit + sigma**2 * score) - 1
            ours = prior(2 * unit - 1, 2 * sigma)
        assert (ours - want).abs().max() < 1e-4 * want.abs().max()
    assert prior(torch.zeros(1, 3, 8, 8), 0.0).isfinite().all()
    levels = schedule_of(scheduler, 10).levels()
    assert levels[0] == pytest.approx(50.0, rel=1e-3)
    assert isinstance(schedule_of(scheduler, 10), po.schedules.LogLinear)


def test_layouts(tmp_path: Path) -> None:
    unet = tiny(sample_size=(8, 16), num_class_embeds=4)
    nested = save(tmp_path / "nested", unet, DDPMScheduler())
    flat = tmp_path / "flat"
    unet.save_pretrained(flat)
    DDPMScheduler().save_pretrained(flat)
    x = torch.randn(2, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    outputs = [
        po.load_prior(f"diffusers:{place}").given(po.Label(3))(x, 1.0) for place in (nested, flat)
    ]
    assert torch.equal(*outputs)
    with pytest.raises(po.CapabilityError, match="no unconditional branch"):
        po.load_prior(str(flat))(x, 1.0)
    larger = po.load_prior(str(flat), size=(24, 32))
    assert larger.space.shape == (3, 24, 32)
    check_denoiser(larger.given(po.Label(0)), sigmas=(0.5,))
    with pytest.raises(po.InputError, match="multiples of 2; 9 x 16 is not"):
        po.load_prior(str(flat), size=(9, 16))


def test_folded_networks_and_the_null_label(tmp_path: Path) -> None:
    unet = tiny(in_channels=4, out_channels=4, num_class_embeds=3)
    prior = po.load_prior(str(save(tmp_path, unet, EDMEulerScheduler(), patch=2, null_label=2)))
    assert prior.space.shape == (1, 16, 16)
    assert (prior.labels, prior.label) == (2, 2)
    check_denoiser(prior, sigmas=(0.5,))
    x = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(prior(x, 1.0), prior.given(po.Label(0))(x, 1.0))
    double = po.load_prior(str(tmp_path), dtype=torch.float64)
    assert double.space.dtype == torch.float64
    half = po.load_prior(str(tmp_path), dtype=torch.bfloat16)
    with torch.no_grad():
        assert half(x, 1.0).dtype == torch.float32
        assert torch.allclose(half(x, 1.0), prior(x, 1.0), atol=0.1)


@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler])
def test_tables_whose_last_step_leaves_no_signal(kind: type, tmp_path: Path) -> None:
    # Catches: a table that is rescaled and read as if it were not.
    scheduler = kind(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    unet = tiny()
    prior = po.load_prior(str(save(tmp_path, unet, scheduler)))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for step in (0, 300, 900, 990):
        abar = scheduler.alphas_cumprod[step].double()
        sigma, root = float(((1 - abar) / abar).sqrt()), float(abar.sqrt())
        with torch.no_grad():
            expected = root * x - (1 - root**2) ** 0.5 * unet(x, step).sample
            ours = prior(x / root, sigma)
        assert torch.allclose(ours, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))


def test_a_table_of_embeddings_for_timesteps(tmp_path: Path) -> None:
    # Catches: fractional steps for a network that has embeddings of whole ones.
    unet = tiny(time_embedding_type="learned", num_train_timesteps=1000)
    scheduler = DDPMScheduler()
    prior = po.load_prior(str(save(tmp_path, unet, scheduler)))
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    sigma = po.schedules.LinearBetas().sigmas[500]
    with torch.no_grad():
        expected = x - sigma * unet(x / (1 + sigma**2) ** 0.5, torch.tensor([500])).sample
        assert torch.allclose(prior(x, sigma * 1.0001), expected, rtol=1e-2, atol=1e-2)
    save(tmp_path, unet, EDMEulerScheduler())
    with pytest.raises(po.CapabilityError, match="table of embeddings for whole timesteps"):
        po.load_prior(str(tmp_path))


# Files of weights


def renamed(folder: Path, names: Callable[[str], str]) -> Path:
    """The weights in a folder under other names."""
    path = weights(folder)
    save_file({names(key): value.clone() for key, value in load_file(path).items()}, path)
    return folder


def old(key: str) -> str:
    """The names of attention before diffusers 0.17."""
    pairs = (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"))
    for new, before in pairs:
        key = key.replace(f".{new}.", f".{before}.")
    return key


@pytest.mark.parametrize("layout", ["old", "shards", "fp16", "bin", "non_ema"])
def test_layouts_of_weights(layout: str, tmp_path: Path) -> None:
    # Catches: weights that diffusers reads and posteria refuses, or takes from another file.
    attention = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    unet = tiny(**attention)
    folder = save(tmp_path, unet, DDPMScheduler())
    if layout == "old":
        renamed(folder, old)
        assert any("proj_attn" in key for key in load_file(weights(folder)))
    elif layout != "non_ema":
        weights(folder).unlink()
        unet.save_pretrained(
            folder / "unet",
            max_shard_size="10KB" if layout == "shards" else "10GB",
            safe_serialization=layout != "bin",
            variant="fp16" if layout == "fp16" else None,
        )
        assert not weights(folder).exists()
    else:
        tiny(1, **attention).save_pretrained(folder / "unet", variant="non_ema")
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = x - unet(x / 2**0.5, torch.tensor(po.diffusion.Epsilon().time(1.0))).sample
        assert torch.allclose(po.load_prior(str(folder))(x, 1.0), want, atol=1e-5)
    assert po.load_prior(str(folder), sha256=prior_sha256(str(folder)))
    with pytest.raises(po.InputError, match="is not the file it should be"):
        po.load_prior(str(folder), sha256="1" * 64)


def weights(folder: Path) -> Path:
    return folder / "unet" / "diffusion_pytorch_model.safetensors"


def test_every_shard_counts(tmp_path: Path) -> None:
    # Catches: a hash of the first file only.
    folder = save(tmp_path, tiny(), DDPMScheduler())
    weights(folder).unlink()
    tiny().save_pretrained(folder / "unet", max_shard_size="10KB")
    before = prior_sha256(str(folder))
    last = max((folder / "unet").glob("*.safetensors"))
    save_file({key: value + 1 for key, value in load_file(last).items()}, last)
    assert prior_sha256(str(folder)) != before


class Trap:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this has run",))


def test_weights_that_are_refused(tmp_path: Path, capsys: Any) -> None:
    folder = save(tmp_path, tiny(), DDPMScheduler())
    path = weights(folder)
    # Copies: what is loaded is mapped from the file, which is overwritten below.
    state = {name: value.clone() for name, value in load_file(path).items()}
    lacking, more = dict(list(state.items())[1:]), {**state, "head": torch.ones(1)}
    smaller = {key: value[:1].contiguous() for key, value in state.items()}
    for wrong, words in ((lacking, "1 missing"), (more, "1 unexpected"), (smaller, "config.json")):
        save_file(wrong, path)
        with pytest.raises(
            po.InputError, match=r"does not hold the weights of its config\.json"
        ) as caught:
            po.load_prior(str(folder))
        assert words in str(caught.value)
    path.write_bytes(b"cut short")
    with pytest.raises(po.InputError, match="is damaged or incomplete"):
        po.load_prior(str(folder))
    path.unlink()
    torch.save({**state, "trap": Trap()}, path.with_suffix(".bin"))
    with pytest.raises(po.InputError, match="is damaged or incomplete"):
        po.load_prior(str(folder))
    assert "this has run" not in capsys.readouterr().out
    path.with_suffix(".bin").unlink()
    with pytest.raises(po.InputError, match=r"has no diffusion_pytorch_model\.safetensors"):
        po.load_prior(str(folder))
    for variant in ("bf16", "fp16"):
        tiny().save_pretrained(folder / "unet", variant=variant)
    with pytest.raises(po.InputError, match="the variants bf16, fp16"):
        po.load_prior(str(folder))


def test_networks_that_are_refused(tmp_path: Path) -> None:
    for name, changes, words in (
        ("six", {"in_channels": 6}, "takes 6 channels and gives 3"),
        ("timestep", {"class_embed_type": "timestep"}, "class_embed_type='timestep'"),
        ("sizeless", {"sample_size": None}, "no size of its own"),
    ):
        folder = save(tmp_path / name, tiny(**changes), DDPMScheduler())
        with pytest.raises(po.PosteriaError, match=words):
            po.load_prior(str(folder))
    assert po.load_prior(str(folder), size=(8, 8)).space.shape == (3, 8, 8)
    score = save(tmp_path / "score", tiny(), CMStochasticIterativeScheduler())
    with pytest.raises(
        po.CapabilityError,
        match=r"cannot read a CMStochasticIterativeScheduler: it reads .* posteria\.Network",
    ):
        po.load_prior(str(score))
    unet = score / "unet" / "config.json"
    unet.write_text(unet.read_text().replace("UNet2DModel", "UNet2DConditionModel"))
    with pytest.raises(po.CapabilityError, match=r"holds a UNet2DConditionModel.*from_diffusers"):
        po.load_prior(f"pixel:{score}")
    unet.write_text("{")
    with pytest.raises(po.InputError, match="cannot be read"):
        po.load_prior(str(score))


@pytest.mark.parametrize("part", ["vae", "vqvae"])
def test_a_network_of_latents_is_not_one_of_pixels(part: str, tmp_path: Path) -> None:
    # Catches: a latent diffusion model that is run on pixels of the size of its latents.
    folder = save(tmp_path, tiny(), DDIMScheduler())
    index = {"_class_name": "P", "unet": ["diffusers", "UNet2DModel"], part: ["diffusers", "A"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(po.InputError, match=rf"lacks a part: there is no {part}/config\.json"):
        po.load_prior(str(folder))


def test_names_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(po.InputError, match="no folder 'nobody/nothing'"):
        po.load_prior("diffusers:nobody/nothing")
    for dtype in (torch.int32, "float16"):
        with pytest.raises(po.InputError, match=r"dtype is one of floating point, .* is not"):
            po.load_prior("digits", dtype=dtype)  # type: ignore[arg-type]
    with pytest.raises(po.InputError, match="Did you mean 'digits'"):
        po.load_prior("digit")
    checkpoint = tmp_path / "ffhq_10m.pt"
    with pytest.raises(po.InputError, match="is a file of weights"):
        po.load_prior("ffhq_10m.pt")
    checkpoint.write_bytes(b"")
    with pytest.raises(po.InputError, match=r"is a file of weights.*posteria\.Network"):
        po.load_prior(str(checkpoint))
    edm = save(tmp_path / "edm", tiny(), EDMEulerScheduler())
    with pytest.raises(po.CapabilityError, match="shift=1 is for networks with a DDPM table"):
        po.load_prior(str(edm), shift=1)
    table = save(tmp_path / "table", tiny(), DDPMScheduler())
    assert po.load_prior(str(table), shift=1).parametrisation.shift == 1
