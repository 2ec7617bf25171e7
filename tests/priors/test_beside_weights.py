"""What lies beside the weights of a prior, or is given with them, and would make another prior of it in silence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file, save_file

import posteria as po
from common.models.pipelines import parts_of, save as save_parts
from common.models.unets import save, tiny
from posteria.priors import SHIPPED, Given, from_denoiser, from_diffusers, prior_sha256
from posteria.priors.load import card_of

Make = Callable[[Path], Any]


def card(content: str) -> Make:
    """A folder of pictures with a card."""

    def make(folder: Path) -> object:
        save(folder, tiny(), DDPMScheduler())
        (folder / "card.toml").write_text(f'name = "mine"\nreader = "pixel"\n{content}')
        return po.load_prior(str(folder))

    return make


def local(name: str, **changes: Any) -> Make:
    """A shipped local network with other entries in its `network.json`."""

    def make(folder: Path) -> object:
        for file in ("network.json", "network.safetensors"):
            shutil.copy(SHIPPED[name].folder / file, folder)
        path = folder / "network.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return po.load_prior(f"local:{folder}", size=None if name == "ecg" else (16, 16))

    return make


def mixture(name: str, change: Callable[[Any], Any]) -> Make:
    def make(folder: Path) -> object:
        state = load_file(SHIPPED["digits-mixture"].folder / "mixture.safetensors")
        save_file(state | {name: change(state[name])}, folder / "mixture.safetensors")
        return po.load_prior(f"mixture:{folder}")

    return make


def scale(**changes: torch.Tensor) -> Make:
    """A copy of a shipped prior whose measured scale is another one's."""

    def make(folder: Path) -> object:
        mine = shutil.copytree(SHIPPED["digits"].folder, folder / "mine")
        path = mine / "scale.safetensors"
        known = {name: value.clone() for name, value in load_file(path).items()}
        save_file(known | changes, path)
        return po.load_prior(str(mine))

    return make


def quantized(kind: torch.dtype, reader: str = "pixel") -> Make:
    """Weights that are no floats, of a network of posteria's own, of diffusers, of a local one."""

    def make(folder: Path) -> object:
        if reader == "local":
            for file in ("network.json", "network.safetensors"):
                shutil.copy(SHIPPED["photo-bf"].folder / file, folder)
            path = folder / "network.safetensors"
        else:
            changes = {"act_fn": "gelu"} if reader == "diffusers" else {}
            save(folder, tiny(**changes), DDPMScheduler())
            path = folder / "unet" / "diffusion_pytorch_model.safetensors"
        save_file({name: (9 * value).to(kind) for name, value in load_file(path).items()}, path)
        name = f"local:{folder}" if reader == "local" else str(folder)
        return po.load_prior(name, size=(16, 16))

    return make


def of_unet(**changes: Any) -> Make:
    def make(folder: Path) -> object:
        path = save(folder, tiny(), DDPMScheduler()) / "unet" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return po.load_prior(str(folder))

    return make


def latents_as_pixels(folder: Path) -> object:
    return po.load_prior(f"pixel:{save_parts(folder, parts_of('ldm'))}")


def rate(value: object) -> Make:
    def make(folder: Path) -> object:
        path = save(folder, tiny(), DDPMScheduler()) / "unet" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"sample_rate": value}))
        return card_of(folder)

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            card("[data]\nshape = [1, 28, 28]"),
            r"draws signals of shape \(1, 28, 28\); its network",
        ),
        (card("[data]\nshape = [3.7, 8, 8]"), "integer of at least 1; 3.7 is not"),
        (card('[data]\nunits = "[0, 1]"'), r"pictures are in \[-1, 1\], not in \[0, 1\].*Units"),
        (card('[data]\nrate = "100"'), "rate of signals is a number above 0; '100' is not"),
        (card("[data]\ngain = 0"), "gain of signals is a number above 0; 0 is not"),
        (card("about = 3"), "about is a text; 3 is not"),
        (rate("fast"), "rate of signals is a number above 0; 'fast' is not"),
        (rate(0), "rate of signals is a number above 0; 0 is not"),
        (local("photo-bf", sigma_data=0.5), "unexpected keyword argument 'sigma_data'"),
        (local("photo-bf", std=0.0), "standard deviation 0.0"),
        (local("ecg", sigma_data=0.0), "sigma_data of EDM is above 0"),
        (local("ecg", size=1024), "takes signals of any length"),
        (mixture("factors", lambda w: 2 * w), "columns of its factors are not orthonormal"),
        (mixture("classes", lambda c: c[:5]), "not one class for each component"),
        (scale(std=torch.ones(3)), "is of another prior: .* 3 deviations"),
        (scale(mean=torch.zeros(11, 1, 8, 8)), "is of another prior: it has means of shape"),
        (quantized(torch.int8), r"as I8: .* no quantized ones"),
        (quantized(torch.complex64, "diffusers"), r"as C64: .* no quantized ones"),
        (quantized(torch.int8, "local"), "weights are not of floating point"),
        (of_unet(block_out_channels=16), "block_out_channels in .* list of widths; 16 is not"),
        (of_unet(down_block_types=["DownBlock2D"]), "does not hold the weights of its config"),
        (latents_as_pixels, "holds a network of latents, with vqvae beside it"),
        (lambda folder: po.load_prior("digits", dtype=torch.float8_e4m3fn), "dtype is one of"),
        (lambda folder: prior_sha256(f"local:{folder}/none"), "no file or folder"),
    ],
)
def test_what_is_refused(make: Make, said: str, tmp_path: Path) -> None:
    # Catches: a scale of 0, levels for a network that knows none, a law whose axes are made anew, pictures of [0, 1]
    # read as in [-1, 1], latents read as pixels, and errors of Python.
    with pytest.raises(po.PosteriaError, match=said):
        make(tmp_path)


def test_a_hash_may_be_in_capitals(tmp_path: Path) -> None:
    folder = str(save(tmp_path, tiny(), DDPMScheduler()))
    assert po.load_prior(folder, sha256=prior_sha256(folder).upper())


def test_a_mask_with_an_axis_for_the_batch() -> None:
    # Catches: a mask of 0 and 1 that PixArt's network adds to its products, so that nothing is masked.
    with pytest.raises(
        po.ShapeError, match=r"row of tokens; .* \(1, 5\): give encoder_att.*\[0\]"
    ):
        Given(encoder_attention_mask=torch.ones(1, 5, dtype=torch.int64))


def test_labels_that_are_dropped_in_training() -> None:
    # Catches: a network of classes that draws which labels it drops, at every evaluation.
    parts = parts_of("dit")
    parts["transformer"].train()
    prior = from_diffusers(parts).given(po.Label(1))
    with pytest.raises(po.InputError, match="training mode, where its LabelEmbedding draws"):
        prior(prior.space.zeros(1), 1.0)


def test_an_option_is_no_level() -> None:
    # Catches: a blind denoiser whose option is given the level.
    def blind(x: torch.Tensor, features: bool = False) -> torch.Tensor:
        assert features is False
        return x / 2

    x = torch.ones(1, 4)
    assert torch.equal(from_denoiser(blind, (4,))(x, 1.0), x / 2)


def test_a_compiled_denoiser_of_deepinv_is_one_of_deepinv() -> None:
    # Catches: data in [0, 1] taken for data in [-1, 1] since a compiler wraps the network.
    kind = type("Blind", (torch.nn.Identity,), {"__module__": "deepinv.models"})
    prior = from_denoiser(torch.compile(kind(), backend="eager"), (4,))
    assert isinstance(prior, po.diffusion.Units)
