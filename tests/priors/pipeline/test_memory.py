"""What a gradient of a likelihood keeps with Stable Diffusion at 512 pixels, counted without numbers."""

from types import ModuleType

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from posteria.core import modules
from posteria.core.errors import expect
from posteria.latent import Latent
from posteria.priors import Embeddings, from_diffusers
from posteria.priors.load import _checkpoint
from posteria.priors.pipeline import autoencoder, given, parts


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1.2), (torch.bfloat16, 0.7)])
def test_what_a_gradient_keeps(
    dtype: torch.dtype, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: blocks of network or decoder that are kept and not computed again.
    places: tuple[ModuleType, ...] = (modules, given, parts, autoencoder)
    for place in places:
        monkeypatch.setattr(place, "device_of", lambda module: torch.device("meta"))
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        tokens = torch.zeros(77, 768)
    for part in (unet, vae):
        nn.Module.to(part, dtype).eval().requires_grad_(False)
    prior = from_diffusers({"unet": unet, "vae": vae, "scheduler": DDIMScheduler()})
    _checkpoint(prior)
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[id(tensor.untyped_storage())] = tensor.untyped_storage()
        return tensor

    x = torch.zeros(1, 4, 64, 64, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        maps = (
            prior.given(Embeddings(tokens)).vjp(x, 1.0),
            expect(prior, Latent, by="A test").decoder.vjp(x),
        )
    assert len(maps) == 2 and 0.4 < sum(s.nbytes() for s in kept.values()) / 2**30 < most
