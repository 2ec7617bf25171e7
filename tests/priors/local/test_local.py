"""Local networks: how far they look, windows of pictures of any size, and the shipped bias-free denoiser."""

from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import posteria as po
from posteria.core import linalg
from posteria.core.errors import CapabilityError, InputError
from posteria.modalities import MODALITIES
from posteria.priors import SHIPPED
from posteria.priors.local import BiasFree, LocalUNet, Windowed

CARD = SHIPPED["photo-bf"]


def unet() -> LocalUNet:
    """A small network with weights that let every pixel in reach count."""
    torch.manual_seed(0)
    net = LocalUNet(3, (8, 8, 8), (1, 2, 1)).double()
    for weight in net.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight, a=1)
    return net.eval().requires_grad_(False)


NETS = [unet, lambda: BiasFree(6, 8).double().requires_grad_(False)]


def picture(height: int, width: int, n: int = 1) -> Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("make", NETS)
def test_no_pixel_out_of_reach_counts(make: type[LocalUNet]) -> None:
    # Catches: a reach that forgets a convolution or the folded pixels, so that windows are wrong at their edges;
    # one that is twice what it has to be, so that they cost four times the work.
    net = make()
    side = 2 * net.reach + 4 * net.stride
    side -= side % net.stride
    x = picture(side, side).requires_grad_()
    middle = side // 2
    value = net(x, torch.tensor([-0.3]).double())
    (slope,) = torch.autograd.grad(value[0, :, middle, middle].sum(), x)
    rows, columns = slope[0].abs().sum(0).nonzero().unbind(1)
    farthest = max(int((rows - middle).abs().max()), int((columns - middle).abs().max()))
    assert net.reach - net.stride <= farthest <= net.reach


@pytest.mark.parametrize("make", NETS)
@pytest.mark.parametrize("size", [(160, 40), (37, 163)])
def test_windows_are_the_whole_picture(make: type[LocalUNet], size: tuple[int, int]) -> None:
    # Catches: a halo that is too small for values or for derivatives, windows put down a pixel off, a picture's last
    # rows left out; in double precision, in which the order of a sum moves the last bits alone.
    # Along its long side a picture has windows that no edge cuts.
    net, time = make(), torch.tensor([-0.3, 0.2]).double()
    x, v = picture(*size, n=2), torch.randn(2, 3, *size).double()

    def both(side: int) -> tuple[Tensor, Tensor]:
        z = x.clone().requires_grad_()
        value = Windowed(net, side)(z, time)
        return value.detach(), torch.autograd.grad(value, z, v)[0]

    (whole, slope), (value, own) = both(1024), both(16)
    assert (value - whole).abs().max() < 1e-12 * whole.abs().max()
    assert (own - slope).abs().max() < 1e-12 * slope.abs().max()


def test_windows_of_the_network_that_ships_have_its_bits() -> None:
    # Catches: blending at the edges of windows. Whole sides, at which the library's convolutions sum in one order.
    net = Windowed(net_of("photo-bf", 96, 96), 32)
    x, time = picture(96, 96).float(), torch.zeros(1)
    assert torch.equal(net(x, time), net.net(x, time))


def test_windows_of_photo_have_its_bits() -> None:
    # Catches: a reach that is too short by a convolution, normalisation over space, a derivative without its own halo.
    net = net_of("photo", 320, 64)
    x, time = picture(320, 64).float(), torch.full((1,), -0.3)
    whole, windows = (linalg.vjp(partial(f, time=time), x) for f in (net, Windowed(net, 64)))
    assert Windowed(net, 64).halo == 112
    assert torch.equal(windows[0], whole[0])
    v = picture(320, 64).float().flip(2)
    assert torch.equal(windows[1](v), whole[1](v))


def net_of(name: str, height: int, width: int) -> Any:
    prior: Any = po.load_prior(name, size=(height, width))
    return prior.module.net


def test_windows_refuse_gradients_of_weights() -> None:
    # Catches: training in windows, which would leave the weights without a gradient and without a word.
    net = BiasFree(2, 4)
    with pytest.raises(CapabilityError, match="freeze the network"):
        Windowed(net, 8)(picture(40, 40).float(), torch.zeros(1))
    with pytest.raises(InputError, match="multiple of 8; 20 is not"):
        Windowed(unet(), 20)


def test_the_bias_free_denoiser_scales_with_its_input() -> None:
    # Catches: pictures in [-1, 1] given to a network of [0, 1], a bias, a residual with the other sign.
    prior = po.load_prior("photo-bf", size=(48, 40), dtype=torch.float64)
    x = 0.5 * picture(48, 40)
    dark = 0.3 * (x + 1) - 1
    assert torch.allclose(prior(dark, 0.1), 0.3 * (prior(x, 0.4) + 1) - 1, atol=1e-12)


@cache
def examples() -> Tensor:
    """The middle of those of the priors of photographs."""
    taken = {"taker": "photo", "fit": False}
    paths = SHIPPED["photo"].examples
    pictures = [MODALITIES["image"].read(path, (3, 160, 160), **taken).x for path in paths]
    return torch.stack(pictures)[..., 48:112, 48:112]


@cache
def denoiser(name: str) -> po.Denoiser:
    return po.load_prior(name, size=(64, 64))


def decibels(name: str, level: int) -> Tensor:
    """PSNR of the denoised examples."""
    x, prior, sigma = examples(), denoiser(name), 2 * level / 255
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    error = (prior(x + sigma * noise, sigma).clamp(-1, 1) - x).square().mean((1, 2, 3))
    return 10 * (4 / error).log10()


@pytest.mark.parametrize(("level", "least"), [(10, 33.0), (25, 28.5), (50, 25.5), (100, 22.5)])
def test_the_denoisers_of_photographs_denoise(level: int, least: float) -> None:
    # Catches: weights in another order, half precision that costs a decibel, noise levels in other units, a network
    # of colours that is given them in another order, or knows no more than one channel tells.
    blind, photo = (decibels(name, level) for name in ("photo-bf", "photo"))
    assert blind.mean() > least
    assert photo.mean() > blind.mean() + 0.3


def test_photo_keeps_its_state_exact_in_half_precision() -> None:
    # Catches: pictures rounded to bfloat16 outside of the network, which moves the first of these by 4.3e-4.
    x = picture(64, 64).float()
    for sigma, most in ((0.02, 3.5e-4), (0.5, 3e-3), (20.0, 3e-3)):
        full, half = (
            po.load_prior("photo", size=(64, 64), dtype=dtype)(0.3 * x, sigma)
            for dtype in (torch.float32, torch.bfloat16)
        )
        assert half.dtype == torch.float32
        assert (half - full).abs().mean() < most


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="say which: size="):
        po.load_prior("photo-bf")
    for name in ("card.toml", "network.json"):
        (tmp_path / name).write_text((CARD.folder / name).read_text())
    (tmp_path / "network.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="not the file it should be"):
        po.load_prior(tmp_path, size=(32, 32))
    (tmp_path / "network.json").write_text('{"kind": "attention"}')
    (tmp_path / "card.toml").write_text('name = "a"\nreader = "local"\n')
    with pytest.raises(InputError, match="kind of local network 'attention'"):
        po.load_prior(tmp_path, size=(32, 32))
