"""How long a run takes, and how much memory, before it begins: timed on a window, or on the first step."""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from ..core.errors import CapabilityError, InputError, expect
from ..core.level import Level
from ..core.linalg import outside_inference, vjp
from ..core.meter import Held, Meter, memory_of
from ..core.rng import Rng
from ..core.space import Space
from ..diffusion.denoiser import Denoiser, Scale
from ..diffusion.scale import DRAWS, known_of, prior_scale
from ..latent import signals_of
from ..operators import LinearOperator
from ..priors.card import SHIPPED
from ..priors.local.windows import KEPT, Windowed
from ..target import Posterior, Tilted, metered
from .engine import Method
from .request import Request
from .results import duration, plural

# Tensors of the size of a batch that a sampler holds at once (`daps` and `ddrm` were seen to take 15 with those of
# results, `diffpir` 11), and of the size of all samples that results take; MiB of the program itself.
STATES, COPIES, PROGRAM = 12, 3, 350
# What is up to this size, in numbers, is drawn without a word.
SMALL = 2**19
# Seconds of solves with an operator from which on a small one is spoken of too.
LONG = 60.0
# Share of a device's memory that samples drawn at once may take, and seconds up to which a step is timed again.
ROOM, QUICK = 0.75, 30.0


def forecast_of(methods: Mapping[str, Method], request: Request) -> str | None:
    """Samples, evaluations, seconds and memory of a run; None for a small one with a prior that ships.

    Raises:
        InputError: If there is not so much memory.
    """
    method = next(iter(methods.values()))
    windowed = _windowed(method)
    if isinstance(method.target, Posterior) and windowed is not None:
        return _by_window(windowed, method, request)
    return None if request.prior in SHIPPED else _by_step(methods, request)


class Probe(NamedTuple):
    """What the first step of some samples took: seconds, bytes (0: not known), evaluations and vjps, operator calls."""

    seconds: float
    takes: float
    evaluations: int
    calls: int


def probed(method: Method, count: int, fast: tuple[str, ...] = ()) -> Probe:
    """The first step of so many samples, or populations; what comes before it is not counted.

    Raises:
        InputError: If it needs more memory than there is.
    """
    sampler, target = method.sampler, method.target
    device = torch.device(target.space.device)
    seeds = sampler.batches(method.seeds, count * sampler.shared)[0]
    counted, meter = metered(target)
    operator = getattr(getattr(counted, "likelihood", None), "operator", None)
    # What is compiled or recorded is no list of operations.
    held = None if {"compile", "graphs"} & {*fast} else Held()
    try:
        with _unmeasured(_law(method)), outside_inference(), torch.no_grad():
            arranged, rng = sampler.arrange(counted, seeds)
            state = sampler.init(arranged, rng)
            # What is planned at first use is no part of a step, and to look at small operations takes as long as they.
            before_calls = getattr(operator, "calls", 0)
            for looked in (held or nullcontext(), nullcontext()):
                before, start = replace(meter), time.perf_counter()
                with looked:
                    sampler.step(arranged, state, *sampler.moves()[0], rng)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds = time.perf_counter() - start
                if looked is held and method.decoder and not isinstance(target, Posterior):
                    # At its end a run decodes what it drew.
                    with held:
                        method.decoder(state.x)
                if seconds > QUICK:
                    break
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{plural(count, 'sample')} of shape {tuple(target.space.shape)} needs more memory than there is: {FEWER}."
        ) from error
    spent = meter - before
    calls = getattr(operator, "calls", 0) - before_calls
    return Probe(seconds, held.most if held else 0.0, spent.forward + spent.backward, calls)


@contextmanager
def _unmeasured(prior: Denoiser) -> Generator[None]:
    """Where nothing is measured of a prior: a stand-in is known of it, and none afterwards.

    A run measures it itself, and counts what that costs.
    """
    known, space = known_of(prior), prior.space
    before = dict(known)
    draws = Rng(range(DRAWS), space.device).normal(space)
    for name, value in ((DRAWS, draws), ("scale", Scale(space.zeros(1)[0], 1.0))):
        known.setdefault(name, value)
    try:
        yield
    finally:
        known.clear()
        known.update(before)


FEWER = "draw fewer at once with --chunk, smaller ones with --size, or say --fast checkpoint"


def fitting(methods: Mapping[str, Method], request: Request) -> int:
    """As many samples as may be drawn at once: what one and two take, against the memory of the device."""
    found = []
    for method in methods.values():
        one, two = (probed(method, n, request.fast).takes for n in (1, 2))
        room = ROOM * memory_of(torch.device(method.target.space.device)) * 2**20
        room -= _weights(method) + 2 * one - two
        units = min(room / max(two - one, 1), len(method.seeds))
        found.append(max(1, int(units)) * method.sampler.shared)
    return min(*found, request.samples) if found else request.batch


def _by_step(methods: Mapping[str, Method], request: Request) -> str:
    seconds, memory, steps, told = 0.0, 0.0, list[float](), list[int]()
    about = "about"
    at_once = min(request.at_once, request.samples)
    for method in methods.values():
        sampler, target = method.sampler, method.target
        step = probed(method, 1, request.fast)
        moves = len(sampler.moves())
        if isinstance(target, Posterior) and not step.calls:
            # It looks at the measurement later.
            about = "at least"
        try:
            told.append(sampler.evaluations(target))
        except CapabilityError:
            told.append(step.evaluations * moves)
        share = told[-1] / step.evaluations if step.evaluations else moves
        units = -(-len(method.seeds) // sampler.shared)
        seconds, steps = seconds + units * share * step.seconds, [*steps, step.seconds]
        kept = COPIES * len(method.seeds) * _shown(method).size * 4
        takes = -(-at_once // sampler.shared) * step.takes + kept + _weights(method)
        memory = max(memory, PROGRAM / 1024 + takes / 2**30)
    method = next(iter(methods.values()))
    there = memory_of(torch.device(method.target.space.device)) / 1024
    what = plural(sum(len(each.seeds) for each in methods.values()), "sample")
    shape = " x ".join(map(str, _shown(method).shape))
    if memory > there:
        some = what if at_once >= request.samples else f"{at_once} of {what}"
        raise InputError(
            f"{some} of {shape} at once need about {memory:.1f} GiB of memory, and there are "
            f"{there:.1f}: {FEWER}."
        )
    each = f", {plural(told[0], 'evaluation')} each" if len(methods) == 1 else ""
    return (
        f"{what} of {shape}{each}: {about} {duration(seconds)} (a step took {max(steps):.2g} s) and {memory:.1f} GiB "
        "of memory."
    )


def _law(method: Method) -> Denoiser:
    return method.target.prior if isinstance(method.target, Posterior) else method.target


def _shown(method: Method) -> Space:
    return signals_of(_law(method))


def _weights(method: Method) -> int:
    """Bytes of the weights of network and decoder."""
    base: Any = _law(method).base
    parts = [
        getattr(base, "network", getattr(base, "module", None)),
        getattr(method.decoder, "autoencoder", None),
    ]
    found = [part.parameters() for part in parts if isinstance(part, nn.Module)]
    return sum(p.nbytes for parameters in found for p in parameters)


def _by_window(windowed: Windowed, method: Method, request: Request) -> str | None:
    target, space = expect(method.target, Posterior, by=method), method.target.space
    if space.size < SMALL and not _slow(target):
        return None
    try:
        evaluations = method.sampler.evaluations(target)
    except CapabilityError:
        return None
    channels, *sides = space.shape
    side = min(windowed.side, *sides)
    x = torch.zeros(1, channels, *(side,) * len(sides), device=space.device, dtype=space.dtype)
    level = torch.zeros(1, device=space.device, dtype=space.dtype)

    def timed(pull: bool) -> float:
        start = time.perf_counter()
        _once(windowed, x, level, pull)
        return time.perf_counter() - start

    # The first call plans its products.
    timed(False)
    forward = timed(False)
    beside, cost = _beside(method)
    each = windowed.read(sides, False) * forward / x[0, 0].numel()
    pulls = 0.0
    if cost.backward:
        # In windows of its own a derivative computes the value anew, and parts of it twice.
        more = -forward if windowed.at_once(1, sides) else forward
        pulls = windowed.read(sides, True) * (timed(True) + more) / x[0, 0].numel()
    seconds = (cost.forward * each + cost.backward * pulls + beside) * len(method.seeds)
    if space.size < SMALL and beside * len(method.seeds) < LONG:
        return None
    pull = cost.backward > 0
    at_once = min(request.at_once, len(method.seeds))
    numbers = space.size * (STATES * at_once + COPIES * len(method.seeds))
    # Beside what is kept live what is computed again, and its slope: a quarter of it was seen.
    memory = PROGRAM + 4 * (numbers + (1.25 * KEPT if pull else KEPT // 4)) / 2**20
    there = memory_of(torch.device(space.device))
    what = (
        f"{plural(len(method.seeds), 'sample')} of "
        f"{' x '.join(map(str, sides))} {'pixels' if len(sides) == 2 else 'steps'}"
    )
    if memory > there:
        raise InputError(
            f"{what} need about {memory / 1024:.1f} GiB of "
            f"memory, and there are {there / 1024:.1f}; draw fewer with --samples, fewer at once with --chunk, or "
            "smaller ones with --size and --fit."
        )
    return (
        f"{what}, {plural(evaluations, 'evaluation')} each: "
        f"about {duration(seconds)} (one took {each:.2g} s) and {memory / 1024:.1f} GiB of memory."
    )


class _Free(Denoiser):
    """A prior of the same space that costs nothing: white noise of spread 1."""

    def __init__(self, prior: Denoiser) -> None:
        self.space, self.scale = prior.space, prior_scale(prior)

    @override
    def __call__(self, x: Tensor, sigma: Level) -> Tensor:
        return x / (1 + self.space.per_sample(torch.as_tensor(sigma).to(x)) ** 2)


def _beside(method: Method) -> tuple[float, Meter]:
    """Seconds of a sample that are not the network's, and what it asks of that, from steps at three levels."""
    sampler, whole = method.sampler, expect(method.target, Posterior, by=method)
    counted, meter = metered(replace(whole, prior=_Free(whole.prior)))
    with torch.no_grad():
        target, rng = sampler.arrange(counted, method.seeds[:1])
        state, moves = sampler.init(target, rng), sampler.moves()
        seconds, first, before = 0.0, moves[0][0], replace(meter)
        places = sorted({round(share * (len(moves) - 1)) for share in (0.1, 0.5, 0.9)})
        for place in places:
            sigma, after = moves[place]
            there = replace(state, x=state.x * (sigma / first), count=place)
            start = time.perf_counter()
            sampler.step(target, there, sigma, after, rng)
            seconds += time.perf_counter() - start
    times, spent = len(moves) / len(places), meter - before
    shares = {name: getattr(spent, name) * times for name in ("forward", "backward")}
    return seconds * times, replace(spent, **shares)


def _slow(target: object) -> bool:
    """Whether solves with the operator are by conjugate gradients, whose number nobody knows before."""
    operator = getattr(getattr(target, "likelihood", None), "operator", None)
    return isinstance(operator, LinearOperator) and not operator.exact


def _windowed(method: Method) -> Windowed | None:
    prior = _law(method)
    prior = prior.unconditional if isinstance(prior, Tilted) else prior
    module = getattr(prior, "module", None)
    return module if isinstance(module, Windowed) else None


def _once(windowed: Windowed, x: Tensor, level: Tensor, pull: bool) -> None:
    if pull:
        value, pullback = vjp(lambda z: windowed(z, level), x, "This network")
        pullback(torch.ones_like(value))
    else:
        with torch.no_grad():
            windowed(x, level)
