"""Folders beside those of the rows of docs/priors.md: older or odd configurations, read as meant or refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
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
from posteria.priors import Decoder, Embeddings, Latent, Prompt, decode, from_diffusers
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


def lacking_its_factor(version: str) -> Callable[[Path], str]:
    return latents("vae", scaling_factor=None, _diffusers_version=version)


def another_name(name: str, index: bool = True) -> Callable[[Path], str]:
    """A model of latents whose autoencoder is called something else."""

    def make(folder: Path) -> str:
        (save(folder, parts_of("ldm")) / "vqvae").rename(folder / name)
        path = folder / "model_index.json"
        path.write_text(path.read_text().replace('"vqvae"', f'"{name}"'))
        if not index:
            path.unlink()
        return str(folder)

    return make


def another_scheduler(folder: Path) -> str:
    index = {"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "EDMEulerScheduler"]}
    save_unet(folder, tiny(), d.DDPMScheduler())
    (folder / "model_index.json").write_text(json.dumps(index))
    return str(folder)


def extra(**entries: Any) -> Callable[[Path], str]:
    return lambda folder: str(
        save_unet(folder, tiny(num_class_embeds=3), d.DDPMScheduler(), **entries)
    )


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
        (latents("vae", scaling_factor=True), "is a number above 0; its config.json has True"),
        (latents("vae", shift_factor="0.4"), "shift_factor .* is a number; .* has '0.4'"),
        (latents("vae", latents_mean=[0.1] * 4), "latents_mean and latents_std, or neither"),
        (latents("vae", latents_mean=[0.1], latents_std=[2.0]), "each of 4 channels"),
        (
            latents("vae", latents_mean=[0.1] * 4, latents_std=[0.0] * 4),
            "each of 4 channels, the second above 0",
        ),
        (latents("vae", _class_name="MyVAE"), "is of a MyVAE, which is no network of diffusers"),
        (latents("vae", _class_name=None), "is of a None, which is no network of diffusers"),
        (lacking_its_factor("0.30.0"), "vae/config.json lacks the entry scaling_factor"),
        (another_name("first_stage_model"), "has a part 'first_stage_model'"),
        (another_name("ae", index=False), "has a part 'ae', of which posteria does not know"),
        (another_scheduler, "names a EDMEulerScheduler, and .* is of a DDPMScheduler"),
        (extra(null_label=1), "null label of this network is the last, 2"),
        (extra(null_label="2"), "null_label in .* is an integer of at least 0; '2' is not"),
        (extra(patch=0), "patch in .* is an integer of at least 1; 0 is not"),
        (extra(patch=2), "network of 3 channels sees no pictures with 2 x 2 pixels"),
        (extra(nul_label=2), "no entry of .* 'nul_label'; .* Did you mean 'null_label'"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_refused(make: Callable[[Path], str], said: str, tmp_path: Path) -> None:
    # Catches: errors of Python, wrong readings (latents as pixels, a scale of another type or that is not there, a null
    # label that is a class), and decoders whose samples depend on the order in which they are drawn.
    with pytest.raises(po.PosteriaError, match=said):
        po.load_prior(make(tmp_path))


def test_a_size_that_patches_do_not_fill(tmp_path: Path) -> None:
    # Catches: a refusal at the first evaluation only.
    name = str(save(tmp_path, parts_of("dit")))
    with pytest.raises(po.InputError, match="multiples of 4"):
        po.load_prior(name, size=(18, 18))


@pytest.mark.parametrize(
    ("family", "part", "factor"), [("ldm", "vqvae", 1.0), ("sd", "vae", 0.18215)]
)
def test_the_factor_of_an_old_autoencoder(
    family: str, part: str, factor: float, tmp_path: Path
) -> None:
    # Catches: latents of LDM divided by the factor of Stable Diffusion, with which diffusers fills in what older
    # versions have not saved.
    save(tmp_path, parts_of(family))
    changed(tmp_path, part, scaling_factor=None, _diffusers_version="0.1.2")
    prior = po.load_prior(str(tmp_path))
    autoencoder = getattr(d, {"vae": "AutoencoderKL", "vqvae": "VQModel"}[part])
    loaded = autoencoder.from_pretrained(tmp_path / part)
    pipeline = from_diffusers({**parts_of(family), part: loaded})
    z = normal(1, *prior.space.shape, seed=3).float()
    with torch.no_grad():
        want = loaded.decode(z / factor).sample
    for each in (prior, pipeline):
        assert isinstance(each, Latent)
        torch.testing.assert_close(each.decode(z), want)


def test_parts_by_hand() -> None:
    # Catches: a dictionary or a pipeline with parts that are left out without a word, as the autoencoder of latents.
    parts = parts_of("ldm")
    vqvae = parts.pop("vqvae")
    assert isinstance(from_diffusers({**parts, "movq": vqvae}), Latent)
    for more, said in (
        ({"first_stage": vqvae}, "has a part 'first_stage'"),
        ({"unet_2": parts["unet"]}, "a second network, unet_2"),
    ):
        pipeline = SimpleNamespace(components={**parts, **more}, **parts, **more)
        for given in ({**parts, **more}, pipeline):
            with pytest.raises(po.CapabilityError, match=said):
                from_diffusers(given)
    # Latents are not of [0, 1] where their scheduler is that of the variance-exploding SDE.
    scored = from_diffusers({**parts, "vqvae": vqvae, "scheduler": d.ScoreSdeVeScheduler()})
    assert isinstance(scored, Latent) and isinstance(scored.prior, po.Network)


def test_copies_of_an_autoencoder_are_left_out(tmp_path: Path) -> None:
    # Catches: the folder of Stable Diffusion XL, with its decoder for other programs beside it, refused.
    save(tmp_path, parts_of("sd"))
    for name in ("vae_1_0", "vae_decoder"):
        shutil.copytree(tmp_path / "vae", tmp_path / name)
    assert isinstance(po.load_prior(str(tmp_path)), Latent)


def test_the_null_label_of_latents(tmp_path: Path) -> None:
    # Catches: an entry of posteria.json that one reader knows and another one drops.
    parts = parts_of("ldm")
    parts["unet"] = drawn(d.UNet2DModel(**{**dict(parts["unet"].config), "num_class_embeds": 4}))
    save(tmp_path, parts)
    (tmp_path / "posteria.json").write_text('{"null_label": 3}')
    prior = po.load_prior(str(tmp_path))
    assert prior.labels == 3
    same(prior, from_diffusers(parts, null=po.Label(3)))


def test_a_distilled_network_is_no_denoiser() -> None:
    # Catches: a network that is given the strength of guidance, which is left out where its scheduler is swapped.
    parts = GIVEN["audioldm2"][0]()[0]
    network = parts["unet"]
    distilled = type(network)(**{**dict(network.config), "time_cond_proj_dim": 8})
    with pytest.raises(po.CapabilityError, match=r"time_cond_proj_dim=8: .* distilled"):
        from_diffusers({**parts, "unet": distilled})


def test_embeddings_of_one_text() -> None:
    # Catches: the tokens of two texts read as those of one.
    prior = from_diffusers(parts_of("sd"))
    z, tokens = normal(1, *prior.space.shape).float(), normal(2, 7, 8, seed=1).float()
    one = prior.given(Embeddings(tokens[0]))(z, 1.0)
    assert torch.equal(prior.given(Embeddings(tokens[:1]))(z, 1.0), one)
    for wrong in (tokens, tokens[0, 0]):
        with pytest.raises(po.ShapeError, match="tokens of 2 axes; this has shape"):
            prior.given(Embeddings(wrong))


def test_an_encoder_of_another_shape() -> None:
    # Catches: height and width exchanged, whose numbers would be taken row by row all the same.
    decoder = Decoder(
        lambda z: z.repeat_interleave(2, -1),
        po.Space((1, 2, 4)),
        (1, 2, 8),
        lambda x: x[..., ::2].mT,
    )
    with pytest.raises(po.ShapeError, match=r"encoder gives \(1, 1, 4, 2\) .* not \(1, 1, 2, 4\)"):
        decoder.encode(torch.zeros(1, 1, 2, 8))


def test_sound_is_no_image() -> None:
    # Catches: sound that is brought to [0, 1].
    parts, _ = GIVEN["stable-audio"][0]()
    with pytest.raises(po.CapabilityError, match="this pipeline makes sound"):
        decode(parts, torch.zeros(1, 4, 16))
