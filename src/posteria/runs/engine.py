"""Draw many samples in chunks of seeds, so that a run that is killed goes on where it was."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import InputError, ShapeError, expect, require
from ..core.meter import Cost, Meter, Watch
from ..core.record import from_json
from ..core.state import State
from ..diffusion.denoiser import Denoiser
from ..latent import Decoder, decoder_of
from ..samplers.base import Sampler
from ..samplers.diagnostics import Diagnostics, diagnose
from ..target import Posterior, metered
from .store import Store

# Seconds of work that a kill may cost, and those that a checkpoint may take at that pace: one that takes longer is
# made more rarely in proportion, so that all of them take a fiftieth of a run.
CHECKPOINT_EVERY = 5.0
CHECKPOINT_TAKES = 0.1
# How fast states are taken to be written until one was: a slow disk.
BYTES_A_SECOND = 50e6


@dataclass(frozen=True)
class Method:
    """One way to draw samples.

    Args:
        sampler: With its models.
        target: What it draws from.
        seeds: One a sample.
        array: The name of its samples in `samples.npz`.
        models: Where models beside the prior count.
    """

    sampler: Sampler[Any]
    target: Posterior | Denoiser
    seeds: Sequence[int]
    array: str = "samples"
    models: Meter = field(default_factory=Meter)

    @property
    def decoder(self) -> Decoder | None:
        """What decodes its samples, where they are latents."""
        return decoder_of(self.target.prior if isinstance(self.target, Posterior) else self.target)

    @property
    def raw(self) -> str:
        """The name of what it drew in `samples.npz`: its samples, or their latents beside them."""
        if self.decoder is None:
            return self.array
        return "latents" if self.array == "samples" else f"{self.array}-latents"

    def signals(self, x: Tensor, rows: int) -> Tensor:
        """What it drew as signals, so many rows at a time."""
        if self.decoder is None:
            return x
        device = self.target.space.device
        with torch.no_grad():
            parts = [self.decoder(part.to(device)).to(x) for part in torch.split(x, rows)]
        return torch.cat(parts)


@dataclass(frozen=True)
class Chunk:
    """Seeds that are drawn in one batch.

    Args:
        method: The name of their method.
        index: Of the chunk in its run.
        seeds: The seeds, which count up.
    """

    method: str
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


@dataclass(frozen=True)
class Done:
    """A chunk that was drawn.

    Args:
        chunk: Which.
        x: Its samples, `[len(seeds), *event]`, on the CPU.
        meter: What they cost.
        said: What populations say of themselves, one number each.
    """

    chunk: Chunk
    x: Tensor
    meter: Meter
    said: dict[str, list[float]] = field(default_factory=dict)


class Executor(Protocol):
    """Carries out the work on chunks, here or elsewhere.

    A chunk may be worked on more than once, for instance after a worker was lost: the work is
    idempotent.
    """

    def map(self, work: Callable[[Chunk], Done], chunks: Iterable[Chunk]) -> Iterator[Done]:
        """The results of all chunks, in any order."""
        ...


class InProcess(Executor):
    """One chunk after another, in this process."""

    @override
    def map(self, work: Callable[[Chunk], Done], chunks: Iterable[Chunk]) -> Iterator[Done]:
        return map(work, chunks)


@dataclass(frozen=True)
class Drawn:
    """The samples of a method, with their cost.

    Args:
        x: Its samples in the order of their seeds, `[n, *event]`.
        parts: The chunks, in the same order.
        worked: Samples whose work was done, those of whole populations.
    """

    x: Tensor
    parts: tuple[Done, ...]
    worked: int

    @property
    def meter(self) -> Meter:
        """What all chunks cost."""
        return sum((part.meter for part in self.parts), Meter())

    @property
    def cost(self) -> Cost:
        """What each sample costs."""
        return self.meter.cost(self.worked)

    def said(self, name: str) -> list[float] | None:
        """What populations say of themselves by a name, in the order of their seeds; None where they do not."""
        return [value for part in self.parts for value in part.said.get(name, ())] or None

    def diagnostics(self, method: Method) -> Diagnostics:
        """What the samples say of themselves, latents of the latents."""
        return diagnose(
            torch.cat([part.x for part in self.parts]),
            method.seeds,
            method.target,
            particles=method.sampler.shared,
            ess=self.said("ess"),
            ancestors=self.said("ancestors"),
        )


def chunks(methods: Mapping[str, Method], size: int) -> list[Chunk]:
    """Cut the seeds of methods into chunks of about `size`; a population is never cut."""
    parts = [
        (name, seeds)
        for name, method in methods.items()
        for seeds in method.sampler.batches(method.seeds, size)
    ]
    return [Chunk(name, index, seeds) for index, (name, seeds) in enumerate(parts)]


def draw(
    methods: Mapping[str, Method],
    size: int,
    store: Store,
    advance: Callable[[int, int], None],
    kept: Iterable[Done] = (),
    executor: Executor | None = None,
) -> dict[str, Drawn]:
    """The samples of all methods, drawn but for those that are in the store or kept already.

    Args:
        methods: By name.
        size: Samples in a chunk; the same as in earlier attempts.
        store: Where chunks are kept.
        advance: Called with the number of finished steps and that of all steps.
        kept: Chunks of a finished run.
        executor: Who draws.
    """
    parts = chunks(methods, size)
    steps = [len(methods[part.method].sampler.moves()) for part in parts]
    before = {(done.chunk.method, tuple(done.chunk.seeds)): done for done in kept}
    counts, total = [0] * len(parts), sum(steps)

    def progress(part: Chunk, count: int) -> None:
        counts[part.index] = count
        advance(sum(counts), total)

    def work(part: Chunk) -> Done:
        return draw_chunk(methods[part.method], part, store, progress)

    found: dict[int, Done] = {}
    for part in parts:
        done = before.get((part.method, tuple(part.seeds)))
        if done is not None:
            found[part.index] = done
            counts[part.index] = steps[part.index]
    todo = (part for part in parts if part.index not in found)
    for done in (executor or InProcess()).map(work, todo):
        found[done.chunk.index] = done
        progress(done.chunk, steps[done.chunk.index])
    return {
        name: _joined(method, [found[part.index] for part in parts if part.method == name])
        for name, method in methods.items()
    }


def _joined(method: Method, done: Sequence[Done]) -> Drawn:
    x, parts, start = torch.cat([each.x for each in done]), list[Done](), 0
    for each in done:
        parts.append(replace(each, x=x[start : start + len(each.x)]))
        start += len(each.x)
    worked = method.sampler.worked(method.target, method.seeds)
    return Drawn(x, tuple(parts), worked)


def draw_chunk(
    method: Method, part: Chunk, store: Store, advance: Callable[[Chunk, int], None]
) -> Done:
    """Draw a chunk, unless the store has it, and keep it there.

    What an earlier attempt has left is used if it is whole and of the same seeds, and else drawn again.
    """
    done = _finished(method, part, store)
    if done is not None:
        return done
    sampler, target, meter = method.sampler, method.target, Meter()
    resume, before = _begun(method, part, store)
    counted, _ = metered(target, meter)
    operator = getattr(getattr(counted, "likelihood", None), "operator", None)
    watch = Watch(meter, len(part.seeds), operator, target.space.device)
    others, last_saved = replace(method.models), time.perf_counter()
    state, takes = None, None

    def spent() -> Meter:
        return before + watch.read() + (method.models - others)

    for state, rng in sampler.checkpoints(counted, part.seeds, resume):
        advance(part, state.count)
        content = {field.name: getattr(state, field.name) for field in fields(state)}
        if takes is None:
            tensors = (value for value in content.values() if isinstance(value, Tensor))
            takes = sum(tensor.nbytes for tensor in tensors) / BYTES_A_SECOND
        started = time.perf_counter()
        if started - last_saved > CHECKPOINT_EVERY * max(1.0, takes / CHECKPOINT_TAKES):
            kept = {"state": content, "rng": rng.state(), "cost": spent().record()}
            store.write_tensors(part.checkpoint, {"seeds": list(part.seeds), **kept})
            last_saved = time.perf_counter()
            takes = last_saved - started
    if state is None:
        # Killed between the last checkpoint and the end of the chunk: nothing is left to do but to
        # keep the state.
        state = expect(resume and resume[0], State, by="A chunk without a step")
    known = sampler.diagnostics(state).items()
    said = {name: value.tolist() for name, value in known if value.isfinite().all()}
    done = Done(part, sampler.draws(target, state, part.seeds).cpu(), spent(), said)
    kept = {"seeds": list(part.seeds), "x": done.x, "cost": done.meter.record(), "said": said}
    store.write_tensors(part.file, kept)
    store.remove(part.checkpoint)
    return done


def _finished(method: Method, part: Chunk, store: Store) -> Done | None:
    """A chunk that the store has whole."""
    try:
        saved = _saved(part, part.file, store, "cpu")
        require(saved["x"].shape == (len(part.seeds), *method.target.space.shape), "x")
        return Done(part, saved["x"], from_json(Meter, saved["cost"]), saved["said"])
    except (KeyError, TypeError, AttributeError, InputError):
        return None


def _begun(method: Method, part: Chunk, store: Store) -> tuple[tuple[Any, Tensor] | None, Meter]:
    """The state and the random streams of a chunk that was begun, and its cost so far."""
    space = method.target.space
    try:
        saved = _saved(part, part.checkpoint, store, space.device)
        state = method.sampler.state_type(**saved["state"])
        # The streams of random numbers are states of generators, which live on the CPU whatever
        # the device; there is one a sample, or one a population.
        streams = saved["rng"].cpu()
        units = len({seed // method.sampler.shared for seed in part.seeds})
        require(len(streams) == len(state.x) == units, "streams")
        require(space.check(state.x, "x").dtype == space.dtype, "x")
        return (state, streams), from_json(Meter, saved["cost"])
    except (KeyError, TypeError, AttributeError, InputError, ShapeError):
        return None, Meter()


def _saved(part: Chunk, name: str, store: Store, device: torch.device | str) -> dict[str, Any]:
    """What an earlier attempt left in a file, if it is whole and of the same seeds."""
    saved = store.read_tensors(name, device) or {}
    return saved if saved.get("seeds") == list(part.seeds) else {}
