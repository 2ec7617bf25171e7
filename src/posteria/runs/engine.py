"""Draw many samples in chunks of seeds, so that a run that is killed goes on where it was."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InputError
from ..core.meter import peak_memory as peak_memory
from ..diffusion.denoiser import Counted
from ..diffusion.solver import State
from ..samplers.base import Sampler
from ..target import Posterior, Tilted
from .store import Store

# Seconds of work that a kill may cost.
CHECKPOINT_EVERY = 5.0


@dataclass
class Cost:
    """What samples cost.

    Args:
        forward: Evaluations of the prior, per sample.
        backward: Products with its transposed Jacobian, per sample.
        operator: Calls of the operator and its derivatives, or of a classifier, per sample.
        seconds: Of sampling, for all samples.
    """

    forward: float = 0
    backward: float = 0
    operator: float = 0
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
    """Counts what a target is asked for, on top of what an earlier attempt was.

    Args:
        target: A posterior or a tilted law, whose whole cost is shared out.
        units: Samples or populations that share it.
        before: What an earlier attempt cost.
        others: What other models have cost so far, not shared out.
    """

    def __init__(
        self, target: Posterior | Tilted, units: int, before: Cost, others: Callable[[], Cost]
    ) -> None:
        self.counted = Counted(target.prior)
        self.target: Posterior | Tilted = replace(target, prior=self.counted)
        self.units = units
        self.before, self.others, self.others_before = before, others, others()
        self.started = time.perf_counter()

    def read(self) -> Cost:
        others, earlier = self.others(), self.others_before
        operator = getattr(getattr(self.target, "likelihood", None), "operator", None)
        return Cost(
            self.before.forward
            + _each(self.counted.meter.forward, self.units)
            + _each(others.forward - earlier.forward, self.units),
            self.before.backward
            + _each(self.counted.meter.backward, self.units)
            + _each(others.backward - earlier.backward, self.units),
            self.before.operator
            + _each(others.operator - earlier.operator, self.units)
            + (0 if operator is None else operator.calls),
            self.before.seconds + time.perf_counter() - self.started,
        )


def _each(total: float, units: int) -> float:
    """An equal share, whole if it comes out whole."""
    return total / units if total % units else total // units


def draw(
    sampler: Sampler[Any],
    target: Posterior | Tilted,
    parts: Sequence[Chunk],
    store: Store,
    advance: Callable[[Chunk, int], None],
    others: Callable[[], Cost] = Cost,
) -> tuple[Tensor, Cost]:
    """Draw all chunks that are not in the store yet, and return all samples with their cost.

    Args:
        sampler: The sampler.
        target: The posterior, or the tilted law.
        parts: The chunks; the same ones as in earlier attempts.
        store: Where they are kept.
        advance: Called with a chunk and its number of finished steps.
        others: What models beside the prior have cost so far, by all that they were asked.
    """
    samples, cost = [], Cost()
    for part in parts:
        if not store.path(part.file).exists():
            _draw_chunk(sampler, target, part, store, advance, others)
        advance(part, len(sampler.moves()))
        saved = store.read_tensors(part.file, "cpu")
        samples.append(saved["x"])
        of_part = Cost(**saved["cost"])
        seconds = cost.seconds + of_part.seconds
        cost = Cost(of_part.forward, of_part.backward, of_part.operator, seconds)
    return torch.cat(samples), cost


def _draw_chunk(
    sampler: Sampler[Any],
    target: Posterior | Tilted,
    part: Chunk,
    store: Store,
    advance: Callable[[Chunk, int], None],
    others: Callable[[], Cost],
) -> None:
    resume, before = None, Cost()
    if store.path(part.checkpoint).exists():
        saved = store.read_tensors(part.checkpoint, target.space.device)
        before = Cost(**saved["cost"])
        # The streams of random numbers are states of generators, which live on the CPU whatever
        # the device.
        resume = (sampler.state_type(**saved["state"]), saved["rng"].cpu())
    units = len({seed // sampler.shared for seed in part.seeds})
    meter, last_saved = _Meter(target, units, before, others), time.perf_counter()
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


def device_of(name: str) -> str:
    """The name of a device, if PyTorch has it.

    Raises:
        InputError: If not.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"{name!r} is not a device; try cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "This machine has no CUDA device that PyTorch can use; run with --device cpu."
        )
    return name
