"""How long a run on a picture of any size takes, and how much memory, before it begins."""

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
# A picture up to this size, in numbers, is drawn without a word.
SMALL = 2**19


def forecast_of(method: Method, request: Request) -> str | None:
    """Samples, evaluations, seconds and memory of a run, timed on a window; None for a small picture or another prior.

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
    channels, height, width = space.shape
    side = min(windowed.side, height, width)
    x = torch.zeros(1, channels, side, side, device=space.device, dtype=space.dtype)
    level = torch.zeros(1, device=space.device, dtype=space.dtype)

    def timed(pull: bool) -> float:
        start = time.perf_counter()
        _once(windowed, x, level, pull)
        return time.perf_counter() - start

    # The first call plans its products.
    timed(False)
    forward = timed(False)
    # Windows are read with their halos.
    share = height * width / side**2 * (1 + 2 * windowed.halo / windowed.side) ** 2
    pull = type(method.sampler) in {POSTERIOR_SAMPLERS[name] for name in table().vjps}
    # Of samplers that differentiate, an evaluation and a vjp are taken in turn.
    each = share * (timed(True) / 2 if pull else forward)
    seconds = evaluations * each * len(method.seeds)
    at_once = min(request.chunk or request.batch, len(method.seeds))
    numbers = space.size * (STATES * at_once + COPIES * len(method.seeds))
    memory = PROGRAM + 4 * (numbers + (KEPT if pull else KEPT // 4)) / 2**20
    there = memory_of(torch.device(space.device))
    if memory > there:
        raise InputError(
            f"{plural(len(method.seeds), 'sample')} of {height} x {width} pixels need about {memory / 1024:.1f} GiB of "
            f"memory, and there are {there / 1024:.1f}; draw fewer with --samples, fewer at once with --chunk, or "
            "smaller ones with --size and --fit."
        )
    return (
        f"{plural(len(method.seeds), 'sample')} of {height} x {width} pixels, {plural(evaluations, 'evaluation')} "
        f"each: about {duration(seconds)} (one took {each:.2g} s) and {memory / 1024:.1f} GiB of memory."
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
