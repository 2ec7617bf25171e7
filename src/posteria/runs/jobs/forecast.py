"""How long a run on a picture or signal of any size takes, and how much memory, before it begins."""

import math
import time
from dataclasses import replace

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import CapabilityError, InputError, expect
from ...core.level import Level
from ...core.linalg import vjp
from ...core.meter import Meter, memory_of
from ...diffusion.denoiser import Denoiser
from ...diffusion.scale import prior_scale
from ...operators import LinearOperator
from ...priors.local.windows import KEPT, Windowed
from ...target import Posterior, Tilted, metered
from ..engine import Method
from ..request import Request
from ..results import duration, plural

# Tensors of the size of a batch that a sampler holds at once (`daps` and `ddrm` were seen to take 15 with those of
# results, `diffpir` 11), and of the size of all samples that results take; MiB of the program itself.
STATES, COPIES, PROGRAM = 12, 3, 350
# What is up to this size, in numbers, is drawn without a word.
SMALL = 2**19
# Seconds of solves with an operator from which on a small one is spoken of too.
LONG = 60.0


def forecast_of(method: Method, request: Request) -> str | None:
    """Samples, evaluations, seconds and memory of a run, timed on a window; None for a small one or another prior.

    Raises:
        InputError: If there is not so much memory.
    """
    target, space = method.target, method.target.space
    windowed = _windowed(target)
    if windowed is None or (space.size < SMALL and not _slow(target)):
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
    # Windows are read with their halos, but for those beyond the picture.
    halos = (2 * windowed.halo * (math.ceil(n / windowed.side) - 1) for n in sides)
    share = math.prod((n + more) / min(side, n) for n, more in zip(sides, halos, strict=True))
    beside, cost = _beside(method)
    pulls = share * (timed(True) - forward) if cost.backward else 0.0
    each = share * forward
    seconds = (cost.forward * each + cost.backward * pulls + beside) * len(method.seeds)
    if space.size < SMALL and beside * len(method.seeds) < LONG:
        return None
    pull = cost.backward > 0
    at_once = min(request.chunk or request.batch, len(method.seeds))
    numbers = space.size * (STATES * at_once + COPIES * len(method.seeds))
    memory = PROGRAM + 4 * (numbers + (KEPT if pull else KEPT // 4)) / 2**20
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


def _windowed(target: Posterior | Denoiser) -> Windowed | None:
    prior = target.prior if isinstance(target, Posterior) else target
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
