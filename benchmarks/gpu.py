"""Seconds of MGDM with a network of ADM's size on a GPU, plainly and with `faster`: `make bench-gpu`.

The network is random, in the layout of FFHQ 256 x 256 (94 M parameters) or of ImageNet (553 M). A step is one of
MGDM, with 10 evaluations, 10 more that are differentiated, and a measurement by inpainting.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import posteria as po
from lib.table import Table
from posteria.core.state import State
from posteria.diffusion import Epsilon
from posteria.operators import Inpainting, box_mask
from posteria.priors import faster

# Widths of the levels, residual blocks of each, first level with attention, size.
LAYOUTS = {
    "ffhq": ((128, 128, 256, 256, 512, 512), 1, 4, 256),
    "imagenet": ((256, 256, 512, 512, 1024, 1024), 2, 3, 256),
    "tiny": ((32, 32), 1, 1, 16),
}
WAYS = {
    "float32": (),
    "autocast, channels_last, graphs": ("autocast", "channels_last", "graphs"),
    "bfloat16 weights, channels_last, graphs": ("channels_last", "graphs"),
    "autocast, channels_last, compile, graphs": ("autocast", "channels_last", "compile", "graphs"),
}
SAMPLER = po.MGDM()
# What is measured: its heading, and how many of its units a second or a share has.
COLUMNS = {
    "evaluation": ("ms an evaluation", 1e3),
    "with_vjp": ("ms with its vjp", 1e3),
    "step": ("ms a step", 1e3),
    "sample": ("s a sample", 1.0),
    "times": ("times as fast", 1.0),
    "evaluation_differs": ("an evaluation differs by", 1.0),
    "step_differs": ("a step differs by", 1.0),
}


def network(layout: str, device: str) -> po.Network:
    """A random network of guided-diffusion's layout."""
    from diffusers import UNet2DModel

    widths, blocks, attention, side = LAYOUTS[layout]
    attends = [level >= attention for level in range(len(widths))]
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DModel(
            sample_size=side,
            out_channels=6,
            block_out_channels=widths,
            layers_per_block=blocks,
            down_block_types=[("ResnetDownsampleBlock2D", "AttnDownBlock2D")[a] for a in attends],
            up_block_types=[("ResnetUpsampleBlock2D", "AttnUpBlock2D")[a] for a in attends[::-1]],
            downsample_type="resnet",
            upsample_type="resnet",
            resnet_time_scale_shift="scale_shift",
            attention_head_dim=min(64, widths[-1]),
            norm_eps=1e-5,
        )
    space = po.Space((3, side, side), device=device)
    return po.Network(unet.eval().requires_grad_(False), space, Epsilon())


def seconds(work: Callable[[], Any], times: int, device: str) -> float:
    """The median of some runs, each until the device is done."""
    wait: Any = torch.cuda.synchronize if device == "cuda" else lambda: None
    found = []
    for _ in range(times):
        wait()
        start = time.perf_counter()
        work()
        wait()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def measured(prior: po.Network, batch: int, device: str) -> tuple[list[float], list[torch.Tensor]]:
    """Seconds of an evaluation, of one with its derivative, and of a step; what the first and the last gave."""
    operator = Inpainting(box_mask(*prior.space.shape[1:]).to(device), prior.space.shape)
    y = torch.zeros(operator.codomain.shape, device=device)
    target = po.Posterior(prior, po.GaussianLikelihood(operator, 0.05), y)
    moves = SAMPLER.moves()
    count = len(moves) // 2
    sigma = moves[count][0]
    x = sigma * po.Rng(batch, device).normal(prior.space)
    there = State(x=x, x0=torch.zeros_like(x), sigma=sigma, count=count)

    def step() -> torch.Tensor:
        return SAMPLER.step(target, there, *moves[count], po.Rng(batch, device)).x0

    with torch.no_grad():
        found = [prior(x, sigma), step()]
        once = seconds(lambda: prior(x, sigma), 5, device)
        both = seconds(lambda: prior.vjp_once(x, sigma)[1](x), 5, device)
        whole = seconds(step, 1 if 20 * both > 1 else 3, device)
    return [once, both, whole], found


def made(layout: str, way: str, device: str) -> po.Network:
    """The network in one of `WAYS`, as far as the device has it."""
    prior = network(layout, device)
    if way.startswith("bfloat16"):
        module: Any = prior.module
        prior = po.Network(module.to(torch.bfloat16), prior.space, prior.parametrisation)
    ways = [name for name in WAYS[way] if device == "cuda" or name != "graphs"]
    return faster(prior, **dict.fromkeys(ways, True)) if ways else prior


def main() -> None:
    """Measure every way at every batch, as long as there is time, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", choices=LAYOUTS, default="ffhq")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 4, 1])
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=WAYS)
    parser.add_argument(
        "--seconds", type=float, default=95.0, help="what would pass it is left out"
    )
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    options = parser.parse_args()
    begin = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rows: list[dict[str, Any]] = []
    plain: dict[int, tuple[float, list[torch.Tensor]]] = {}
    for way in options.ways:
        prior, needs = None, 40.0 if "compile" in way and device == "cuda" else 3.0
        for batch in options.batches:
            row: dict[str, Any] = {"way": way, "batch": batch}
            rows.append(row)
            started = time.perf_counter()
            if started - begin + needs > options.seconds:
                row["failed"] = "no time was left"
                continue
            try:
                prior = prior or made(options.layout, way, device)
                (once, both, step), found = measured(prior, batch, device)
            except (po.PosteriaError, RuntimeError) as error:
                row["failed"] = str(error).splitlines()[0]
                continue
            finally:
                gc.collect()
                torch.cuda.empty_cache()
                row["took"] = time.perf_counter() - started
            needs = max(needs, row["took"]) if "compile" in way else needs
            ours, want = plain.setdefault(batch, (step, found))
            row |= {"evaluation": once, "with_vjp": both, "step": step, "times": ours / step}
            row["sample"] = step * (SAMPLER.schedule.steps - 2) / batch
            off = [float((a - b).norm() / b.norm()) for a, b in zip(found, want, strict=True)]
            row["evaluation_differs"], row["step_differs"] = off
            print(f"{way}, batch {batch}: {1e3 * step:.4g} ms a step", flush=True)
    title = f"MGDM on {card}, PyTorch {torch.__version__}, {options.layout}"
    header = ["way", "batch", *(name for name, _ in COLUMNS.values()), "not measured"]
    texts = []
    for row in rows:
        cells = (f"{k * row[n]:.3g}" if n in row else "-" for n, (_, k) in COLUMNS.items())
        texts.append([row["way"], str(row["batch"]), *cells, row.get("failed", "")])
    print(Table(title, header, texts).markdown(2))
    options.out.write_text(json.dumps({"title": title, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
