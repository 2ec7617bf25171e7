"""Train `photo`, a prior of photographs of any size: `python training/photo.py --data DIR --out DIR`.

It goes on from its last checkpoint, in pieces of any length (`--minutes`). The learning rate is constant and
the weights that ship are an average (arXiv:2206.00364, appendix F.2, without its cosine), so that no piece has to
know how many follow; `--decay` ends with a linear descent to zero over the piece (arXiv:2405.18392).
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from photographs import Photographs, photographs
from posteria.priors.local import LocalUNet
from train import Recipe, Training, denoise, loss, noise_levels

RECIPE = Recipe(
    patch=2,
    channels=(64, 128, 192),
    layers=0,
    labels=0,
    images=0,
    batch=16,
    lr=5e-4,
    log_mean=-1.2,
)
BLOCKS = (2, 2, 3)
SIDE = 96
# Of 255, and in units of [-1, 1]: the levels at which denoising is reported.
LEVELS = (10, 25, 50, 100)


def build() -> LocalUNet:
    """The network."""
    return LocalUNet(3, RECIPE.channels, BLOCKS, RECIPE.patch)


@torch.no_grad()
def psnr(net: LocalUNet, x: Tensor) -> list[float]:
    """Of denoised pictures, in dB, averaged over them, at the reported levels and with fixed noise."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1234)).to(x.device)
    found = []
    for level in LEVELS:
        sigma = 2 * level / 255
        clean = [
            denoise(
                net, RECIPE, part + sigma * extra, torch.full((len(part),), sigma, device=x.device)
            )
            for part, extra in zip(torch.split(x, 8), torch.split(noise, 8), strict=True)
        ]
        error = (torch.cat(clean).clamp(-1, 1) - x).square().mean((1, 2, 3))
        found.append(float((10 * (4 / error).log10()).mean()))
    return found


def run(
    data: Photographs, out: Path, device: torch.device, seconds: float, decay: bool, half: bool
) -> None:
    """Train for so many seconds; `checkpoint.pt` has the state, `log.jsonl` what was measured."""
    net, ema = build().to(device), build().to(device)
    if device.type == "cpu":
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    training = Training(net, ema, RECIPE, out)
    torch.manual_seed(RECIPE.seed + training.seen)
    rng = np.random.default_rng(RECIPE.seed + training.seen)
    held_out, start = data.middle(128)[::8].to(device), time.time()
    while (left := 1 - (time.time() - start) / seconds) > 0:
        lr = RECIPE.lr * min(1, (training.seen + RECIPE.batch) / 10_000) * (left if decay else 1)
        x = data.crops(RECIPE.batch, SIDE, rng).to(device)
        training.step(loss(net, RECIPE, x, noise_levels(RECIPE, len(x), device), half), lr, 20_000)
        last = time.time() - start >= seconds
        training.save(lambda: {"psnr": psnr(ema, held_out)}, last=last)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .npz files")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the checkpoint and the log"
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument(
        "--decay", action="store_true", help="let the learning rate go to zero in this piece"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        help="convolutions in bfloat16: three times as fast with avx512_bf16 or amx_bf16, far slower without; "
        "by default on a GPU alone",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    data = photographs(options.data, SIDE)
    device = torch.device(options.device)
    half = device.type == "cuda" if options.bf16 is None else options.bf16
    run(data, options.out, device, 60 * options.minutes, options.decay, half)


if __name__ == "__main__":
    main()
