"""Networks that are given their pipeline's arguments, and those of signals in time."""

import inspect
import json
import math
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    AutoencoderOobleck,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    IPNDMScheduler,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableAudioDiTModel,
    UNet1DModel,
    UniPCMultistepScheduler,
    WanTransformer3DModel,
)
from torch import Tensor

import posteria as po
from common.models.pipelines import drawn, kl, save
from helpers import normal
from posteria.priors import Given, Latent, from_diffusers
from posteria.testing import check_denoiser

# As a configuration: its class needs another package.
COSINE = {
    "_class_name": "CosineDPMSolverMultistepScheduler",
    "prediction_type": "v_prediction",
    "sigma_data": 1.0,
}


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return normal(*shape, seed=seed).float()


def sd3() -> tuple[dict[str, Any], dict[str, Any]]:
    network = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        caption_projection_dim=16,
        pooled_projection_dim=8,
        out_channels=4,
        pos_embed_max_size=8,
    )
    parts = {
        "transformer": drawn(network),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    }
    given = {"encoder_hidden_states": tokens(5, 8), "pooled_projections": tokens(8, seed=2)}
    return {**parts, "vae": kl(shift_factor=0.06)}, given


def pixart() -> tuple[dict[str, Any], dict[str, Any]]:
    network = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        norm_num_groups=1,
        cross_attention_dim=16,
        sample_size=8,
        caption_channels=8,
        use_additional_conditions=False,
    )
    scheduler = DPMSolverMultistepScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    added = {"resolution": None, "aspect_ratio": None}
    given = {"encoder_hidden_states": tokens(5, 8), "added_cond_kwargs": added}
    return {"transformer": drawn(network), "scheduler": scheduler, "vae": kl()}, given


def stable_audio() -> tuple[dict[str, Any], dict[str, Any]]:
    network = StableAudioDiTModel(
        sample_size=16,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_attention_heads=1,
        out_channels=4,
        cross_attention_dim=8,
        time_proj_dim=8,
        global_states_input_dim=16,
        cross_attention_input_dim=8,
    )
    vae = AutoencoderOobleck(
        encoder_hidden_size=4,
        downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
        decoder_channels=4,
        decoder_input_channels=4,
        audio_channels=2,
    )
    parts = {"transformer": drawn(network), "vae": drawn(vae)}
    parts["scheduler"] = COSINE
    given = {
        "encoder_hidden_states": tokens(5, 8),
        "global_hidden_states": tokens(1, 16, seed=3),
    }
    return parts, given


def wan() -> tuple[dict[str, Any], dict[str, Any]]:
    network = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=16,
        ffn_dim=16,
        num_layers=1,
        rope_max_seq_len=16,
    )
    scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    parts = {"transformer": drawn(network), "scheduler": scheduler}
    return parts, {"encoder_hidden_states": tokens(5, 8)}


def audioldm2() -> tuple[dict[str, Any], dict[str, Any]]:
    network = diffusers.AudioLDM2UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=((None, 8, 16), (None, 8, 16)),
    )
    mel = kl(in_channels=1, out_channels=1)
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="linear", beta_start=1e-4, beta_end=0.02, clip_sample=False
    )
    given = {
        "encoder_hidden_states": tokens(3, 8),
        "encoder_hidden_states_1": tokens(5, 16, seed=2),
        "encoder_attention_mask_1": torch.tensor([1, 1, 1, 0, 0]),
    }
    return {"unet": drawn(network), "vae": mel, "scheduler": scheduler}, given


FAMILIES: dict[str, tuple[Any, tuple[int, ...] | None]] = {
    "sd3": (sd3, None),
    "pixart": (pixart, None),
    "stable-audio": (stable_audio, None),
    "audioldm2": (audioldm2, (4, 12, 8)),
    "wan": (wan, (4, 2, 4, 4)),
}


def clean(family: str, output: Tensor, x: Tensor, sigma: float) -> Tensor:
    """E[x_0 | x] of what the network predicts, by the definition of its family."""
    if family in {"pixart", "audioldm2"}:
        return x - sigma * output[:, :4]
    if family == "stable-audio":
        alpha = 1 / math.hypot(1, sigma)
        return alpha * (alpha * x) - sigma * alpha * output
    t = sigma / (1 + sigma)
    return (1 - t) * x - t * output


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_that_is_given_its_arguments(family: str) -> None:
    # Catches: a time in other units, a condition that is not handed on, or one sample's for all.
    make, shape = FAMILIES[family]
    parts, arguments = make()
    prior = from_diffusers(parts, shape=shape)
    condition = Given(**arguments)
    member = prior.given(condition)
    assert prior.given(condition) is member
    x = normal(2, *prior.space.shape, seed=4).float()
    betas = po.schedules.LinearBetas()
    for step in (20, 700):
        sigma = betas.sigmas[step]
        flow = family in {"sd3", "wan"}
        scale = 1 / (1 + sigma) if flow else 1 / math.hypot(1, sigma)
        time = {
            "pixart": step,
            "audioldm2": step,
            "stable-audio": math.atan(sigma) / math.pi * 2,
        }.get(family, 1000 * sigma / (1 + sigma))
        noisy = x / scale
        given = {
            key: value.expand(2, *value.shape) if isinstance(value, Tensor) else value
            for key, value in arguments.items()
        }
        with torch.no_grad():
            times = torch.full((2,), float(time))
            output = (parts.get("unet") or parts["transformer"])(
                x, timestep=times, return_dict=False, **given
            )[0]
            want = clean(family, output, noisy, sigma)
            assert (member(noisy, sigma) - want).abs().max() < 1e-4 * want.abs().max()
    check_denoiser(member, sigmas=(0.7,))
    null = Given(**{
        key: -v if isinstance(v, Tensor) and v.is_floating_point() else v
        for key, v in arguments.items()
    })
    guided = po.Tilted(from_diffusers(parts, shape=shape, null=null), condition, 2.0)
    want = 2 * member(x, 1.0) - prior.given(null)(x, 1.0)
    torch.testing.assert_close(guided(x, 1.0), want, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_audio_is_decoded(tmp_path: Path) -> None:
    parts, arguments = stable_audio()
    prior = po.load_prior(str(save(tmp_path, parts)), null=Given(**arguments))
    assert isinstance(prior, Latent)
    z = normal(1, 4, 16).float()
    assert prior.decoder.codomain.shape == (2, 128)
    torch.testing.assert_close(prior.decode(z), parts["vae"].decode(z).sample)
    likelihood = po.GaussianLikelihood(po.operators.Identity((2, 128)), 0.1)
    target = po.Posterior(prior, likelihood, torch.zeros(2, 128))
    sampler = po.DPS(schedule=po.Karras(steps=2))
    assert sampler.sample(target, seeds=[0]).shape == (1, 4, 16)


def dance() -> UNet1DModel:
    """The layout of Dance Diffusion: two channels of sound, and a Fourier embedding of the time beside them."""
    if "time_embedding_dim" not in inspect.signature(UNet1DModel).parameters:
        pytest.skip("this version of diffusers has no such network")
    return drawn(
        UNet1DModel(
            sample_size=64,
            sample_rate=16000,
            in_channels=2,
            out_channels=2,
            extra_in_channels=16,
            time_embedding_dim=16,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("DownBlock1DNoSkip", "DownBlock1D"),
            up_block_types=("UpBlock1D", "UpBlock1DNoSkip"),
            mid_block_type="UNetMidBlock1D",
            time_embedding_type="fourier",
            use_timestep_embedding=False,
            flip_sin_to_cos=True,
        )
    )


def test_dance_diffusion(tmp_path: Path) -> None:
    # Catches: v read as noise, an angle read as a step, a signal read as a picture.
    network, scheduler = dance(), IPNDMScheduler()
    folder = save(tmp_path, {"unet": network, "scheduler": scheduler})
    # As it was saved before diffusers made this a setting.
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text())
    del config["time_embedding_dim"]
    path.write_text(json.dumps(config))
    prior = po.load_prior(str(folder))
    assert prior.space.shape == (2, 64)
    scheduler.set_timesteps(10)
    x = normal(2, 2, 64).float()
    for k in (1, 5, 9):
        time, alpha, beta = scheduler.timesteps[k], scheduler.alphas[k], scheduler.betas[k]
        with torch.no_grad():
            v = network(x, time).sample
            noise = x * beta + v * alpha
            want = (x - beta * noise) / alpha
            ours = prior(x / alpha, float(beta / alpha))
        assert (ours - want).abs().max() < 1e-4 * want.abs().max()
    check_denoiser(prior, sigmas=(0.7,))


def test_what_is_refused() -> None:
    parts, arguments = wan()
    with pytest.raises(po.InputError, match="has 4 axes; give shape="):
        from_diffusers(parts)
    prior = from_diffusers(parts, shape=(4, 2, 4, 4))
    with pytest.raises(po.CapabilityError, match=r"is given Given\(\.\.\.\)"):
        prior.given(po.Label(0))
    with pytest.raises(po.CapabilityError, match="no unconditional member"):
        prior(torch.zeros(1, 4, 2, 4, 4), 1.0)
    assert repr(Given(**arguments)) == "Given(encoder_hidden_states)"
    assert Given(**arguments) != Given(**arguments)
    other = {**parts, "scheduler": {**COSINE, "prediction_type": "epsilon"}}
    with pytest.raises(po.CapabilityError, match="predicts 'epsilon'"):
        from_diffusers(other, shape=(4, 2, 4, 4))
