"""Training of a local network in pieces of any length: what `photo.py`, `ecg.py` and `stems.py` share.

It goes on from its last checkpoint. The learning rate is constant and the weights that ship are an average
(arXiv:2206.00364, appendix F.2, without its cosine), so that no piece has to know how many follow; `--decay` ends with
a linear descent to zero over the piece (arXiv:2405.18392).
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from typing_extensions import override

from posteria.priors.local import LocalUNet
from train import Recipe, Training, loss, noise_levels

# So many examples to train on; and what is measured of an average of the weights.
Draw = Callable[[int, np.random.Generator], Tensor]
Measure = Callable[[LocalUNet], dict[str, Any]]


class Batches(IterableDataset[Tensor]):
    """Batches without end, of other examples in each process that draws them."""

    def __init__(self, draw: Draw, batch: int, seed: int) -> None:
        self.draw, self.batch, self.seed = draw, batch, seed

    @override
    def __iter__(self) -> Iterator[Tensor]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id] if worker else self.seed)
        while True:
            yield self.draw(self.batch, rng)


def main(
    about: str | None,
    recipe: Recipe,
    build: Callable[[], LocalUNet],
    read: Callable[[Path], tuple[Draw, Measure]],
    *,
    warm: int = 10_000,
    memory: int = 20_000,
) -> None:
    """The command line: train for so many minutes; `checkpoint.pt` has the state, `log.jsonl` what was measured.

    Args:
        about: What `--help` says.
        recipe: Batches, rate and levels.
        build: Makes the network.
        read: From the folder of the data to examples, on the CPU, and to measures.
        warm: Examples over which the rate rises.
        memory: Examples of which the average of the weights has half.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data")
    parser.add_argument("--out", type=Path, required=True, help="of the checkpoint and the log")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--decay", action="store_true", help="the rate goes to zero in this piece")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw examples")
    parser.add_argument("--batch", type=int, default=recipe.batch, help="larger ones fill a GPU")
    parser.add_argument("--lr", type=float, default=recipe.lr)
    parser.add_argument("--compile", action="store_true", help="the network, for the step alone")
    parser.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        help="convolutions in bfloat16: three times as fast with avx512_bf16 or amx_bf16, far slower without; "
        "by default on a GPU alone",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    recipe = replace(recipe, batch=options.batch, lr=options.lr)
    draw, measure = read(options.data)
    device = torch.device(options.device)
    half = device.type == "cuda" if options.bf16 is None else options.bf16
    net, ema = build().to(device), build().to(device)
    if net.axes == 2:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    training = Training(net, ema, recipe, options.out)
    torch.manual_seed(recipe.seed + training.seen)
    network = torch.compile(net) if options.compile else net
    batches = Batches(draw, recipe.batch, recipe.seed + training.seen)
    pinned = device.type == "cuda"
    loader = DataLoader(batches, batch_size=None, num_workers=options.workers, pin_memory=pinned)
    seconds, start = 60 * options.minutes, time.time()
    for x in loader:
        left = max(0.0, 1 - (time.time() - start) / seconds)
        rate = recipe.lr * min(1, (training.seen + recipe.batch) / warm)
        x, sigma = x.to(device, non_blocking=True), noise_levels(recipe, len(x), device)
        value = loss(network, recipe, x, sigma, half)
        training.step(value, rate * (left if options.decay else 1), memory)
        training.save(lambda: measure(ema), last=not left)
        if not left:
            break
