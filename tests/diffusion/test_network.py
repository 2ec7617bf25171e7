"""Networks as denoisers: each parametrisation must give the exact denoiser back."""

import math
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import posteria as po
from helpers import F64, gaussian, normal
from posteria.core import linalg
from posteria.core.modules import device_of
from posteria.diffusion.denoiser import Denoiser
from posteria.diffusion.network import Parametrisation
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


# What a module may be


def linear(x: Tensor, time: Tensor) -> Tensor:
    """A network whose denoiser under X0 is `x / (2 sqrt(1 + sigma^2))`."""
    return x / 2


class Output(OrderedDict[str, Tensor]):
    """The outputs of diffusers' networks are dictionaries with attributes."""

    @property
    def sample(self) -> Tensor:
        return self["sample"]


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda y: y,
        lambda y: (y, "more"),
        lambda y: [y],
        lambda y: Output(sample=y, more=y + 1),
        lambda y: SimpleNamespace(sample=y),
        lambda y: {"prediction": y},
        lambda y: torch.cat([y, y + 1], 1),
        lambda y: y.detach().numpy(),
    ],
    ids=["tensor", "tuple", "list", "diffusers", "sample", "dictionary", "variance", "numpy"],
)
def test_outputs_of_any_usual_kind(wrapped: Callable[[Tensor], Any]) -> None:
    # Catches: an output that is read as a tensor whatever it is, and the learned variance for the mean.
    space = po.Space((3, 2), F64)
    network = po.Network(lambda x, t: wrapped(linear(x, t)), space, po.diffusion.X0())
    x = normal(2, 5, 3, 2)
    torch.testing.assert_close(network(x, 2.0), x / (2 * math.sqrt(5)))


class Keyword(nn.Module):
    def forward(self, x: Tensor, *, time: Tensor) -> Tensor:
        return x


class Embedded(nn.Module):
    """A network with a table of embeddings for whole timesteps: its output is half its input, and the step."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1000, 1)
        with torch.no_grad():
            self.table.weight.copy_(torch.arange(1000.0)[:, None])

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return x / 2 + self.table(time)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (
            Keyword(),
            r"called with x \(2, 3\) in float32, time \(2,\) in float32 in this order \(TypeError",
        ),
        (lambda t, x: nn.functional.conv1d(x, t), "failed when it was called"),
        (lambda x: x, "failed when it was called"),
        (Embedded(), "Expected tensor for argument"),
        (lambda x, t: x[:, :2], r"gave \(2, 2\) for an input of \(2, 3\)"),
        (lambda x, t: x.repeat(1, 3), r"gave \(2, 9\)"),
        (lambda x, t: {"mean": x, "std": x}, "returned a dict with mean, std"),
        (lambda x, t: None, "returned a NoneType"),
        (lambda x, t: (), "returned a tuple"),
    ],
)
def test_modules_that_do_not_fit_are_refused_in_a_sentence(
    module: Callable[..., Any], words: str
) -> None:
    # Catches: a traceback from inside PyTorch, and an output that is cut to the shape that was wanted.
    network = po.Network(module, po.Space((3,)), po.diffusion.Epsilon())
    with pytest.raises(po.PosteriaError, match=words) as caught:
        network(torch.zeros(2, 3), 1.0)
    assert "check_denoiser" in str(caught.value)


def test_whole_timesteps_are_integers() -> None:
    # Catches: a table of embeddings that is given floats, and a step that is cut and not rounded.
    reading = po.diffusion.X0(whole=True)
    network = po.Network(Embedded(), po.Space((3,)), reading)
    sigmas = reading.betas.sigmas
    x = torch.zeros(2, 3)
    high = sigmas[400] ** 0.4 * sigmas[401] ** 0.6
    assert network(x, high).tolist() == [[401.0] * 3] * 2
    levels = torch.tensor([sigmas[7], sigmas[900]])
    assert network(x, levels).tolist() == [[7.0] * 3, [900.0] * 3]


def test_a_module_is_not_changed() -> None:
    # Catches: weights that are frozen, a mode that is flipped, gradients that pile up in the caller's module.
    module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
    network = po.Network(lambda x, t: module(x), po.Space((3,)), po.diffusion.EDM())
    same = po.Network(_First(module), po.Space((3,)), po.diffusion.EDM())
    x = torch.ones(2, 3)
    for prior in (network, same):
        _, pullback = prior.vjp(x, 1.0)
        pullback(x)
    assert module.training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    # And it can still be trained through the prior.
    same(x, 1.0).square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())


class _First(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        return y


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(3)])
def test_training_mode_is_said_where_it_matters(layer: nn.Module) -> None:
    # Catches: samples that depend on their batch or on the global generator, without a word.
    network = po.Network(_First(layer), po.Space((3,)), po.diffusion.EDM())
    with pytest.raises(po.InputError, match=f"training mode, where its {type(layer).__name__}"):
        network(torch.ones(2, 3), 1.0)
    layer.eval()
    with torch.no_grad():
        assert network(torch.ones(2, 3), 1.0).shape == (2, 3)
    with torch.no_grad():
        po.Network(_First(nn.Dropout(0.0)), po.Space((3,)), po.diffusion.EDM())(
            torch.ones(2, 3), 1.0
        )


def test_a_device_that_is_not_that_of_the_space_is_refused() -> None:
    # Catches: a module that is moved, and weights that are nowhere.
    module = _First(nn.Linear(3, 3))
    with pytest.raises(po.InputError, match="The network is on cpu and its space on meta"):
        po.Network(module, po.Space((3,), device="meta"), po.diffusion.EDM())
    away = module.to("meta")
    with pytest.raises(po.CapabilityError, match="load them first"):
        po.Network(away, po.Space((3,)), po.diffusion.EDM())
    # As accelerate leaves modules whose weights it brings when they are needed.
    away.module._hf_hook = SimpleNamespace(execution_device="cpu")  # type: ignore[assignment]
    assert device_of(away) == torch.device("cpu")
    po.Network(away, po.Space((3,)), po.diffusion.EDM())


# Derivatives


class Cut(nn.Module):
    """A network that loses its derivative in one of the usual ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.weight = how, nn.Parameter(torch.full((), 0.5))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        if self.how == "no_grad":
            with torch.no_grad():
                return self.weight * x
        if self.how == "numpy":
            return torch.from_numpy(0.5 * x.detach().numpy())
        return self.weight * x.detach()


@pytest.mark.parametrize("how", ["no_grad", "numpy", "detach"])
def test_a_network_without_a_derivative_is_refused(how: str) -> None:
    # Catches: J = skip I for a network behind no_grad, because skip * x stays connected to x.
    network = po.Network(Cut(how), po.Space((3,)), po.diffusion.EDM())
    x = torch.ones(2, 3)
    with torch.no_grad():
        assert network(x, 1.0).shape == x.shape
    with pytest.raises(po.CapabilityError, match=r"This network has no derivative.*ddrm"):
        network.vjp(x, 1.0)[1](x)
    if how != "detach":
        with pytest.raises(po.CapabilityError, match="This network has no derivative"):
            linalg.score(lambda z: network(z, 1.0).sum(-1), x)


def half_and_whole(dtype: torch.dtype) -> tuple[po.Network, po.Network]:
    """The same weights, in half and in single precision."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 32), nn.SiLU(), nn.Linear(32, 6)).to(dtype)
    whole = nn.Sequential(nn.Linear(6, 32), nn.SiLU(), nn.Linear(32, 6))
    whole.load_state_dict(module.state_dict())
    space = po.Space((6,))
    return tuple(  # type: ignore[return-value]
        po.Network(_First(m.eval()), space, po.diffusion.Epsilon()) for m in (module, whole)
    )


def test_cotangents_of_half_precision_do_not_overflow() -> None:
    # Catches: cotangents like (y - A D) / std^2 beyond 65504 in float16, and one scale for the whole batch, at
    # which those of the other samples vanish.
    half, whole = half_and_whole(torch.float16)
    x = normal(3, 6).float()
    v = normal(3, 6, seed=1).float() * torch.tensor([1e-6, 1.0, 1e8])[:, None]
    for sigma in (0.05, 100.0):
        got, want = half.vjp(x, sigma)[1](v), whole.vjp(x, sigma)[1](v)
        error = (got - want).norm(dim=1) / want.norm(dim=1)
        assert error.max() < 5e-3
        assert torch.equal(half.vjp(x, sigma)[1](0 * v), 0 * v)


def test_samples_of_half_precision_are_those_of_single() -> None:
    half, whole = half_and_whole(torch.float16)
    operator = po.operators.Inpainting(torch.tensor([1, 1, 1, 0, 0, 0]))
    likelihood = po.GaussianLikelihood(operator, std=0.005)
    y = torch.tensor([0.3, -0.2, 0.1])
    for sampler in (
        po.MGDM(schedule=po.schedules.Table(steps=6)),
        po.MMPS(schedule=po.Karras(steps=6)),
    ):
        got, want = (
            sampler.sample(po.Posterior(prior, likelihood, y), seeds=[0, 1])
            for prior in (half, whole)
        )
        assert (got - want).abs().max() < 5e-3 * want.abs().max()


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_battery_in_half_precision(dtype: torch.dtype) -> None:
    # Catches: a battery that fails on rounding, and one that does not see an overflow.
    half, _ = half_and_whole(dtype)
    check_denoiser(half)
    if dtype == torch.float16:

        class Plain(po.Network):
            vjp = Denoiser.vjp

        plain = Plain(half.module, half.space, half.parametrisation)
        with pytest.raises(AssertionError, match="vjp of a large vector"):
            check_denoiser(plain)


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
