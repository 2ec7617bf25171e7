"""A step asks nothing back from the device: each answer stops an accelerator until all before it is done."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

import posteria as po
from common.guidance.battery import LEVELS, RULES, SAMPLERS as TILTED, TARGET
from common.sampler import SMALL, TARGETS, takes

# Those that need it, with the reason.
READS = {
    "exact": "its levels and moments, which lie on the CPU",
    "exact spread": "its levels and moments, which lie on the CPU",
    "fk": "a reward that is nan is an error",
    "tempered": "each population has levels of its own, and weights that are all 0 are an error",
    "tmpd": "conjugate gradients end early: at each iteration on a CPU, at each eighth elsewhere",
    "ag": "rows that are done are not evaluated",
    "gfcg": "a network is called for each label that occurs",
    "classifier": "an exact mixture is made for each level, and checks itself",
    "dynamic": "a score that is nan is an error",
}
ASKS = {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal}


class Listener(TorchDispatchMode):
    """Counts what needs a value on the host: `item`, `bool`, `float`, `tolist`, and shapes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: Counter[str] = Counter()

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in ASKS:
            self.heard[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def cases() -> Iterator[tuple[str, po.samplers.Sampler[Any], Any]]:
    for name, sampler in SMALL.items():
        for kind in ("linear", "nonlinear", "holes"):
            if takes(name, TARGETS[kind]):
                yield name, sampler, TARGETS[kind]
                break
    for name, sampler in TILTED.items():
        yield name, sampler, TARGET
    for name, rule in RULES.items():
        yield name, po.Guided(rule=rule, solver=po.DDIM(), schedule=LEVELS), TARGET


CASES = list(cases())


@pytest.mark.parametrize(("name", "sampler", "target"), CASES, ids=[case[0] for case in CASES])
def test_steps_read_nothing_back(
    name: str, sampler: po.samplers.Sampler[Any], target: Any
) -> None:
    # Catches: a float() or bool() of a tensor in a step, which on a CPU costs nothing and is not seen.
    checkpoints, listener = sampler.checkpoints(target, range(2)), Listener()
    next(checkpoints)
    with listener:
        for _ in checkpoints:
            pass
    assert bool(listener.heard) == (name in READS), f"{dict(listener.heard)}: {READS.get(name)}"
