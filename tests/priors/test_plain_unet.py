"""Our U-Net of plain blocks against diffusers' own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel

import posteria as po
from common.models.unets import save, tiny
from posteria.priors import SHIPPED
from posteria.priors.plain_unet import UNet
from posteria.priors.readers.pixel import Folded

F64 = torch.float64
DEEP = {
    "block_out_channels": (8, 16, 24),
    "down_block_types": ("DownBlock2D",) * 3,
    "up_block_types": ("UpBlock2D",) * 3,
    "layers_per_block": 2,
}


def network_of(prior: po.Denoiser) -> torch.nn.Module:
    assert isinstance(prior, po.Network)
    module = prior.module
    network = module.unet if isinstance(module, Folded) else module
    assert isinstance(network, torch.nn.Module)
    return network


def same(ours: torch.nn.Module, theirs: UNet2DModel, size: tuple[int, int]) -> None:
    """Output and gradient of both."""
    assert isinstance(ours, UNet)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, theirs.config.in_channels, *size, dtype=F64, generator=generator)
    given = [torch.tensor([0.3, 987.6], dtype=F64)]
    if theirs.config.num_class_embeds:
        given.append(torch.tensor([1, 0]))
    z = x.clone().requires_grad_()
    y, expected = ours(x.requires_grad_(), *given), theirs.to(F64)(z, *given).sample
    assert (y - expected).abs().max() < 1e-10 * expected.abs().max()
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    (wanted,) = torch.autograd.grad(expected.square().sum(), z)
    assert (gradient - wanted).abs().max() < 1e-10 * wanted.abs().max()


@pytest.mark.parametrize(
    "changes",
    [{}, DEEP, {"num_class_embeds": 3}, {"attention_head_dim": None}, {"norm_eps": 1e-3}],
    ids=["plain", "deep", "classes", "one head", "eps"],
)
def test_networks_agree_with_diffusers(changes: dict[str, Any], tmp_path: Path) -> None:
    # Catches: a skip that goes to another block, a wave in another place, a head of another size.
    theirs = tiny(**changes)
    prior = po.load_prior(save(tmp_path, theirs, DDPMScheduler()), dtype=F64)
    same(network_of(prior), theirs, (8, 16))


@pytest.mark.parametrize("name", ["digits", "satellite"])
def test_shipped_networks_agree_with_diffusers(name: str) -> None:
    theirs = UNet2DModel.from_pretrained(SHIPPED[name].folder / "unet", low_cpu_mem_usage=False)
    same(network_of(po.load_prior(name, dtype=F64)), theirs, (16, 16))


@pytest.mark.parametrize(
    "changes",
    [
        {"down_block_types": ("DownBlock2D", "AttnDownBlock2D")},
        {"resnet_time_scale_shift": "scale_shift"},
        {"downsample_padding": 0},
        {"time_embedding_type": "fourier"},
        {"freq_shift": 1},
        {"act_fn": "gelu"},
        {"dropout": 0.1},
        {"add_attention": False},
        {"time_embedding_dim": 64},
    ],
    ids=str,
)
def test_other_networks_are_left_to_diffusers(changes: dict[str, Any], tmp_path: Path) -> None:
    # Catches: a part that is taken for the plain one, whose weights have the same names.
    prior = po.load_prior(save(tmp_path, tiny(**changes), DDPMScheduler()))
    assert isinstance(network_of(prior), UNet2DModel)


def test_a_shipped_prior_waits_for_no_library() -> None:
    # Catches: diffusers, SymPy or the compiler of PyTorch imported before they are needed.
    code = """
import sys, torch
import posteria as po
from posteria.metrics.image import ssim
from posteria.runs.jobs import restore
x0, pullback = po.load_prior("digits").vjp(torch.zeros(1, 1, 28, 28), 1.0)
ssim(pullback(x0), torch.zeros(1, 28, 28))
print(*{"diffusers", "torchmetrics", "scipy", "sympy", "torch._dynamo"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
