"""Networks in half precision, compiled, as CUDA graphs: the same denoiser, and the same derivative, whenever asked."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import posteria as po
from common.models.pipelines import parts_of
from helpers import normal
from posteria.diffusion import EDM, Units
from posteria.diffusion.denoiser import Scale
from posteria.priors import Embeddings, Latent, fast, faster, from_diffusers

SHAPE = (3, 8, 8)


def network(**settings: Any) -> po.Network:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))

    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
            shift = time if label is None else time + label
            return self.module(x) * shift[:, None, None, None].to(x.dtype).cos()

    timed = Timed().eval().requires_grad_(False)
    return po.Network(timed, po.Space(SHAPE), EDM(0.5), **settings)


def agree(found: po.Denoiser, want: po.Denoiser, within: float) -> None:
    """Values, derivatives called twice, and one called after another evaluation."""
    x, v = normal(3, *found.space.shape).float(), normal(3, *found.space.shape, seed=1).float()
    levels = torch.tensor([0.1, 1.0, 10.0])
    with torch.inference_mode():
        torch.testing.assert_close(found(x, levels), want(x, levels), rtol=within, atol=within)
    (x0, pull), (y0, back) = found.vjp(x, levels), want.vjp(x, levels)
    found.vjp(2 * x, 0.3)[1](v)
    for _ in range(2):
        torch.testing.assert_close(pull(v), back(v), rtol=within, atol=within)
    torch.testing.assert_close(x0, y0, rtol=within, atol=within)


def eager(work: Callable[[], None], pool: Any = None) -> tuple[Callable[[], None], Any]:
    """In place of a CUDA graph: the work itself, whose derivative too can be taken once after a run."""
    work()
    on = torch.is_grad_enabled()

    def again() -> None:
        with torch.set_grad_enabled(on):
            work()

    return again, pool


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[fast.Replay]:
    """Graphs without a GPU; those that were recorded."""
    made: list[fast.Replay] = []

    class Watched(fast.Replay):
        def __init__(self, *args: Any) -> None:
            made.append(self)
            super().__init__(*args)

    monkeypatch.setattr(fast, "captured", eager)
    monkeypatch.setattr(fast, "warm", lambda work: work())
    monkeypatch.setattr(fast, "Replay", Watched)
    monkeypatch.setattr(fast, "_check", lambda *_: None)
    return made


def test_graphs_give_values_and_derivatives_in_any_order(graphs: list[fast.Replay]) -> None:
    # Catches: a derivative of memory that another evaluation has overwritten, inputs of the first call used again, and
    # a graph recorded at every call.
    prior = network()
    quick = faster(prior, graphs=True)
    agree(quick, prior, 1e-6)
    agree(quick, prior, 1e-6)
    assert len(graphs) == 2
    for n in range(1, 12):
        quick(normal(n, *SHAPE).float(), 1.0)
    assert len(quick.module._replays) == fast.SHAPES  # type: ignore[attr-defined]
    sampler, (operator, y) = po.DPS(schedule=po.Karras(steps=3)), (po.operators.Identity(SHAPE), 0)
    likelihood = po.GaussianLikelihood(operator, 0.1)
    drawn = [
        sampler.sample(po.Posterior(p, likelihood, torch.zeros(SHAPE) + y), 2)
        for p in (quick, prior)
    ]
    torch.testing.assert_close(*drawn)


def test_nothing_of_an_earlier_run_is_alive_where_a_graph_is_recorded(
    graphs: list[fast.Replay],
) -> None:
    # Catches: the autograd graph of the run before, whose nodes belong to its stream: a recording that waits for
    # another stream fails on a GPU.
    alive: list[weakref.ref[Any]] = []

    class Token:
        pass

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.token = Token()
            alive.append(weakref.ref(ctx.token))
            return 2 * x

        @staticmethod
        def backward(ctx: Any, v: Tensor) -> Tensor:
            return 2 * v

    def module(x: Tensor, time: Tensor) -> Tensor:
        assert not [token for token in alive if token() is not None]
        return Doubled.apply(x)

    quick = faster(po.Network(module, po.Space(SHAPE), EDM(0.5)), graphs=True)
    x = normal(2, *SHAPE).float()
    for _ in range(2):
        _, pull = quick.vjp(x, 1.0)
        pull(x), pull(x)
    assert len(graphs) == 1
    assert len(alive) > 3


def test_graphs_are_not_differentiated_twice(graphs: list[fast.Replay]) -> None:
    quick = faster(network(), graphs=True)
    x = normal(1, *SHAPE).float().requires_grad_()
    with pytest.raises(po.CapabilityError, match="has first derivatives only; take faster"):
        torch.autograd.grad(quick(x, 1.0).sum(), x, create_graph=True)
    assert len(graphs) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: state, levels or outputs in half precision, and a compiled derivative that can be called once only.
    calls = []
    compiled = torch.compile

    def light(module: Any) -> Any:
        calls.append(module)
        return compiled(module, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", light)
    prior = network()
    quick = faster(prior, autocast=True, channels_last=True, compile=True)
    agree(quick, prior, 0.02)
    x = normal(1, *SHAPE).float()
    assert quick(x, 1.0).dtype == torch.float32
    assert not torch.equal(quick(x, 1.0), prior(x, 1.0))
    assert calls == [prior.module]


def test_the_prior_that_was_given_stays_and_its_members_are_fast() -> None:
    prior = network(labels=3)
    prior.about = "a network"
    member = prior.given(po.Label(1))
    member.scale = Scale(torch.zeros(SHAPE), 1.0)
    quick = faster(prior, channels_last=True)
    assert quick.given(po.Label(1)).scale is member.scale
    assert prior.given(po.Label(1)) is member
    for of in (po.Label(1), po.Label(2)):
        agree(quick.given(of), prior.given(of), 1e-5)
    assert repr(quick) == "Network(a network, with channels_last)"
    within = faster(Units(network(), 0.0, 1.0), channels_last=True)
    agree(within, Units(network(), 0.0, 1.0), 1e-5)
    assert "Timed, channels_last" in repr(within)


def test_latents_of_texts() -> None:
    # Catches: members that are made later and are slow, or those of the prior that was given.
    latent = from_diffusers(parts_of("sd"))
    text = Embeddings(normal(7, 8).float())
    assert isinstance(latent, Latent)
    slow = latent.given(text)
    quick = faster(latent, autocast=True)
    x = normal(2, *latent.space.shape).float()
    assert quick.decoder is latent.decoder
    found, want = quick.given(text)(x, 1.0), slow(x, 1.0)
    assert 0 < (found - want).norm() < 0.02 * want.norm()


def test_what_is_refused() -> None:
    with pytest.raises(po.InputError, match="CUDA graphs are of a GPU, and this prior is on cpu"):
        faster(network(), graphs=True)
    with pytest.raises(
        po.InputError,
        match="needs a way to evaluate the network; there are autocast, channels_last",
    ):
        faster(network())
    double = po.Network(nn.Linear(2, 2).double(), po.Space((2,), torch.float64), EDM())
    with pytest.raises(po.InputError, match=r"networks in float32; this one is in torch\.float64"):
        faster(double, autocast=True)
    with pytest.raises(po.CapabilityError, match="has no network that could be made faster"):
        faster(po.Gaussian(torch.zeros(2), torch.eye(2)), compile=True)
