"""Folders beside those of the rows of docs/priors.md: older or odd configurations, read as meant or refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers as d
import pytest
import torch

import posteria as po
from common.models.pipelines import drawn, parts_of, save
from common.models.text_pipelines import pixart
from common.models.unets import save as save_unet, tiny
from helpers import normal
from posteria.diffusion.parametrisation import X0
from posteria.priors import Prompt, from_diffusers
from posteria.priors.load import card_of
from priors.pipeline.test_given import FAMILIES as GIVEN, dance

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
NAMES = {"scheduler": "scheduler_config.json"}


def changed(folder: Path, part: str, **changes: Any) -> str:
    """The folder with other entries in a configuration; those that are None are gone."""
    path = folder / part / NAMES.get(part, "config.json")
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return str(folder)


def pixels(folder: Path, part: str, **changes: Any) -> str:
    return changed(Path(save_unet(folder, tiny(), d.DDPMScheduler())), part, **changes)


def same(ours: po.Denoiser, theirs: po.Denoiser) -> None:
    z = normal(2, *ours.space.shape, seed=3).float()
    assert torch.equal(ours(z, 1.0), theirs(z, 1.0))


def test_what_is_predicted_was_one_of_two_once(tmp_path: Path) -> None:
    # Catches: `predict_epsilon: false` of old configurations read as noise.
    name = pixels(tmp_path, "scheduler", predict_epsilon=False, prediction_type=None)
    assert isinstance(getattr(po.load_prior(name), "parametrisation", None), X0)


def test_one_class_for_two_networks(tmp_path: Path) -> None:
    # Catches: the published folders of DiT and PixArt, whose networks have the name of their old class, refused.
    parts = parts_of("dit")
    save(tmp_path / "dit", parts)
    old = {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_zero"}
    prior = po.load_prior(changed(tmp_path / "dit", "transformer", **old))
    same(prior.given(po.Label(1)), from_diffusers(parts).given(po.Label(1)))
    pipeline = pixart()
    pipeline.save_pretrained(tmp_path / "pixart")
    prior = po.load_prior(
        changed(tmp_path / "pixart", "transformer", **old | {"norm_type": "ada_norm_single"})
    )
    same(prior.given(Prompt("cat")), from_diffusers(pipeline).given(Prompt("cat")))


def test_a_null_label_may_be_named(tmp_path: Path) -> None:
    # Catches: classes whose last stands for none, which a folder cannot say; members that keep the other labels.
    name = str(save_unet(tmp_path, tiny(num_class_embeds=3), d.DDPMScheduler()))
    prior = po.load_prior(name, null=po.Label(2))
    assert prior.labels == 2
    same(prior.unconditional(), po.load_prior(name).given(po.Label(2)))
    for null in (po.Label(1), Prompt("no")):
        with pytest.raises(po.InputError, match="null"):
            po.load_prior(name, null=null)


def test_the_rate_of_sound_is_that_of_the_network(tmp_path: Path) -> None:
    # Catches: Dance Diffusion and Stable Audio taken for pictures.
    network = drawn(d.UNet1DModel(**{**dict(dance().config), "sample_rate": 16000}))
    save(tmp_path / "dance", {"unet": network, "scheduler": d.IPNDMScheduler()})
    save(tmp_path / "stable", GIVEN["stable-audio"][0]()[0])
    for name, rate in (("dance", 16000), ("stable", 44100)):
        card = card_of(tmp_path / name)
        assert (card.modality, card.data.rate, card.data.names) == (
            "audio",
            rate,
            ("left", "right"),
        )


def wan_2(folder: Path) -> str:
    save(folder, GIVEN["wan"][0]()[0])
    shutil.copytree(folder / "transformer", folder / "transformer_2")
    return str(folder)


def decoder_that_draws(folder: Path) -> str:
    made = d.ConsistencyDecoderVAE(
        latent_channels=4,
        encoder_block_out_channels=(4, 4),
        encoder_down_block_types=("DownEncoderBlock2D",) * 2,
        encoder_layers_per_block=1,
        encoder_norm_num_groups=2,
        decoder_block_out_channels=(8, 8),
        decoder_layers_per_block=1,
        decoder_norm_num_groups=4,
        decoder_down_block_types=("ResnetDownsampleBlock2D",) * 2,
        decoder_up_block_types=("ResnetUpsampleBlock2D",) * 2,
    )
    return str(save(folder, {**parts_of("sd"), "vae": made}))


def of_pixels(part: str, **changes: Any) -> Callable[[Path], str]:
    return lambda folder: pixels(folder, part, **changes)


def latents(part: str, **changes: Any) -> Callable[[Path], str]:
    return lambda folder: changed(save(folder, parts_of("sd")), part, **changes)


def learned(folder: Path) -> str:
    unet = tiny(time_embedding_type="learned", num_train_timesteps=100)
    return str(save_unet(folder, unet, d.DDPMScheduler()))


def narrow(folder: Path) -> str:
    network = drawn(d.UNet1DModel(**{**dict(dance().config), "out_channels": 1}))
    return str(save(folder, {"unet": network, "scheduler": d.IPNDMScheduler()}))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (of_pixels("scheduler", trained_betas="betas.npy"), "trained_betas of this DDPMScheduler"),
        (of_pixels("scheduler", num_train_timesteps=-1), "is a number above 0; -1 is not"),
        (of_pixels("unet", in_channels=None), "lacks the entry in_channels"),
        (of_pixels("unet", sample_size="8"), "sample_size of its config.json"),
        (latents("unet", quantization_config={"quant_method": "gguf"}), "are quantized"),
        (latents("vae", scaling_factor=0.0), "scaling_factor of an autoencoder is a number above"),
        (learned, "embeddings of 100 timesteps, and its scheduler a table of 1000"),
        (narrow, "takes 2 channels and gives 1"),
        (wan_2, "a second network, transformer_2"),
        (decoder_that_draws, "ConsistencyDecoderVAE, which draws noise to decode"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_refused(make: Callable[[Path], str], said: str, tmp_path: Path) -> None:
    # Catches: errors of Python, wrong readings, and decoders whose samples depend on the order in which they are drawn.
    with pytest.raises(po.PosteriaError, match=said):
        po.load_prior(make(tmp_path))


def test_a_size_that_patches_do_not_fill(tmp_path: Path) -> None:
    # Catches: a refusal at the first evaluation only.
    name = str(save(tmp_path, parts_of("dit")))
    with pytest.raises(po.InputError, match="multiples of 4"):
        po.load_prior(name, size=(18, 18))
