"""Networks as denoisers: each parametrisation must give the exact denoiser back."""

import math

import pytest
import torch
from helpers import F64, gaussian, normal
from torch import Tensor, nn

import posteria as po
from posteria.diffusion.network import Parametrisation
from posteria.testing import check_denoiser


class Exact(nn.Module):
    """What a perfect network outputs for a Gaussian prior, in the parametrisation's own units."""

    def __init__(self, prior: po.Gaussian, kind: str, extra: int = 0) -> None:
        super().__init__()
        self.prior, self.kind, self.extra = prior, kind, extra
        self.weight = nn.Parameter(torch.ones((), dtype=F64))
        self.betas = po.LinearBetas()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        if self.kind in {"epsilon", "velocity", "clean"}:
            levels = torch.tensor(self.betas.sigmas, dtype=F64)
            sigma = levels[time.round().long()]
            alpha = (1 / (1 + sigma**2).sqrt())[:, None]
            x0 = self.prior(x / alpha, sigma)
            noise = (x - alpha * x0) / (1 - alpha**2).sqrt()
            out = {
                "epsilon": noise,
                "clean": x0,
                "velocity": alpha * noise - (1 - alpha**2).sqrt() * x0,
            }[self.kind]
        elif self.kind == "flow":
            t = time / 1000
            x0 = self.prior(x / (1 - t[:, None]), t / (1 - t))
            out = (x - x0) / t[:, None]
        else:
            sigma = (4 * time).exp()
            total = (sigma**2 + 0.25).sqrt()[:, None]
            x0 = self.prior(x * total, sigma)
            out = (x0 - 0.25 / total**2 * (x * total)) / (0.5 * sigma[:, None] / total)
            out = -out if self.kind == "edm-v" else out
        return torch.cat(
            [out * self.weight, torch.full_like(out[:, : self.extra], math.nan)], dim=1
        )


CASES: dict[str, Parametrisation] = {
    "epsilon": po.Epsilon(),
    "velocity": po.Velocity(),
    "clean": po.Clean(),
    "flow": po.FlowMatching(),
    "edm": po.EDM(),
    "edm-v": po.EDM(sign=-1),
}


@pytest.mark.parametrize("extra", [0, 4])
@pytest.mark.parametrize("kind", CASES)
def test_a_perfect_network_is_the_exact_denoiser(kind: str, extra: int) -> None:
    # Catches: a wrong factor or sign, a time off by one, sigma where abar was meant, a learned
    # variance taken for a mean.
    prior = gaussian()
    network = po.Network(Exact(prior, kind, extra), prior.space, CASES[kind])
    x = normal(5, 4)
    sigmas = po.LinearBetas().sigmas
    for k in (0, 100, 999):
        assert torch.allclose(
            network(sigmas[k] * x, sigmas[k]),
            prior(sigmas[k] * x, sigmas[k]),
            rtol=1e-6,
            atol=1e-6,
        )
    levels = torch.tensor([sigmas[k] for k in (5, 50, 300, 700, 990)], dtype=F64)
    assert torch.allclose(network(x, levels), prior(x, levels), rtol=1e-6, atol=1e-6)
    assert not any(p.requires_grad for p in network.module.parameters())
    assert not network.module.training


def test_battery_with_particles() -> None:
    prior = gaussian()
    network = po.Network(Exact(prior, "edm"), prior.space, po.EDM())
    check_denoiser(network)
    x = normal(3, 2, 4)
    assert torch.allclose(network(x, 0.7), prior(x, 0.7))


class Told(nn.Module):
    """Remembers the times that it was told."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=dtype))
        self.times: list[Tensor] = []
        self.seen: list[torch.dtype] = []

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        self.times.append(time)
        self.seen.append(x.dtype)
        return x * self.weight + (0 if label is None else label[:, None])


def test_time_is_the_training_step_of_the_level() -> None:
    # Catches: the off-by-one of the papers' shifted table where it was not asked for, and its
    # absence where it was.
    sigma = po.LinearBetas().sigmas[400]
    between = math.sqrt(sigma * po.LinearBetas().sigmas[401])
    for parametrisation, at, halfway in (
        (po.Epsilon(), 400, 400.5),
        (po.Epsilon(shift=1), 401, 401.5),
        (po.Epsilon(whole=True), 400, 400),
    ):
        told = Told()
        network = po.Network(told, po.Space((2,)), parametrisation)
        network(torch.zeros(3, 2), sigma)
        network(torch.zeros(3, 2), torch.full((3,), sigma, dtype=F64))
        network(torch.zeros(1, 2), between)
        assert told.times[0].tolist() == pytest.approx([at] * 3, abs=1e-4)
        assert told.times[1].tolist() == pytest.approx([at] * 3, abs=1e-4)
        assert told.times[2].tolist() == pytest.approx(
            [halfway], abs=0.51 if parametrisation.whole else 1e-3
        )
    assert po.Epsilon().time(1e9) == 999
    assert po.Epsilon().time(0.0) == 0


def test_state_keeps_its_precision_around_a_half_precision_network() -> None:
    # Catches: sampling in the network's dtype, which loses the small noise levels.
    told = Told(torch.bfloat16)
    network = po.Network(told, po.Space((2,), F64), po.EDM())
    x0 = network(torch.ones(1, 2, dtype=F64), 0.3)
    assert x0.dtype == F64
    assert told.seen == [torch.bfloat16]
    assert told.times[0].dtype == torch.float32


def test_labels() -> None:
    network = po.Network(Told(), po.Space((2,)), po.Clean(), labels=10, null_label=10)
    x = torch.zeros(1, 2)
    assert network(x, 1.0).tolist() == [[10, 10]]
    assert network.given(po.Label(3))(x, 1.0).tolist() == [[3, 3]]
    assert network(x, 1.0).tolist() == [[10, 10]]
    with pytest.raises(po.InputError, match="from 0 to 9; 10 is not"):
        network.given(po.Label(10))
    bare = po.Network(Told(), po.Space((2,)), po.Clean())
    with pytest.raises(po.CapabilityError, match=r"cannot be given Label\(label=3\)"):
        bare.given(po.Label(3))
    no_null = po.Network(Told(), po.Space((2,)), po.Clean(), labels=10)
    with pytest.raises(po.CapabilityError, match="no unconditional branch"):
        no_null(x, 1.0)


def test_counted_counts_samples_and_particles() -> None:
    prior = gaussian()
    counted = po.Counted(prior)
    x = normal(3, 4)
    counted(x, 1.0)
    _, pullback = counted.vjp(x, 1.0)
    pullback(x)
    pullback(x)
    assert (counted.meter.forward, counted.meter.backward) == (6, 6)
    counted(normal(3, 5, 4), 1.0)
    assert counted.meter.forward == 6 + 15
