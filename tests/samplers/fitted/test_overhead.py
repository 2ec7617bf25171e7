"""What MGDM does beside the network, counted: moves between files, and copies to another dtype."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import posteria as po
from posteria.diffusion import EDM, Network
from posteria.guidance.base import StepInfo

ROOT = str(Path(po.__file__).parent)


class Layer(torch.nn.Module):
    """A network of one layer, conditioned on the time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.layer(x) * time.sigmoid()[:, None, None, None]


def hole() -> po.Posterior:
    """A hole in a picture, with a small network."""
    prior = Network(Layer(), po.Space((1, 8, 8)), EDM())
    operator = po.operators.Inpainting(po.operators.box_mask(8, 8), prior.space.shape)
    y = torch.zeros(operator.codomain.shape)
    return po.Posterior(prior, po.GaussianLikelihood(operator, 0.1), y)


def moves(run: Callable[[], object]) -> int:
    """Calls of a function of the package from another of its files."""
    count = 0

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        if event == "call" and frame.f_back is not None:
            here, there = frame.f_code.co_filename, frame.f_back.f_code.co_filename
            count += here != there and here.startswith(ROOT) and there.startswith(ROOT)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


class Operations(TorchDispatchMode):
    """Counts what PyTorch does."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_moves_between_files_for_each_evaluation_of_mgdm() -> None:
    # Catches: a coefficient of a level that is made again for each evaluation, a helper of one line that is
    # called from the inner loop.
    target, sampler = hole(), po.MGDM(schedule=po.schedules.Table(steps=12))
    evaluations = sampler.run(target, [0]).cost.forward
    assert moves(lambda: sampler.sample(target, [0])) <= 12 * evaluations


def test_copies_to_another_dtype_for_each_evaluation_of_mgdm() -> None:
    # Catches: levels that are cast one by one, or in float64 where x is in float32.
    target, sampler = hole(), po.MGDM(schedule=po.schedules.Table(steps=12))
    evaluations = sampler.run(target, [0]).cost.forward
    with Operations() as done:
        sampler.sample(target, [0])
    assert done.counts["_to_copy"] <= 4 * evaluations


def test_where_a_level_is_in_a_schedule() -> None:
    # Catches: a place found by reading all levels at each step, a level between two that is not found.
    levels = (4.0, 2.0, 2.0, 1.0, 0.0)
    for sigma, index, below in (
        (4.0, 0, 2.0),
        (3.0, 1, 2.0),
        (2.0, 1, 1.0),
        (0.5, 4, 0.0),
        (0.0, 4, 0.0),
    ):
        info = StepInfo.of(levels, sigma)
        assert (info.index, info.sigma_next) == (index, below)
