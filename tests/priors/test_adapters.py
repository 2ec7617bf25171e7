"""Denoisers of one's own and of other libraries, by stand-ins with the interface of those."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import posteria as po
from helpers import F64, gaussian, normal
from posteria.priors import from_denoiser
from posteria.testing import check_denoiser

PRIOR = gaussian()


def own(x: Tensor, sigma: Tensor) -> Tensor:
    return PRIOR(x, sigma)


def agree(adapted: po.Denoiser, exact: po.Denoiser, tolerance: float = 1e-5) -> None:
    """Values and derivatives at levels from far below the data to far above them."""
    x, v = normal(5, 4), normal(5, 4, seed=1)
    for sigma in (0.02, 0.7, 30.0, torch.logspace(-1, 1, 5, dtype=F64)):
        (ours, pullback), (want, pull) = adapted.vjp(x, sigma), exact.vjp(x, sigma)
        torch.testing.assert_close(ours, want, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(pullback(v), pull(v), rtol=tolerance, atol=tolerance)


def test_a_function_of_signal_and_level() -> None:
    adapted = from_denoiser(own, PRIOR.space)
    agree(adapted, PRIOR)
    check_denoiser(adapted, tolerance=1e-5)
    agree(from_denoiser(lambda *given: {"sample": own(*given)}, PRIOR.space), PRIOR)
    assert from_denoiser(own, (4,)).space == po.Space((4,))


class VP:
    """The interface of azula's schedules: alpha and sigma of a time."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha = torch.exp(math.log(1e-3) * t**2)
        return alpha, torch.sqrt(1 - alpha**2 + 1e-6)


class Rectified:
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1e-3 * t + (1 - t), t + 1e-3 * (1 - t)


class Azula(nn.Module):
    """The interface of azula's denoisers: of `alpha x_0 + sigma noise` at a time, with a mean."""

    def __init__(self, schedule: Any) -> None:
        super().__init__()
        self.schedule = schedule

    def forward(self, x: Tensor, t: Tensor, **_: Any) -> Any:
        alpha, sigma = self.schedule(t)
        return SimpleNamespace(mean=PRIOR(x / alpha[:, None], sigma / alpha), var=None)


@pytest.mark.parametrize("schedule", [VP(), Rectified()])
def test_a_denoiser_of_azula(schedule: Any) -> None:
    # Catches: a signal that is not brought to the coordinate of the schedule, a time of another level.
    agree(from_denoiser(Azula(schedule), PRIOR.space), PRIOR, tolerance=1e-4)
    # Below the lowest level of the schedule it stays there.
    assert from_denoiser(Azula(schedule), PRIOR.space)(normal(2, 4), 0.0).isfinite().all()


def test_a_denoiser_of_deepinv() -> None:
    # Catches: its range [0, 1] taken for [-1, 1], a level that is not halved.
    base = type("Denoiser", (nn.Module,), {"__module__": "deepinv.models.base"})
    net = type("Net", (base,), {"forward": lambda self, x, sigma, **_: own(x, sigma)})()
    exact = po.Gaussian(2 * PRIOR.mean - 1, 4 * PRIOR.covariance)
    agree(from_denoiser(net, PRIOR.space), exact)
    agree(from_denoiser(net, PRIOR.space, data=(-1.0, 1.0)), PRIOR)
    agree(from_denoiser(own, PRIOR.space, data=(0.0, 1.0)), exact)


class BiasFree(nn.Module):
    """A blind denoiser, homogeneous of degree one, as bias-free networks are (arXiv:1906.05478)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.outer = nn.Conv2d(4, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.outer(self.inner(x).relu())


def test_a_blind_denoiser() -> None:
    torch.manual_seed(0)
    net = BiasFree()
    prior = from_denoiser(net, (1, 8, 8), data=(0.0, 1.0))
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(prior(x, 0.3), 2 * net((x + 1) / 2) - 1)
    assert torch.equal(prior(x, 0.3), prior(x, 3.0))
    check_denoiser(prior)


def test_what_is_no_denoiser() -> None:
    with pytest.raises(po.InputError, match="takes neither"):
        from_denoiser(lambda: None, (4,))
    with pytest.raises(po.InputError, match="a function of a signal and its noise level"):
        from_denoiser(3, (4,))  # type: ignore[arg-type]
    with pytest.raises(po.CapabilityError, match="no output"):
        from_denoiser(lambda x, s: "text", (4,))(torch.zeros(1, 4), 1.0)
