"""Networks as denoisers: each parametrisation must give the exact denoiser back."""

import math

import pytest
import torch
from torch import Tensor, nn

import posteria as po
from helpers import F64, gaussian, normal
from posteria.diffusion.denoiser import Denoiser
from posteria.diffusion.parametrisation import Parametrisation
from posteria.testing import check_denoiser


class Exact(nn.Module):
    """What a perfect network outputs for a Gaussian prior, in the parametrisation's own units."""

    def __init__(self, prior: po.Gaussian, kind: str, extra: int = 0) -> None:
        super().__init__()
        self.prior, self.kind, self.extra = prior, kind, extra
        self.weight = nn.Parameter(torch.ones((), dtype=F64))
        self.betas = po.schedules.LinearBetas()

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
        elif self.kind in {"denoised", "score"}:
            x0 = self.prior(x, time)
            out = x0 if self.kind == "denoised" else (x0 - x) / time[:, None] ** 2
        elif self.kind == "angle":
            alpha, beta = (time * math.pi / 2).cos()[:, None], (time * math.pi / 2).sin()[:, None]
            x0 = self.prior(x / alpha, (beta / alpha)[:, 0])
            out = alpha * (x - alpha * x0) / beta - beta * x0
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
    "epsilon": po.diffusion.Epsilon(),
    "velocity": po.diffusion.Velocity(),
    "clean": po.diffusion.X0(),
    "flow": po.diffusion.FlowMatching(),
    "edm": po.diffusion.EDM(),
    "edm-v": po.diffusion.EDM(sign=-1),
    "denoised": po.diffusion.Denoised(),
    "score": po.diffusion.Score(),
    "angle": po.diffusion.Angle(),
}


@pytest.mark.parametrize("extra", [0, 4])
@pytest.mark.parametrize("kind", CASES)
def test_a_perfect_network_is_the_exact_denoiser(kind: str, extra: int) -> None:
    # Catches: a wrong factor or sign, a time off by one, sigma where abar was meant, a learned
    # variance taken for a mean.
    prior = gaussian()
    network = po.Network(Exact(prior, kind, extra), prior.space, CASES[kind])
    x = normal(5, 4)
    sigmas = po.schedules.LinearBetas().sigmas
    for k in (0, 100, 999):
        assert torch.allclose(
            network(sigmas[k] * x, sigmas[k]),
            prior(sigmas[k] * x, sigmas[k]),
            rtol=1e-6,
            atol=1e-6,
        )
    levels = torch.tensor([sigmas[k] for k in (5, 50, 300, 700, 990)], dtype=F64)
    assert torch.allclose(network(x, levels), prior(x, levels), rtol=1e-6, atol=1e-6)


def test_battery_with_particles() -> None:
    prior = gaussian()
    network = po.Network(Exact(prior, "edm"), prior.space, po.diffusion.EDM())
    check_denoiser(network)
    x = normal(3, 2, 4)
    assert torch.allclose(network(x, 0.7), prior(x, 0.7))


class Seen(nn.Module):
    """Remembers the times that it was given."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=dtype))
        self.times: list[Tensor] = []
        self.dtypes: list[torch.dtype] = []

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        self.times.append(time)
        self.dtypes.append(x.dtype)
        return x * self.weight + (0 if label is None else label[:, None])


def test_time_is_the_training_step_of_the_level() -> None:
    # Catches: the off-by-one of the papers' shifted table where it was not asked for, and its
    # absence where it was.
    sigma = po.schedules.LinearBetas().sigmas[400]
    between = math.sqrt(sigma * po.schedules.LinearBetas().sigmas[401])
    for parametrisation, at, halfway in (
        (po.diffusion.Epsilon(), 400, 400.5),
        (po.diffusion.Epsilon(shift=1), 401, 401.5),
        (po.diffusion.Epsilon(whole=True), 400, 400),
    ):
        seen_by = Seen()
        network = po.Network(seen_by, po.Space((2,)), parametrisation)
        network(torch.zeros(3, 2), sigma)
        network(torch.zeros(3, 2), torch.full((3,), sigma, dtype=F64))
        network(torch.zeros(1, 2), between)
        assert seen_by.times[0].tolist() == pytest.approx([at] * 3, abs=1e-4)
        assert seen_by.times[1].tolist() == pytest.approx([at] * 3, abs=1e-4)
        assert seen_by.times[2].tolist() == pytest.approx(
            [halfway], abs=0.51 if parametrisation.whole else 1e-3
        )
    assert po.diffusion.Epsilon().time(1e9) == 999
    assert po.diffusion.Epsilon().time(0.0) == 0


def test_state_keeps_its_precision_around_a_half_precision_network() -> None:
    # Catches: sampling in the network's dtype, which loses the small noise levels.
    seen_by = Seen(torch.bfloat16)
    network = po.Network(seen_by, po.Space((2,), F64), po.diffusion.EDM())
    x0 = network(torch.ones(1, 2, dtype=F64), 0.3)
    assert x0.dtype == F64
    assert seen_by.dtypes == [torch.bfloat16]
    assert seen_by.times[0].dtype == torch.float32


def test_labels() -> None:
    network = po.Network(Seen(), po.Space((2,)), po.diffusion.X0(), labels=10, null_label=10)
    x = torch.zeros(1, 2)
    assert network(x, 1.0).tolist() == [[10, 10]]
    assert network.given(po.Label(3))(x, 1.0).tolist() == [[3, 3]]
    assert network(x, 1.0).tolist() == [[10, 10]]
    with pytest.raises(po.InputError, match="from 0 to 9; 10 is not"):
        network.given(po.Label(10))
    bare = po.Network(Seen(), po.Space((2,)), po.diffusion.X0())
    with pytest.raises(po.CapabilityError, match=r"cannot be given Label\(label=3\)"):
        bare.given(po.Label(3))
    no_null = po.Network(Seen(), po.Space((2,)), po.diffusion.X0(), labels=10)
    with pytest.raises(po.CapabilityError, match="no unconditional branch"):
        no_null(x, 1.0)


def test_counted_counts_samples_and_particles() -> None:
    prior = gaussian()
    counted = po.diffusion.Counted(prior)
    x = normal(3, 4)
    counted(x, 1.0)
    _, pullback = counted.vjp(x, 1.0)
    pullback(x)
    pullback(x)
    assert (counted.meter.forward, counted.meter.backward) == (6, 6)
    counted(normal(3, 5, 4), 1.0)
    assert counted.meter.forward == 6 + 15


# Members


def test_a_member_is_one_object() -> None:
    # Catches: a scale that is measured for each run, and one of the whole prior given to a class.
    network = po.Network(Seen(), po.Space((2,)), po.diffusion.X0(), labels=3, null_label=3)
    network.scale = po.diffusion.denoiser.Scale(torch.zeros(2), 2.0)
    member = network.given(po.Label(1))
    assert network.given(po.Label(1)) is member
    assert member.given(po.Label(1)) is member
    assert network.given(po.Label(2)) is not member
    assert member.scale is None


# The battery


class Own(Denoiser):
    """A prior of one's own, N(0, I), with a mistake."""

    def __init__(self, mistake: str = "", dtype: torch.dtype = torch.float32) -> None:
        self.space, self.mistake = po.Space((3,), dtype), mistake

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        if self.mistake == "number":
            sigma = float(sigma)
        if self.mistake == "double":
            sigma = torch.as_tensor(sigma, dtype=F64)
        if self.mistake == "first" and isinstance(sigma, Tensor) and sigma.ndim:
            sigma = sigma.flatten()[0]
        if isinstance(sigma, Tensor) and sigma.ndim and self.mistake != "axes":
            sigma = sigma[..., None]
        x0 = x / (1 + sigma**2)
        if self.mistake == "batch" and x.ndim > 1:
            x0 = x0 + x.mean()
        return x0.tolist() if self.mistake == "list" else x0


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("number", r"level a tensor \(3,\) in torch.float32 fails"),
        ("double", r"changes shape or dtype: it gives \(3, 3\) in torch.float64"),
        ("axes", "level"),
        ("first", "at once and level 0.5 differ"),
        ("batch", "alone and in a batch differ"),
        ("list", "gives a list, not a tensor"),
    ],
)
def test_the_battery_says_what_is_wrong_with_a_prior(mistake: str, words: str) -> None:
    # Catches: a prior that fails inside a sampler, in the words of PyTorch.
    for dtype in (torch.float32, F64):
        check_denoiser(Own(dtype=dtype))
    with pytest.raises(AssertionError, match=words):
        check_denoiser(Own(mistake))


def test_units() -> None:
    # Catches: a level that is not scaled with the data, a Jacobian that is, a center added twice.
    inner = gaussian()
    low, high = -3.0, 5.0
    half, center = (high - low) / 2, (low + high) / 2
    prior = po.diffusion.Units(inner, low, high)
    exact = po.Gaussian((inner.mean - center) / half, inner.covariance / half**2)
    x, v = normal(5, 4), normal(5, 4, seed=1)
    for sigma in (0.0, 0.4, torch.linspace(0.1, 3, 5, dtype=F64)):
        (ours, pullback), (want, pull) = prior.vjp(x, sigma), exact.vjp(x, sigma)
        torch.testing.assert_close(prior(x, sigma), want)
        torch.testing.assert_close(ours, want)
        torch.testing.assert_close(pullback(v), pull(v))
    check_denoiser(prior)
    with pytest.raises(po.InputError, match="go up"):
        po.diffusion.Units(inner, 1.0, 0.0)


def test_units_of_a_family() -> None:
    # Catches: a member in the units of the family, or one that is made anew at each call.
    first, second = gaussian(), gaussian(seed=1)
    prior = po.diffusion.Units(po.Family(first, {0: second}), 0.0, 1.0)
    x = normal(3, 4)
    want = 2 * second((x + 1) / 2, 0.25) - 1
    torch.testing.assert_close(prior.given(po.Label(0))(x, 0.5), want)
    torch.testing.assert_close(prior(x, 0.5), 2 * first((x + 1) / 2, 0.25) - 1)
    assert prior.given(po.Label(0)) is prior.given(po.Label(0))


def test_a_signal_of_another_shape_is_refused() -> None:
    # Catches: pictures of another size whose numbers are taken for fewer larger ones.
    network = po.Network(torch.nn.Identity(), po.Space((3, 8, 8)), po.diffusion.Denoised())
    for wrong in ((8, 3, 4, 4), (2, 1, 8, 8), (8, 8)):
        with pytest.raises(po.ShapeError, match=r"not \(\*batch, 3, 8, 8\)"):
            network(torch.zeros(wrong), 1.0)
