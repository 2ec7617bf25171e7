"""The prior of electrocardiograms that ships: read rightly, of any length, in windows, and it denoises."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import posteria as po
from posteria.core import linalg
from posteria.priors import SHIPPED
from posteria.priors.local import Windowed
from posteria.testing import check_prior

CARD = SHIPPED["ecg"]


def examples() -> Tensor:
    """Of patients that it was not trained on, `[3, 8, 1000]`."""
    return torch.stack([torch.from_numpy(np.load(path)["x"]) for path in CARD.examples])


def test_it_is_read_as_what_it_is() -> None:
    # Catches: leads in microvolts, another preconditioning than it was trained with, levels in other units.
    left = check_prior(po.load_prior("ecg", size=1000), examples())
    assert max(left.values()) < 0.93


def test_it_has_the_length_of_its_card_or_the_one_asked_for() -> None:
    assert po.load_prior("ecg").space.shape == CARD.shape == (8, 1024)
    assert po.load_prior("ecg", size=333).space.shape == (8, 333)
    assert (CARD.data.units, CARD.data.rate) == ("mV", 100.0)


def test_its_leads_are_in_the_order_that_is_said() -> None:
    # Catches: leads in another order, which the network knows by heart.
    x = examples()
    noisy = x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    prior = po.load_prior("ecg", size=1000)
    right = (prior(noisy, 0.2) - x).square().mean()
    turned = (prior(noisy.flip(1), 0.2).flip(1) - x).square().mean()
    assert right < 0.8 * turned


def test_windows_of_it_are_the_whole() -> None:
    # Catches: a reach that is too short by a convolution, normalisation over time, a derivative without its own halo.
    prior: Any = po.load_prior("ecg", size=4096, dtype=torch.float64)
    net, time = prior.module.net, torch.full((1,), -0.4).double()
    x = torch.randn(1, 8, 4096, generator=torch.Generator().manual_seed(0)).double()
    whole, windows = (
        linalg.vjp(lambda z, f=f: f(z, time), x, "This network") for f in (net, Windowed(net, 512))
    )
    assert torch.allclose(windows[0], whole[0], atol=1e-12)
    assert torch.allclose(windows[1](x), whole[1](x), atol=1e-12)


def test_the_end_of_a_recording_is_denoised_as_well_as_its_middle() -> None:
    # Catches: a last step that is repeated where a length is no multiple of the stride: a run of one value in noise,
    # which the network never saw, and after which the last half second was off by twice as much.
    x, sigma = examples(), 2.0
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    error = (po.load_prior("ecg", size=1000)(x + sigma * noise, sigma) - x).square()
    assert error[..., -30:].mean().sqrt() < 1.25 * error.mean().sqrt()
    # A recording that is shorter than what is filled up has no such mirror image.
    assert po.load_prior("ecg", size=10)(x[..., :10], sigma).isfinite().all()


@pytest.mark.parametrize(("sigma", "most"), [(0.05, 0.7), (0.2, 0.45), (1.0, 0.3)])
def test_it_denoises_patients_that_it_never_saw(sigma: float, most: float) -> None:
    # Catches: weights of another run, half precision that costs what was learned; as a share of the noise.
    x = examples()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    error = po.load_prior("ecg", size=1000)(x + sigma * noise, sigma) - x
    assert error.square().mean().sqrt() < most * sigma
