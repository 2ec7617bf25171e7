"""What a network takes for a module: its outputs, its precision, its mode, and what is refused."""

import math
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import posteria as po
from helpers import F64, normal
from posteria.core import linalg
from posteria.core.modules import device_of
from posteria.diffusion.denoiser import Denoiser
from posteria.testing import check_denoiser

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


@pytest.mark.filterwarnings("ignore:.*starts from noise:RuntimeWarning")
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


class Again(torch.autograd.Function):
    """A layer that is computed again for a derivative as guided-diffusion's attention is, which serves one alone."""

    @staticmethod
    def forward(ctx: Any, layer: nn.Module, x: Tensor, *weights: Tensor) -> Tensor:
        ctx.layer, ctx.given = layer, (x, *weights)
        return layer(x).detach()

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.given
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            found = torch.autograd.grad(ctx.layer(x), (x, *weights), v)
        del ctx.given
        return (None, *found)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_derivative_that_pytorch_cannot_take(frozen: bool) -> None:
    # Catches: an error of autograd from inside a sampler, in words of PyTorch.
    layer = nn.Linear(3, 3).requires_grad_(not frozen)
    network = po.Network(
        lambda x, t: Again.apply(layer, x, *layer.parameters()),
        po.Space((3,)),
        po.diffusion.Denoised(),
    )
    _, pullback = network.vjp(torch.ones(1, 3), 1.0)
    with pytest.raises(
        po.CapabilityError, match=r"cannot be differentiated .*use_checkpoint=False"
    ):
        for _ in range(2):
            pullback(torch.ones(1, 3))
