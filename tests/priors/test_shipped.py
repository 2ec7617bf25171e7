"""The priors that ship, their cards, and what is fetched."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from diffusers import (
    DDPMScheduler,
)

import posteria as po
from common.models.pipelines import parts_of, save as save_parts
from common.models.unets import save, tiny
from posteria.diffusion.scale import prior_scale
from posteria.modalities import MODALITIES
from posteria.priors import READERS, SHIPPED, Latent, card_of, prior_sha256
from posteria.testing import check_denoiser

# Cards and readers


def test_a_reader_is_a_file_and_a_line(tmp_path: Path, monkeypatch: Any) -> None:
    # Catches: a door that knows of pixels only, so that every new kind of prior changes it.
    def read(files: Path, *, device: Any, dtype: Any, size: Any) -> po.diffusion.Conditional:
        scale = float((files / "scale.txt").read_text())
        return po.Network(lambda x, t: scale * x, po.Space((2,)), po.diffusion.X0())

    monkeypatch.setitem(READERS, "waveform", read)
    (tmp_path / "scale.txt").write_text("0.5")
    card = ['name = "mine"', 'reader = "waveform"', 'modality = "audio"', "[data]", "shape = [2]"]
    (tmp_path / "card.toml").write_text("\n".join([*card, "rate = 16000.0"]))
    (tmp_path / "network.safetensors").write_bytes(b"weights")
    (tmp_path / "scale.safetensors").write_bytes(b"")
    assert prior_sha256(str(tmp_path)) == hashlib.sha256(b"weights").hexdigest()
    assert card_of(str(tmp_path)).data.rate == 16000
    prior = po.load_prior(str(tmp_path))
    assert prior(torch.ones(1, 2), 0.0).tolist() == [[0.5, 0.5]]
    assert repr(prior) == "Network(mine: audio by the reader 'waveform')"
    assert po.load_prior(f"waveform:{tmp_path}")(torch.ones(1, 2), 0.0).tolist() == [[0.5, 0.5]]
    (tmp_path / "card.toml").write_text('name = "mine"\nreader = "none"\npath = "."')
    with pytest.raises(po.InputError, match="is not the card of a prior"):
        po.load_prior(str(tmp_path))
    (tmp_path / "card.toml").write_text('name = "mine"\nreader = "wave"')
    with pytest.raises(po.InputError, match=r"no reader 'wave'.*Did you mean 'waveform'"):
        po.load_prior(str(tmp_path))


def test_a_shipped_prior_is_its_card() -> None:
    text = repr(po.load_prior("digits"))
    assert text.startswith("Network(digits: handwritten digits (MNIST)")
    assert SHIPPED["digits"].sha256[:12] in text
    assert "\n" not in text
    for card in SHIPPED.values():
        assert all((card.about, card.licence, card.cite, card.notes, card.sha256))
        assert card.where == "package"
        assert card.modality in MODALITIES


def test_the_scale_of_a_shipped_prior_is_in_its_files() -> None:
    # Catches: a scale of other weights, of another class, or measured again in every run.
    prior = po.load_prior("digits")
    members = {None: prior, 1: prior.given(po.Label(1))}
    fresh = po.load_prior("digits", size=(32, 32))
    assert fresh.scale is None
    for label, member in members.items():
        counted = po.diffusion.Counted(member)
        known = prior_scale(counted)
        assert counted.meter.forward == 0
        member.scale = None
        measured = prior_scale(member)
        assert known.std == pytest.approx(measured.std, rel=1e-4), label
        assert torch.allclose(known.mean, measured.mean, atol=1e-3)
    assert prior.given(po.Label(2)).scale is not None
    land = po.load_prior("satellite").scale
    assert land is not None
    assert land.mean.shape == (3, 64, 64)


def test_what_is_fetched_from_the_hub(tmp_path: Path, monkeypatch: Any) -> None:
    # Catches: gigabytes of an autoencoder and a text encoder, fetched before they are refused.
    asked: list[list[str]] = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    save(tmp_path / "pixels", tiny(), DDPMScheduler())
    assert repr(po.load_prior("diffusers:pixels")).startswith("Network(pixels: image")
    assert asked == [["*.json"], ["*.json", "*.safetensors"]]
    asked.clear()
    save_parts(tmp_path / "latents", parts_of("ldm"))
    assert isinstance(po.load_prior("diffusers:latents"), Latent)
    assert asked[0] == ["*.json"]
    assert "*/diffusion_pytorch_model.safetensors" in asked[1]
    config = tmp_path / "latents" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("DDIMScheduler", "LCMScheduler"))
    asked.clear()
    with pytest.raises(po.CapabilityError, match="cannot read a LCMScheduler"):
        po.load_prior("diffusers:latents")
    assert asked == [["*.json"]]


def test_stems_denoises_songs_that_it_was_not_trained_on() -> None:
    # Catches: weights of another configuration, stems in another order, files read in other units.
    shipped = SHIPPED["stems"]
    prior = po.load_prior("stems", size=16_384)
    truth = torch.from_numpy(soundfile.read(shipped.folder / "examples" / "0-song.flac")[0].T)
    truth = truth[:, :16_384].float() * shipped.data.gain
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    error = (prior((truth + 0.3 * noise)[None], 0.3)[0] - truth).square().mean(1)
    # In dB of the noise: -10.5, -6.3, -4.0 and -8.0; the first and last are -4.0 and -2.4 with neighbours exchanged.
    assert ((error / 0.09).log10() * 10 < torch.tensor([-9.0, -5.0, -3.0, -6.0])).all()
    text = (shipped.folder / "README.md").read_text()
    assert "sha256 " + str(shipped.sha256) in text and "FluidR3" in text


@pytest.mark.parametrize("name", ["digits", "satellite"])
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
    noise = torch.randn(12, *truth.shape, generator=torch.Generator().manual_seed(0))
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
    sampler = po.Unconditional(solver=po.solvers.DDPM(), schedule=po.Karras(steps=8))
    many = sampler.sample(prior, seeds=range(16))
    assert (sampler.sample(prior, seeds=[5])[0] - many[5]).abs().max() < 1e-3
    assert (sampler.sample(prior, seeds=range(4, 8)) - many[4:8]).abs().max() < 1e-3
