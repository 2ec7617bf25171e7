"""Loading priors: against diffusers' own schedulers on tiny networks, and the ones that ship."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    ScoreSdeVeScheduler,
    UNet2DModel,
)
from safetensors.torch import load_file, save_file

import posteria as po
from posteria.modalities import MODALITIES
from posteria.priors import SHIPPED
from posteria.testing import check_denoiser


def tiny(seed: int = 0, **changes: Any) -> UNet2DModel:
    torch.manual_seed(seed)
    shape = {
        "sample_size": 8,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
        "attention_head_dim": 8,
    }
    return UNet2DModel(**{**shape, **changes}).eval()


def save(folder: Path, unet: UNet2DModel, scheduler: Any, **extra: Any) -> Path:
    unet.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    if extra:
        (folder / "posteria.json").write_text(json.dumps(extra))
    return folder


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


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_edm_networks_agree_with_diffusers(prediction: str, tmp_path: Path) -> None:
    scheduler = EDMEulerScheduler(prediction_type=prediction, sigma_data=0.7)
    unet = tiny()
    prior = po.load_prior(str(save(tmp_path, unet, scheduler)))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for sigma in (0.05, 1.0, 20.0):
        with torch.no_grad():
            noisy = x * sigma
            scaled = scheduler.precondition_inputs(noisy, sigma)
            time = scheduler.precondition_noise(sigma)
            expected = scheduler.precondition_outputs(noisy, unet(scaled, time).sample, sigma)
            assert torch.allclose(prior(noisy, sigma), expected, rtol=1e-4, atol=1e-4)


def test_flow_networks_agree_with_diffusers(tmp_path: Path) -> None:
    # One Euler step of diffusers' scheduler from t to 0 lands on the clean signal.
    scheduler, unet = FlowMatchEulerDiscreteScheduler(), tiny()
    prior = po.load_prior(str(save(tmp_path, unet, scheduler)))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    t = 0.3
    with torch.no_grad():
        expected = x - t * unet(x, 1000 * t).sample
        ours = prior(x / (1 - t), t / (1 - t))
    assert torch.allclose(ours, expected, atol=1e-5)


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


def test_what_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "good", tiny(), DDPMScheduler())
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(po.InputError, match="is not the file it should be"):
        po.load_prior(str(folder), sha256="1" * 64)
    zero = save(tmp_path / "zero", tiny(), DDPMScheduler(rescale_betas_zero_snr=True))
    with pytest.raises(po.CapabilityError, match="posteria cannot read a DDPMScheduler"):
        po.load_prior(str(zero))
    score = save(tmp_path / "score", tiny(), ScoreSdeVeScheduler())
    with pytest.raises(po.CapabilityError, match="cannot read a ScoreSdeVeScheduler"):
        po.load_prior(str(score))
    # Copies: what is loaded is mapped from the file, which is cut short below.
    state = {name: value.clone() for name, value in load_file(weights).items()}
    save_file({k: v for k, v in list(state.items())[1:]}, weights)
    with pytest.raises(po.InputError, match=r"does not hold the weights of its config\.json"):
        po.load_prior(str(folder))
    weights.write_bytes(b"cut short")
    with pytest.raises(po.InputError, match="is damaged or incomplete"):
        po.load_prior(str(folder))
    weights.unlink()
    torch.save(state, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(po.InputError, match="is a pickle, which can run code"):
        po.load_prior(str(folder))
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text().replace("UNet2DModel", "DiTTransformer2DModel"))
    with pytest.raises(po.CapabilityError, match="holds a DiTTransformer2DModel"):
        po.load_prior(str(folder))
    config.write_text("{")
    with pytest.raises(po.InputError, match="cannot be read"):
        po.load_prior(str(folder))
    with pytest.raises(po.InputError, match="no folder 'nobody/nothing'"):
        po.load_prior("diffusers:nobody/nothing")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_priors(name: str) -> None:
    # Catches: weights that do not belong to their configuration, noise levels told wrongly, a card without numbers.
    shipped, prior = SHIPPED[name], po.load_prior(name)
    assert prior.space.shape == shipped.shape
    size = (shipped.folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert size < 10_000_000
    check_denoiser(prior, sigmas=(0.1, 1.0))
    assert len(shipped.examples) >= 4
    truth = torch.stack([
        MODALITIES["image"].read(p, shipped.shape, taker=name, fit=False).x
        for p in shipped.examples
    ])
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for sigma, gain in ((0.1, 2.0), (0.3, 3.0), (1.0, 3.0)):
            error = (prior(truth + sigma * noise, sigma) - truth).square().mean().sqrt()
            assert error < sigma / gain, f"at level {sigma} the error is {error:.3f}"
    card = (shipped.folder / "README.md").read_text()
    for word in (
        "sha256 " + shipped.sha256,
        "Sliced Wasserstein",
        "Memorisation",
        "split",
        "steps",
    ):
        assert word in card


def test_labels_of_the_digits() -> None:
    # Catches: labels that are ignored. Given its class a held-out digit is denoised better than given another one.
    shipped, prior = SHIPPED["digits"], po.load_prior("digits")
    truth = torch.stack([
        MODALITIES["image"].read(p, shipped.shape, taker="digits", fit=False).x
        for p in shipped.examples
    ])
    noise = torch.randn(24, *truth.shape, generator=torch.Generator().manual_seed(0))
    x = truth + 2.5 * noise
    with torch.no_grad():
        errors = torch.stack([
            (prior.given(po.Label(k))(x, 2.5) - truth).square().mean((0, 2, 3, 4))
            for k in range(10)
        ])
        unlabelled = (prior(x, 2.5) - truth).square().mean((0, 2, 3, 4))
    assert (errors.amin(0) < unlabelled).all()
    labels = [int(path.stem[-1]) for path in shipped.examples]
    assert errors.argmin(0).tolist() == labels


def test_a_sample_does_not_depend_on_its_batch() -> None:
    # In single precision kernels differ with the batch size; the sample may move by a rounding error and no more.
    prior = po.load_prior("digits")
    sampler = po.Unconditional(solver=po.DDPM(), schedule=po.Karras(steps=8))
    many = sampler.sample(prior, seeds=range(16))
    assert (sampler.sample(prior, seeds=[5])[0] - many[5]).abs().max() < 1e-3
    assert (sampler.sample(prior, seeds=range(4, 8)) - many[4:8]).abs().max() < 1e-3
