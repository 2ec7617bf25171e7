"""Train a shipped prior: `python training/train.py satellite --data DIR --out DIR`.

The recipe is EDM's (Karras et al., 2022, arXiv:2206.00364): preconditioned denoiser, log-normal
noise levels, exponential moving average. It can be stopped and started again: it continues from
its last checkpoint.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from data.pictures import DATA, Pictures
from posteria.diffusion.parametrisation import EDM

# Takes scaled pictures and `log(sigma) / 4` to the network's output.
Denoise = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """Everything that the weights depend on, but for the data."""

    patch: int
    channels: tuple[int, ...]
    # Of a U-Net of diffusers, and how many pictures it sees in all.
    layers: int = 0
    labels: int = 0
    images: int = 0
    batch: int = 64
    lr: float = 1e-3
    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 160.0
    log_mean: float = -0.6
    log_std: float = 1.5
    label_dropout: float = 0.15
    flip: bool = False
    turn: bool = False
    seed: int = 0


RECIPES = {
    # The cosine was first laid out for 1,500,000 pictures and shortened after 846,000.
    "digits": Recipe(patch=2, channels=(64, 96), layers=2, labels=10, images=1_000_000),
    # Looked at from above: any turn of it is another picture.
    "satellite": Recipe(
        patch=2,
        channels=(96, 160),
        layers=1,
        labels=10,
        images=1_500_000,
        batch=128,
        flip=True,
        turn=True,
    ),
}


def build(recipe: Recipe, picture: Tensor) -> UNet2DModel:
    """A diffusers U-Net on pictures folded `patch x patch` pixels to a channel."""
    channels, size = picture.shape[0] * recipe.patch**2, picture.shape[-1] // recipe.patch
    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=recipe.channels,
        layers_per_block=recipe.layers,
        down_block_types=("DownBlock2D",) * len(recipe.channels),
        up_block_types=("UpBlock2D",) * len(recipe.channels),
        norm_num_groups=16,
        attention_head_dim=32,
        # The last embedding is "no label": the unconditional branch.
        num_class_embeds=recipe.labels + 1 if recipe.labels else None,
    )


def per_row(sigma: Tensor, x: Tensor) -> Tensor:
    """One number a picture or signal, to multiply `x` with."""
    return sigma.reshape(-1, *(1,) * (x.ndim - 1))


def folded(net: UNet2DModel, recipe: Recipe, labels: Tensor) -> Denoise:
    """The U-Net as a function of whole pictures."""
    extra = {"class_labels": labels} if recipe.labels else {}

    def network(x: Tensor, time: Tensor) -> Tensor:
        out = net(torch.nn.functional.pixel_unshuffle(x, recipe.patch), time, **extra).sample
        return torch.nn.functional.pixel_shuffle(out.float(), recipe.patch)

    return network


def denoise(network: Denoise, recipe: Recipe, x: Tensor, sigma: Tensor) -> Tensor:
    """EDM's preconditioned denoiser: E[x_0 | x]."""
    edm = EDM(recipe.sigma_data)
    scale, skip, out = (per_row(torch.as_tensor(each), x) for each in edm.coefficients(sigma))
    return skip * x + out * network(scale * x, torch.as_tensor(edm.time(sigma))).float()


@torch.no_grad()
def denoised(net: nn.Module, recipe: Recipe, x: Tensor, sigma: float) -> Tensor:
    """What a network makes of signals with noise of a level, which is the same in every call; on the CPU, by parts."""
    noisy = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(1234))
    device = next(net.parameters()).device
    parts = (part.to(device) for part in torch.split(noisy, 8))
    levels = torch.full((8,), sigma, device=device)
    return torch.cat([denoise(net, recipe, part, levels[: len(part)]).cpu() for part in parts])


def noise_levels(recipe: Recipe, n: int, device: torch.device) -> Tensor:
    """Log-normal levels; one in ten is log-uniform, so that both ends are seen."""
    log_sigma = recipe.log_mean + recipe.log_std * torch.randn(n, device=device)
    low, high = math.log(recipe.sigma_min), math.log(recipe.sigma_max)
    uniform = low + (high - low) * torch.rand(n, device=device)
    log_sigma = torch.where(torch.rand(n, device=device) < 0.1, uniform, log_sigma)
    return log_sigma.clamp(low, high).exp()


def loss(network: Denoise, recipe: Recipe, x: Tensor, sigma: Tensor, half: bool = True) -> Tensor:
    """EDM's weighted squared error, averaged."""
    noisy = x + per_row(sigma, x) * torch.randn_like(x)
    weight = (sigma**2 + recipe.sigma_data**2) / (sigma * recipe.sigma_data) ** 2
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        error = denoise(network, recipe, noisy, sigma) - x
    return (per_row(weight, x) * error**2).mean()


@torch.no_grad()
def validate(net: UNet2DModel, recipe: Recipe, x: Tensor, labels: Tensor) -> list[float]:
    """Weighted loss at fixed levels and fixed noise, on 256 pictures."""
    # From the whole of a set, which may be sorted by label.
    step = max(len(x) // 256, 1)
    x, labels = x[::step][:256], labels[::step][:256]
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(1234)
        network, losses = folded(net, recipe, labels), []
        for sigma in (0.05, 0.2, 0.5, 1.0, 3.0, 10.0):
            level = torch.full((len(x),), sigma, device=x.device)
            losses.append(loss(network, recipe, x, level).item())
    return losses


def learning_rate(recipe: Recipe, seen: int, done: float) -> float:
    """Warm-up over 10,000 pictures, then a cosine to zero over the share `done`."""
    return recipe.lr * min(1, seen / 10_000) * (1 + math.cos(math.pi * min(1, done))) / 2


class Training:
    """A network in training and the average of its weights; it goes on from `checkpoint.pt` in a folder.

    Attributes:
        seen: Pictures so far.
    """

    def __init__(self, net: nn.Module, ema: nn.Module, recipe: Recipe, out: Path) -> None:
        self.net, self.out, self.batch = net, out, recipe.batch
        self.ema = ema.requires_grad_(False)
        ema.load_state_dict(net.state_dict())
        self.optimizer = torch.optim.AdamW(
            net.parameters(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=0.01
        )
        self.parts: dict[str, Any] = {"net": net, "ema": ema, "optimizer": self.optimizer}
        self.seen, seconds = 0, 0.0
        device = next(net.parameters()).device
        self._loss = torch.zeros((), device=device)
        if (out / "checkpoint.pt").exists():
            saved = torch.load(out / "checkpoint.pt", map_location=device, weights_only=True)
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])
            self.seen, seconds = saved["seen"], saved["seconds"]
        self._start, self._saved = time.time() - seconds, time.time()

    @property
    def seconds(self) -> float:
        """Spent on training, in all pieces."""
        return time.time() - self._start

    def step(self, value: Tensor, lr: float, memory: int) -> None:
        """Go down the gradient of a loss; the average reaches back over `memory` pictures, or a tenth of those seen."""
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = lr
        self.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.seen += self.batch
        share = 1 - 0.5 ** (self.batch / min(memory, 0.1 * self.seen))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.net.parameters()), share)
        # On the device: a GPU is not waited for.
        value = value.detach()
        self._loss = torch.where(self._loss == 0, value, 0.99 * self._loss + 0.01 * value)

    def save(self, measure: Callable[[], dict[str, Any]], *, last: bool) -> None:
        """Every four minutes, and at last: write the checkpoint, measure, and log."""
        if time.time() - self._saved <= 240 and not last:
            return
        self._saved, seconds = time.time(), self.seconds
        state = {name: part.state_dict() for name, part in self.parts.items()}
        temporary = self.out / "checkpoint.tmp"
        torch.save({**state, "seen": self.seen, "seconds": seconds}, temporary)
        os.replace(temporary, self.out / "checkpoint.pt")
        row = {
            "seen": self.seen,
            "seconds": round(seconds),
            "loss": self._loss.item(),
            **measure(),
        }
        with (self.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        print(row, flush=True)


def run(
    recipe: Recipe, pictures: Pictures, out: Path, device: torch.device, minutes: float
) -> None:
    """Train until `recipe.images` pictures were seen, or so many minutes; `out/checkpoint.pt` holds the average."""
    torch.manual_seed(recipe.seed)
    net, ema = (build(recipe, pictures.train[0]).to(device) for _ in range(2))
    training = Training(net, ema, recipe, out)
    if training.seen:
        torch.manual_seed(recipe.seed + training.seen)
    train, labels = pictures.train.to(device), pictures.train_labels.to(device)
    test, test_labels = pictures.test.to(device), pictures.test_labels.to(device)

    def measure() -> dict[str, list[float]]:
        held_out = validate(ema, recipe, test, test_labels)
        return {"held_out": held_out, "train": validate(ema, recipe, train, labels)}

    # Half of the pictures go through each.
    changes: list[Callable[[Tensor], Tensor]] = [lambda x: x.flip(-1)] if recipe.flip else []
    changes += [lambda x: x.mT, lambda x: x.flip(-2)] if recipe.turn else []
    done = training.seen / recipe.images
    while done < 1:
        rows = torch.randint(len(train), (recipe.batch,), device=device)
        x, label = train[rows], labels[rows]
        for change in changes:
            x = torch.where(per_row(torch.rand(len(x), device=device), x) < 0.5, change(x), x)
        if recipe.labels:
            without = torch.rand(len(x), device=device) < recipe.label_dropout
            label = torch.where(without, recipe.labels, label)
        lr, network = learning_rate(recipe, training.seen, done), folded(net, recipe, label)
        value = loss(network, recipe, x, noise_levels(recipe, len(x), device))
        training.step(value, lr, 40_000)
        done = max(training.seen / recipe.images, training.seconds / (60 * minutes))
        training.save(measure, last=done >= 1)
    spent = {"seconds": training.seconds, "steps": training.seen // recipe.batch}
    (out / "recipe.json").write_text(json.dumps({**asdict(recipe), **spent}))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, required=True, help="folder with the .npz files")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and logs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="at most, in all")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    pictures, device = DATA[options.name](options.data), torch.device(options.device)
    run(RECIPES[options.name], pictures, options.out, device, options.minutes)


if __name__ == "__main__":
    main()
