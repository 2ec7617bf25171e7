"""What samples cost, counted in one way for runs, budgets, benchmarks and tests.

A row is one signal. Counted are

- `forward`: rows that the denoiser evaluates, over all batch and particle axes, those of weak and tuned
  models included;
- `backward`: rows of products with its transposed Jacobian;
- `operator`: applications of the measurement operator, its adjoint and its derivatives; a call on a batch
  is one for each of its samples;
- `others`: rows that classifiers evaluate;
- `seconds`, and `memory`, the highest that the process or the GPU held.

What is measured once a prior (`diffusion.scale`: its scale, by 32 draws of 23 evaluations) is counted where it is
made: 736 rows in the first batch that needs them and none afterwards. Every evaluation of the
prior counts, also for samples that are not returned: a population is simulated whole.
"""

import math
import os
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override


@dataclass(frozen=True)
class Cost:
    """What one sample costs: the totals of a meter, shared out, with the highest memory held by all samples, in MiB."""

    forward: float = 0
    backward: float = 0
    operator: float = 0
    others: float = 0
    seconds: float = 0.0
    memory: float = 0.0


@dataclass
class Meter:
    """Totals over all samples, chunks and attempts so far, under the names of `Cost`; see the module.

    `meter + other` adds them up (and takes the higher memory); `meter - earlier` is what came since.
    `Meter(**meter.record())` is the meter again, from a JSON file too.
    """

    forward: int = 0
    backward: int = 0
    operator: int = 0
    others: int = 0
    seconds: float = 0.0
    memory: float = 0.0

    def __add__(self, other: "Meter") -> "Meter":
        return self._with(other, 1, max(self.memory, other.memory))

    def __sub__(self, earlier: "Meter") -> "Meter":
        return self._with(earlier, -1, self.memory)

    def _with(self, other: "Meter", sign: int, memory: float) -> "Meter":
        ours, theirs = self.record(), other.record()
        return Meter(**{k: ours[k] + sign * theirs[k] for k in ours} | {"memory": memory})

    def record(self) -> dict[str, Any]:
        """The totals by name, for JSON."""
        return asdict(self)

    def cost(self, samples: int) -> Cost:
        """What each of `samples` costs: those whose work was done, by `Sampler.worked(target, seeds)`."""
        names = ("forward", "backward", "operator", "others")
        each = {name: _each(getattr(self, name), samples) for name in names}
        return Cost(**each, seconds=self.seconds / samples, memory=self.memory)


def _each(total: int, samples: int) -> float:
    return total / samples if total % samples else total // samples


class Counts(Protocol):
    """What counts its calls, each on a whole batch: an operator."""

    calls: int


class Watch:
    """Adds to a meter, whenever it is read, what has passed since it was last read.

    A call of the operator serves all `samples` of the batch; the memory is that of `device`.
    """

    def __init__(
        self,
        meter: Meter,
        samples: int,
        operator: Counts | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.meter, self.samples, self.operator = meter, samples, operator
        self.device = torch.device(device)
        self._last = self._now()

    def _now(self) -> tuple[float, int]:
        return time.perf_counter(), 0 if self.operator is None else self.operator.calls

    def read(self) -> Meter:
        """The meter, brought up to now."""
        (seconds, calls), self._last = self._last, self._now()
        self.meter.seconds += self._last[0] - seconds
        self.meter.operator += (self._last[1] - calls) * self.samples
        self.meter.memory = max(self.meter.memory, peak_memory(self.device))
        return self.meter

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.read()


class Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes of tensors that were made while it is on and alive at once, whoever holds them, by `most`.

    Of any device; without what an operation takes for itself while it runs.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._now = 0
        self._known = set[int]()

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors((args, kwargs)):
            self._meet(tensor.untyped_storage(), 0)
        output = func(*args, **(kwargs or {}))
        for tensor in _tensors(output):
            storage = tensor.untyped_storage()
            self._meet(storage, storage.nbytes())
        return output

    def _meet(self, storage: torch.UntypedStorage, takes: int) -> None:
        # A storage is one object of Python for as long as anything holds it.
        key = id(storage)
        if key in self._known:
            return
        self._known.add(key)
        self._now += takes
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._leave, key, takes)

    def _leave(self, key: int, took: int) -> None:
        self._known.discard(key)
        self._now -= took


def _tensors(of: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in tree_leaves(of) if isinstance(leaf, torch.Tensor))


def memory_of(device: torch.device) -> float:
    """The memory that there is, in MiB; infinite where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2**20
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    except (AttributeError, ValueError, OSError):  # Windows
        return math.inf


def peak_memory(device: torch.device) -> float:
    """The most memory that the process, or the GPU, has held, in MiB; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
