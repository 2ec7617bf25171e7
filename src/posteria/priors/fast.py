"""The network of a prior, evaluated faster: in half precision, compiled, or replayed as CUDA graphs."""

import copy
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from ..core import linalg
from ..core.errors import CapabilityError, require
from ..diffusion.denoiser import Around, Conditional, Denoiser
from ..diffusion.network import WHAT, Network, tensor_of
from .pipeline.given import GivenPrior

P = TypeVar("P", bound=Denoiser)
# The ways of `faster`, by name.
WAYS = ("autocast", "channels_last", "compile", "graphs")
# Shapes whose graphs are kept.
SHAPES = 8


def faster(
    prior: P,
    *,
    autocast: bool = False,
    channels_last: bool = False,
    compile: bool = False,
    graphs: bool = False,
) -> P:
    """The same prior with its network evaluated in another way; the rest of a step stays in its own precision.

    The weights are shared with the prior.

    Args:
        prior: A `Network`, or what stands for one or makes them: `Units`, `Latent`, a prior of texts.
        autocast: Products and convolutions in bfloat16, by `torch.autocast`: relative errors of about 1e-2.
        channels_last: Pictures and weights of convolutions with the channels last in memory; the weights of the
            module are laid out anew, with the same values.
        compile: By `torch.compile`, at the first evaluation of a shape and at its first derivative.
        graphs: Replay the network, and its derivative, as CUDA graphs, recorded at the first evaluation of a shape,
            which then needs no launch of single kernels; memory is held for each of the last `SHAPES` shapes. A map
            of `vjp` may be called again, or after another evaluation: it then costs an evaluation more.

    Raises:
        CapabilityError: If the prior has no network; when one with `graphs` is differentiated twice.
        InputError: If no way is chosen, `autocast` for a network that is not in float32, or `graphs` on another device
            than a GPU.
    """
    ways = tuple(
        name
        for name, on in zip(WAYS, (autocast, channels_last, compile, graphs), strict=True)
        if on
    )
    require(
        bool(ways),
        f"faster(prior) needs a way to evaluate the network; there are {', '.join(WAYS)}.",
    )
    return _faster(prior, ways)


def _faster(prior: P, ways: tuple[str, ...]) -> P:
    changed: Any = copy.copy(prior)
    if isinstance(prior, Around):
        changed.prior, changed._members = _faster(prior.prior, ways), {}
    elif isinstance(prior, GivenPrior):
        _check(prior, prior.network, ways)
        changed.known, changed.wrap = {}, lambda module: Fast(module, ways)
    elif isinstance(prior, Network):
        _check(prior, prior.module, ways)
        changed.module = Fast(prior.module, ways)
        changed._members = {k: copy.copy(member) for k, member in prior._members.items()}
        for member in changed._members.values():
            member.module = changed.module
    else:
        raise CapabilityError(f"{prior!r} has no network that could be made faster.")
    if isinstance(prior, Conditional) and prior.about:
        changed.about = f"{prior.about}, with {', '.join(ways)}"
    return changed  # type: ignore[no-any-return]


def _check(prior: Denoiser, module: Any, ways: tuple[str, ...]) -> None:
    weights = {p.dtype for p in module.parameters()} if isinstance(module, nn.Module) else set()
    require(
        "autocast" not in ways or weights <= {torch.float32},
        f"autocast is for networks in float32; this one is in {', '.join(sorted(map(str, weights)))}.",
    )
    device = torch.device(prior.space.device)
    require(
        "graphs" not in ways or device.type == "cuda",
        f"CUDA graphs are of a GPU, and this prior is on {device}; leave graphs out.",
    )


class Fast(nn.Module):
    """A network, called as it is, that gives its output as a tensor.

    Args:
        module: The network.
        ways: Of `WAYS`.
    """

    def __init__(self, module: Callable[..., Any], ways: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.ways = module, ways
        if "channels_last" in ways and isinstance(module, nn.Module):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Not registered as a part: it is the same module.
        with _compiling() if "compile" in ways else nullcontext():
            self._call = [torch.compile(module) if "compile" in ways else module]
        self._replays: dict[Any, Replay] = {}
        self.__name__ = f"{getattr(module, '__name__', type(module).__name__)}, {', '.join(ways)}"

    @override
    def forward(self, *arguments: Tensor) -> Tensor:
        """The network's output for a signal, a time and what else it is given."""
        if "graphs" not in self.ways:
            return self.plain(*arguments)
        with linalg.outside_inference():
            derive = torch.is_grad_enabled() and arguments[0].requires_grad
            key = (derive, *((a.shape, a.dtype) for a in arguments))
            replay = self._replays.pop(key, None) or Replay(self.plain, arguments, derive)
            self._replays[key] = replay
            if len(self._replays) > SHAPES:
                del self._replays[next(iter(self._replays))]
            if derive:
                return _Replayed.apply(replay, *arguments)  # type: ignore[no-any-return,no-untyped-call]
            replay.run(arguments)
            return replay.output.clone()

    def plain(self, x: Tensor, *rest: Tensor) -> Tensor:
        """The same without graphs."""
        if "channels_last" in self.ways and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        # Frozen weights are not cached.
        half = "autocast" in self.ways
        with (
            _compiling() if "compile" in self.ways else nullcontext(),
            torch.autocast(x.device.type, torch.bfloat16, half, cache_enabled=False),
        ):
            return tensor_of(self._call[0](x, *rest)).contiguous()


@contextmanager
def _compiling() -> Generator[None]:
    """Where what is compiled keeps its buffers, since a map of `vjp` may be called twice."""
    from torch._functorch import config

    with warnings.catch_warnings(), config.patch(donated_buffer=False):
        # The compiler looks for a gradient at whatever it is given.
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
        # At its first use it imports what is deprecated in it.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        yield


def captured(work: Callable[[], None], pool: Any = None) -> tuple[Callable[[], None], Any]:
    """What does the same work again on the same memory, and the pool of that memory."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        work()
    return graph.replay, graph.pool()


def warm(work: Callable[[], None]) -> None:
    """Do the work a few times beside the present stream: what is made at first use cannot be recorded."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)


class Replay:
    """A network at one shape, and its derivative by the signal, as CUDA graphs on memory of their own.

    Args:
        function: The network, of signal, time and what else it is given.
        arguments: Such ones.
        derive: Whether there is to be a derivative.

    Attributes:
        output: Of the last run.
        slope: Of the last derivative.
        turn: Counts what overwrites the memory that a derivative needs.
    """

    def __init__(
        self, function: Callable[..., Tensor], arguments: tuple[Tensor, ...], derive: bool
    ) -> None:
        self.function, self.turn = function, 0
        self.arguments = [a.detach().clone() for a in arguments]
        self.arguments[0].requires_grad_(derive)
        with torch.set_grad_enabled(derive):
            self._forward()
            self.cotangent = torch.zeros_like(self.output)
            warm(self._both if derive else self._forward)
            self._run, pool = captured(self._forward)
            self._pull = captured(self._backward, pool)[0] if derive else self._run

    def _forward(self) -> None:
        # The graph of the last run goes first: its node of the signal belongs to the stream of that run, and a
        # recording that waited for another stream would fail.
        self.output = self.arguments[0].detach()
        self.output = self.function(*self.arguments)

    def _backward(self) -> None:
        x, v = self.arguments[0], self.cotangent
        self.slope = linalg.gradient(self.output, x, v, WHAT, keep=False)

    def _both(self) -> None:
        self._forward()
        self._backward()

    def run(self, arguments: tuple[Tensor, ...]) -> int:
        """Evaluate the network, and return the turn after it."""
        with torch.no_grad():
            for ours, given in zip(self.arguments, arguments, strict=True):
                ours.copy_(given)
        self._run()
        self.turn += 1
        return self.turn

    def pull(self, v: Tensor) -> Tensor:
        """`J^T v` of the last run, once."""
        self.cotangent.copy_(v)
        self._pull()
        self.turn += 1
        return self.slope.clone()


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, replay: Replay, *arguments: Tensor) -> Tensor:
        ctx.save_for_backward(*arguments)
        ctx.replay, ctx.turn = replay, replay.run(arguments)
        return replay.output.detach().clone()

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise CapabilityError(
                "A network of CUDA graphs has first derivatives only; take faster(prior, ...) without graphs."
            )
        arguments, replay = ctx.saved_tensors, ctx.replay
        if replay.turn != ctx.turn:
            # Another evaluation, or a derivative, has overwritten what is needed.
            replay.run(arguments)
        return (None, replay.pull(v), *(None for _ in arguments[1:]))
