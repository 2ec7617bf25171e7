"""How long a run on a picture or signal of any size takes, and how much memory, before it begins."""

import math
import time

import torch
from torch import Tensor

from ...core.errors import CapabilityError, InputError
from ...core.linalg import vjp
from ...core.meter import memory_of
from ...diffusion.denoiser import Denoiser
from ...priors.local.windows import KEPT, Windowed
from ...samplers import POSTERIOR_SAMPLERS
from ...samplers.choose import table
from ...target import Posterior, Tilted
from ..engine import Method
from ..request import Request
from ..results import duration, plural

# Tensors of the size of a batch that a sampler holds at once, and of the size of all samples that results take; MiB of
# the program itself.
STATES, COPIES, PROGRAM = 8, 3, 350
# What is up to this size, in numbers, is drawn without a word.
SMALL = 2**19


def forecast_of(method: Method, request: Request) -> str | None:
    """Samples, evaluations, seconds and memory of a run, timed on a window; None for a small one or another prior.

    Raises:
        InputError: If there is not so much memory.
    """
    target, space = method.target, method.target.space
    windowed = _windowed(target)
    if windowed is None or space.size < SMALL:
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
    # Windows are read with their halos.
    share = math.prod(n / side * (1 + 2 * windowed.halo / windowed.side) for n in sides)
    pull = type(method.sampler) in {POSTERIOR_SAMPLERS[name] for name in table().vjps}
    # Of samplers that differentiate, an evaluation and a vjp are taken in turn.
    each = share * (timed(True) / 2 if pull else forward)
    seconds = evaluations * each * len(method.seeds)
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
