"""Draw samples and say what they cost."""

import math
import resource
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from posteria.core.meter import Meter, Watch
from posteria.diffusion.denoiser import Counted
from posteria.diffusion.scale import prior_draws
from posteria.samplers.base import Sampler
from posteria.samplers.particles.population import ParticleState
from posteria.target import Posterior

# Seeds below 2^32 in blocks of a population's size, so that a block is a population of the default size.
BLOCK = 512


def seeds_of(number: int, count: int = BLOCK) -> range:
    """Seeds of `count` samples, from a random number; the same number gives the same ones.

    They begin a population, so that 512 of them are one of the default size.
    """
    blocks = -(-count // BLOCK)
    start = number % (2**32 // BLOCK - blocks) * BLOCK
    return range(start, start + count)


@dataclass(frozen=True)
class Draws:
    """Samples and their cost.

    Args:
        samples: `[n, *event]` on the CPU.
        evaluations: Of the prior, per sample.
        vjps: Products with its transposed Jacobian, per sample.
        seconds: For all samples.
        memory: The most memory held beyond what was held before, in MiB.
        log_evidence: The estimate of log p(y), of the first population; NaN if the sampler has none.
    """

    samples: Tensor
    evaluations: float
    vjps: float
    seconds: float
    memory: float
    log_evidence: float = math.nan

    def result(self, sampler: Sampler[Any], **more: Any) -> dict[str, Any]:
        """What an objective evaluates; the sampler's settings are the note."""
        fields = vars(self) | {"samples": self.samples.numpy(), "note": repr(sampler)}
        return {**fields, **more}


def measure(
    sampler: Sampler[Any], target: Any, seeds: Sequence[int], meter: Meter | None = None
) -> Draws:
    """Draw the samples of `seeds` at once, with their cost.

    Args:
        sampler: A sampler.
        target: What it draws from, with a `prior`.
        seeds: Of the samples; those of a population share its cost.
        meter: Where models beside the prior count, which are part of the cost.
    """
    meter = Meter() if meter is None else meter
    if isinstance(target, Posterior):
        # Once a prior, and no part of what a sample costs.
        prior_draws(target.prior)
    before = replace(meter)
    counted = Counted(target.prior, meter)
    metered, device = replace(target, prior=counted), torch.device(target.space.device)
    with Peak(device) as peak:
        watch = Watch(meter, len(seeds))
        state = deque(sampler.iterate(metered, seeds), maxlen=1)[0]
        samples = sampler.draws(metered, state, seeds)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        watch.read()
    spent, particles = meter - before, isinstance(state, ParticleState)
    cost = spent.cost(sampler.worked(target, seeds))
    return Draws(
        samples.cpu(),
        cost.forward,
        cost.backward,
        spent.seconds,
        peak.mib,
        float(state.log_evidence[0]) if particles else math.nan,
    )


class Peak:
    """The most memory that is held in a `with` block beyond what was held before it, in MiB.

    On a GPU it is that of tensors. On the CPU it is the process's resident memory: what is freed and
    used again does not show, so it is a lower bound, 0 for little problems. Where the system has no
    peak that can be reset (not Linux), the process's highest peak so far counts.

    Args:
        device: Where the tensors are.

    Attributes:
        mib: The peak, once the block has ended.
    """

    mib: float = math.nan

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            _reset_high_water()
        self._before = self._held()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.mib = max(0.0, self._held() - self._before)

    def _held(self) -> float:
        """The highest so far; just after a reset, what is held now."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return _high_water()


PROC = Path("/proc/self")


def _reset_high_water() -> None:
    try:
        (PROC / "clear_refs").write_text("5")
    except OSError:
        # Not Linux, or not allowed.
        return


def _high_water() -> float:
    try:
        lines = (PROC / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
