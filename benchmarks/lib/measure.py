"""Draw samples and say what they cost."""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posteria.core.meter import Meter, peak_memory
from posteria.diffusion.scale import prior_draws
from posteria.samplers.base import Sampler
from posteria.samplers.particles.exact import Exact
from posteria.samplers.particles.tempered.reflection import reach
from posteria.samplers.particles.tempered.sampler import Tempered
from posteria.target import Posterior

# Seeds below 2^32 in blocks of a population's size, so that a block is a population of the default size.
BLOCK = 512


def seeds_of(number: int, count: int = BLOCK) -> range:
    """Seeds of `count` samples, from a random number. They begin a population, if it is of the default size."""
    blocks = -(-count // BLOCK)
    start = number % (2**32 // BLOCK - blocks) * BLOCK
    return range(start, start + count)


@dataclass(frozen=True)
class Draws:
    """Samples `[n, *event]` on the CPU, and their cost.

    Evaluations of the prior and vjps are per sample, seconds for all; memory is the most held beyond what
    was held before, in MiB; the evidence is that of the first population.
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


def joined(parts: Sequence[Draws], sampler: Sampler[Any]) -> dict[str, Any]:
    """What an objective evaluates, of samples that were drawn part by part; costs are means over all samples."""
    samples = torch.cat([part.samples for part in parts])
    shares = [(len(part.samples) / len(samples), part) for part in parts]
    return {
        "samples": samples.numpy(),
        "evaluations": sum(share * part.evaluations for share, part in shares),
        "vjps": sum(share * part.vjps for share, part in shares),
        "seconds": sum(part.seconds for part in parts),
        "memory": max(part.memory for part in parts),
        "note": repr(sampler),
    }


def measure(
    sampler: Sampler[Any], target: Any, seeds: Sequence[int], meter: Meter | None = None
) -> Draws:
    """Draw the samples of `seeds` at once, with their cost, which includes what other models count in `meter`."""
    meter = Meter() if meter is None else meter
    if isinstance(target, Posterior):
        # Once a prior, and no part of what a sample costs.
        prior_draws(target.prior)
        if isinstance(sampler, Tempered) and sampler.reach is None:
            reach(target.prior)
        if isinstance(sampler, Exact):
            sampler.init(*sampler.arrange(target, seeds))
    before, device = replace(meter), torch.device(target.space.device)
    held, started = reset_peak(device), time.perf_counter()
    drawn = sampler.run(target, seeds)
    # Waits for a GPU.
    samples = drawn.x.cpu()
    seconds, memory = time.perf_counter() - started, max(0.0, peak_memory(device) - held)
    others, evidence = (meter - before).cost(sampler.worked(target, seeds)), drawn.log_evidence
    return Draws(
        samples,
        drawn.cost.forward + others.forward,
        drawn.cost.backward + others.backward,
        seconds,
        memory,
        math.nan if evidence is None else float(evidence[0]),
    )


def reset_peak(device: torch.device) -> float:
    """Begin the peak of memory anew, where the system can, and say what is held now, in MiB.

    On the CPU it is the process's resident memory: what is freed and used again does not show, so a peak is a
    lower bound, 0 for little problems.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        # Not Linux, or not allowed: the process's highest so far counts.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    return peak_memory(device)
