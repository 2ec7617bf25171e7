"""Local networks of signals in time: how far they look, windows of any length, and folders of them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import posteria as po
from posteria.core.errors import InputError
from posteria.priors.local import LocalUNet, Windowed

LEVELS = {"widths": [8, 8, 8], "blocks": [1, 2, 1], "strides": [2, 3]}
CONFIG = {"channels": 4, **LEVELS, "patch": 4, "kernel": 5}


def signals() -> LocalUNet:
    """A small network, with steps to coarser levels that differ and weights that let all in reach count."""
    torch.manual_seed(0)
    net = LocalUNet(4, (8, 8, 8), (1, 2, 1), 4, 5, (2, 3), axes=1).double()
    for weight in net.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight, a=1)
    return net.requires_grad_(False)


def signal(length: int, n: int = 1) -> Tensor:
    return torch.randn(n, 4, length, generator=torch.Generator().manual_seed(1)).double()


def test_no_step_out_of_reach_counts() -> None:
    # Catches: a reach that forgets the kernel, a level or the steps that are folded together, or that is twice too far.
    net = signals()
    x = signal(768).requires_grad_()
    value = net(x, torch.tensor([-0.3]).double())
    (slope,) = torch.autograd.grad(value[0, :, 384].sum(), x)
    farthest = int((slope[0].abs().sum(0).nonzero() - 384).abs().max())
    assert net.stride == 24
    assert net.reach - net.stride <= farthest <= net.reach


@pytest.mark.parametrize("length", [1000, 1536])
def test_windows_are_the_whole_signal(length: int) -> None:
    # Catches: a halo that is too small for values or for derivatives, a window that begins within a folded step, a
    # signal's last steps left out; in double precision, in which the order of a sum moves the last bits alone.
    net, time = signals(), torch.tensor([-0.3, 0.2]).double()
    x, v = signal(length, 2), signal(length, 2).flip(0)

    def both(side: int | None) -> tuple[Tensor, Tensor]:
        z = x.clone().requires_grad_()
        value = Windowed(net, side)(z, time)
        return value.detach(), torch.autograd.grad(value, z, v)[0]

    (whole, slope), (value, own) = both(None), both(48)
    assert (value - whole).abs().max() < 1e-12 * whole.abs().max()
    assert (own - slope).abs().max() < 1e-12 * slope.abs().max()


def folder(path: Path, **more: object) -> Path:
    config = {"kind": "unet1d", "mean": 0.1, "std": 0.3, **CONFIG, **more}
    (path / "network.json").write_text(json.dumps(config))
    (path / "card.toml").write_text('name = "a"\nreader = "local"\nmodality = "signal"\n')
    save_file(signals().float().state_dict(), path / "network.safetensors")
    return path


def test_a_folder_of_signals_has_its_length_or_the_one_asked_for(tmp_path: Path) -> None:
    # Catches: a default length that wins over what is asked for, the usual preconditioning where the folder says
    # another, a mean that is not the folder's.
    usual = po.load_prior(folder(tmp_path, size=[100], sigma_data=0.3))
    asked = po.load_prior(tmp_path, size=64, dtype=torch.float64)
    assert (usual.space.shape, asked.space.shape) == ((4, 100), (4, 64))
    x, sigma = signal(64), 0.2
    total = (sigma**2 + 0.3**2) ** 0.5
    net = signals()
    net.load_state_dict({name: part.float().double() for name, part in net.state_dict().items()})
    filled = nn.functional.pad(x / total, (0, 8), "reflect")
    out = net(filled, torch.tensor([sigma]).double().log() / 4)[..., :64]
    expected = 0.3**2 / total**2 * x + sigma * 0.3 / total * out
    assert torch.allclose(asked(x, sigma), expected, atol=1e-10)
    assert asked.scale is not None and abs(asked.scale.std - 0.3) < 1e-9


def test_a_length_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="signals of any length; say which: size=1000"):
        po.load_prior(folder(tmp_path))
    with pytest.raises(InputError, match=r"size=\(32, 32\) is none"):
        po.load_prior(tmp_path, size=(32, 32))
    with pytest.raises(InputError, match=r"pictures of any size.*size=\(32,\) is none"):
        po.load_prior("photo", size=32)
    with pytest.raises(InputError, match="digits draws pictures"):
        po.load_prior("digits", size=32)
    with pytest.raises(InputError, match="odd kernel"):
        LocalUNet(4, (8, 8), (1, 1), kernel=4, axes=1)
