"""Draw many samples in chunks of seeds, so that a run that is killed goes on where it was."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..diffusion.denoiser import Counted
from ..diffusion.solver import State
from ..samplers.base import Sampler
from ..target import Posterior
from .store import Store

# Seconds of work that a kill may cost.
CHECKPOINT_EVERY = 5.0


@dataclass
class Cost:
    """What samples cost.

    Args:
        forward: Evaluations of the prior, per sample.
        backward: Products with its transposed Jacobian, per sample.
        operator: Calls of the operator and its derivatives, per sample.
        seconds: Of sampling, for all samples.
    """

    forward: int = 0
    backward: int = 0
    operator: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Chunk:
    """Seeds that are drawn in one batch."""

    index: int
    seeds: Sequence[int]

    @property
    def file(self) -> str:
        """Where its samples are kept until the run is done."""
        return f"chunks/{self.index:05d}.pt"

    @property
    def checkpoint(self) -> str:
        """Where its state is kept until it is done."""
        return f"chunks/{self.index:05d}.state"


def chunks(sampler: Sampler[Any], seeds: Sequence[int], size: int) -> list[Chunk]:
    """Cut seeds into chunks of about `size`; a population is never cut."""
    return [Chunk(i, part) for i, part in enumerate(sampler.batches(seeds, size))]


class _Meter:
    """Counts what a target is asked for, on top of what an earlier attempt was."""

    def __init__(self, target: Posterior, before: Cost) -> None:
        self.counted = Counted(target.prior)
        self.target = Posterior(self.counted, target.likelihood, target.y)
        self.before = before
        self.started = time.perf_counter()

    def read(self) -> Cost:
        operator = getattr(self.target.likelihood, "operator", None)
        return Cost(
            self.before.forward + self.counted.forward,
            self.before.backward + self.counted.backward,
            self.before.operator + (0 if operator is None else operator.calls),
            self.before.seconds + time.perf_counter() - self.started,
        )


def draw(
    sampler: Sampler[Any],
    target: Posterior,
    parts: Sequence[Chunk],
    store: Store,
    advance: Callable[[Chunk, int], None],
) -> tuple[Tensor, Cost]:
    """Draw all chunks that are not in the store yet, and return all samples with their cost.

    Args:
        sampler: The sampler.
        target: The posterior.
        parts: The chunks; the same ones as in earlier attempts.
        store: Where they are kept.
        advance: Called with a chunk and its number of finished steps.
    """
    samples, cost = [], Cost()
    for part in parts:
        if not store.path(part.file).exists():
            _draw_chunk(sampler, target, part, store, advance)
        advance(part, sampler.schedule.steps)
        saved = store.read_tensors(part.file, "cpu")
        samples.append(saved["x"])
        of_part = Cost(**saved["cost"])
        seconds = cost.seconds + of_part.seconds
        cost = Cost(of_part.forward, of_part.backward, of_part.operator, seconds)
    return torch.cat(samples), cost


def _draw_chunk(
    sampler: Sampler[Any],
    target: Posterior,
    part: Chunk,
    store: Store,
    advance: Callable[[Chunk, int], None],
) -> None:
    resume, before = None, Cost()
    if store.path(part.checkpoint).exists():
        saved = store.read_tensors(part.checkpoint, target.space.device)
        before = Cost(**saved["cost"])
        # The streams of random numbers are states of generators, which live on the CPU whatever
        # the device.
        resume = (sampler.state_type(**saved["state"]), saved["rng"].cpu())
    meter, last_saved = _Meter(target, before), time.perf_counter()
    state: State | None = None
    for state, rng in sampler.checkpoints(meter.target, part.seeds, resume):
        advance(part, state.count)
        if time.perf_counter() - last_saved > CHECKPOINT_EVERY:
            content = {field.name: getattr(state, field.name) for field in fields(state)}
            cost = asdict(meter.read())
            store.write_tensors(
                part.checkpoint, {"state": content, "rng": rng.state(), "cost": cost}
            )
            last_saved = time.perf_counter()
    if state is None:
        # Killed between the last checkpoint and the end of the chunk: nothing is left to do but to
        # keep the state.
        state = resume[0] if resume else None
    if state is not None:
        x = sampler.draws(target, state, part.seeds)
        store.write_tensors(part.file, {"x": x.cpu(), "cost": asdict(meter.read())})
    store.remove(part.checkpoint)
