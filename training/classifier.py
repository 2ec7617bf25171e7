"""Train the shipped classifier: `python training/classifier.py --data DIR --out DIR`.

Writes the weights and a card with its scores; prints the SHA-256 that belongs into
`src/posteria/priors/classifier.py`. The held-out pictures are looked at once, at the end.
"""

import argparse
import itertools
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from data.pictures import Pictures, digits
from posteria.metrics import frechet_distance
from posteria.priors.card import file_sha256
from posteria.priors.classifier import DigitsNet
from posteria.priors.load import load_prior


@dataclass(frozen=True)
class Recipe:
    """Everything that the weights depend on, but for the data."""

    images: int = 600_000
    batch: int = 128
    lr: float = 2e-3
    weight_decay: float = 0.02
    warm_up: int = 20_000
    shift: int = 2
    # Pictures that a sampler draws, and estimates of them on the way, are not as clean as the data.
    noise: float = 0.3
    average: int = 20_000
    seed: int = 0


def shifted(x: Tensor, most: int) -> Tensor:
    """Every picture `[n, 1, height, width]` moved by up to `most` pixels along both axes, onto black."""
    n, _, height, width = x.shape
    padded = nn.functional.pad(x, (most,) * 4, value=-1.0)
    top, left = torch.randint(2 * most + 1, (2, n, 1))
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    picked = padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None, :]]
    return picked[:, None]


def noisy(x: Tensor, most: float) -> Tensor:
    """Pictures with noise of a level up to `most` each."""
    return x + most * torch.rand(len(x), 1, 1, 1) * torch.randn_like(x)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, lr: float) -> None:
    """A step down the gradient."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def learning_rate(recipe: Recipe, seen: int) -> float:
    """A linear warm-up, then a cosine to zero."""
    falling = (1 + math.cos(math.pi * min(1, seen / recipe.images))) / 2
    return recipe.lr * min(1, (seen + recipe.batch) / recipe.warm_up) * falling


def train(recipe: Recipe, pictures: Pictures) -> tuple[DigitsNet, int]:
    """The network with averaged weights, and the number of steps."""
    torch.manual_seed(recipe.seed)
    net, averaged = DigitsNet(), DigitsNet().requires_grad_(False)
    averaged.load_state_dict(net.state_dict())
    # On a CPU convolutions run about half as fast again with channels last.
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, betas=(0.9, 0.99)
    )
    steps = math.ceil(recipe.images / recipe.batch)
    for step in range(steps):
        rows = torch.randint(len(pictures.train), (recipe.batch,))
        x = noisy(shifted(pictures.train[rows], recipe.shift), recipe.noise)
        loss = nn.functional.cross_entropy(net(x), pictures.train_labels[rows])
        descend(optimizer, loss, learning_rate(recipe, step * recipe.batch))
        decay = 0.5 ** (recipe.batch / min(recipe.average, 0.1 * (step + 1) * recipe.batch))
        torch._foreach_lerp_(list(averaged.parameters()), list(net.parameters()), 1 - decay)
        if step % 500 == 0:
            print(step, f"{loss.item():.4f}", flush=True)
    return averaged.eval(), steps


@torch.no_grad()
def logits_of(net: nn.Module, x: Tensor) -> Tensor:
    """Logits of many pictures."""
    return torch.cat([net(part) for part in torch.split(x, 1000)])


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """The expected calibration error (Guo et al., 2017, arXiv:1706.04599), with bins of equal width."""
    confidence, guess = logits.double().softmax(-1).max(-1)
    gap = (guess == labels).double() - confidence
    place = (confidence * bins).long().clamp(max=bins - 1)
    return float(torch.bincount(place, gap).abs().sum() / len(gap))


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """How well the network does on pictures that it was not trained on."""
    return {
        "accuracy": accuracy(logits, labels),
        "log_loss": float(nn.functional.cross_entropy(logits.double(), labels)),
        "calibration_error": calibration_error(logits, labels),
    }


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of the pictures whose likeliest class is the label."""
    return float((logits.argmax(-1) == labels).double().mean())


@torch.no_grad()
def accuracy_on_estimates(net: nn.Module, x: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy on the digits prior's estimates of noisy pictures, which guidance asks about."""
    prior, found = load_prior("digits"), {}
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for sigma in (0.2, 0.5, 1.0, 2.0, 4.0):
        parts = torch.split(x + sigma * noise, 100)
        estimates = torch.cat([prior(part, sigma) for part in parts])
        found[f"{sigma:g}"] = accuracy(logits_of(net, estimates), labels)
    return found


# What a small classifier says of drawn pictures with classes: whether they are of theirs, and how far all are. It is
# trained on the training part alone, a few minutes of a CPU core, and does not ship.
EPOCHS, BATCH, LR = 6, 128, 2e-3


class LandNet(nn.Module):
    """Five convolutions that halve the sides, for pictures `[n, 3, 64, 64]`."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 128, 128)
        layers: list[nn.Module] = []
        for inner, outer in itertools.pairwise(widths):
            layers += [nn.Conv2d(inner, outer, 3, 2, 1), nn.BatchNorm2d(outer), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], labels)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        out: Tensor = self.head(self.body(x))
        return out


def land_classifier(pictures: Pictures, labels: int) -> LandNet:
    """The classifier of the training part, whose pictures are turned and flipped."""
    torch.manual_seed(0)
    net, n = LandNet(labels), len(pictures.train)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=0.05)
    steps = EPOCHS * math.ceil(n / BATCH)
    for step in range(steps):
        rows = torch.randint(n, (BATCH,))
        x = torch.rot90(pictures.train[rows], int(torch.randint(4, ())), (2, 3))
        x = x.flip(-1) if torch.rand(()) < 0.5 else x
        # What is drawn is not as clean as the data.
        x = noisy(x, 0.05)
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(net(x), pictures.train_labels[rows])
        descend(optimizer, loss, LR * min(1, (step + 1) / 100) * (1 - step / steps))
    return net.eval()


@torch.no_grad()
def section(pictures: Pictures, samples: Tensor, labels: Tensor, classes: int) -> str:
    """Of the page: class agreement and feature distance of samples, beside pictures that were held out."""
    net = land_classifier(pictures, classes)

    def features(x: Tensor) -> Tensor:
        return torch.cat([net.body(part) for part in torch.split(x, 500)])

    n = len(samples)
    order = torch.randperm(len(pictures.test), generator=torch.Generator().manual_seed(2))
    # Two parts of the held-out pictures, of which one stands for samples of a perfect prior.
    one, other = order[:n], order[n:]
    ours, held = features(samples), features(pictures.test)
    train = features(pictures.train[torch.randperm(len(pictures.train))[:n]])
    agree = accuracy(net.head(ours), labels)
    right = accuracy(net.head(held), pictures.test_labels)
    each = [accuracy(net.head(ours[labels == k]), labels[labels == k]) for k in range(classes)]
    found = [frechet_distance(x, held[other]) for x in (ours, held[one], train)]
    return f"""\
Class agreement, by a small classifier (`training/classifier.py`) of the training part, which is right on
**{right:.1%}** of the held-out pictures: **{agree:.1%}** of the samples are of the class they were asked for
(by class, 0 to {classes - 1}: {" ".join(f"{value:.0%}" for value in each)}).

Squared Fréchet distance of its {held.shape[1]} features to {len(other)} held-out pictures:
{n} samples **{found[0]:.2f}**, as many other held-out pictures **{found[1]:.2f}**,
as many training pictures **{found[2]:.2f}**."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist_28x28.npz")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe, pictures, out = Recipe(), digits(options.data), options.out
    wall, used = time.time(), time.process_time()
    net, steps = train(recipe, pictures)
    wall, used = time.time() - wall, time.process_time() - used
    out.mkdir(parents=True, exist_ok=True)
    path = out / "classifier.safetensors"
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path)
    # safetensors makes the file readable by its owner only.
    path.chmod(0o644)
    test, labels = pictures.test, pictures.test_labels
    noisy = test + 0.3 * torch.randn(test.shape, generator=torch.Generator().manual_seed(0))
    card = {
        "name": "digits",
        "about": "Handwritten digits, [1, 28, 28] in [-1, 1], to logits of 0 to 9; clean pictures only.",
        "data": "MNIST, (c) Yann LeCun and Corinna Cortes, usually stated as CC BY-SA 3.0",
        "split": f"{len(pictures.train)} pictures trained on, {len(test)} held out",
        "network": "posteria.priors.classifier.DigitsNet",
        "parameters": sum(p.numel() for p in net.parameters()),
        "recipe": asdict(recipe),
        "training": f"{steps} steps, {used:.0f} s on one CPU core ({wall:.0f} s by the clock)",
        "held_out": scores(logits_of(net, test), labels),
        "held_out_with_noise_0.3": {"accuracy": accuracy(logits_of(net, noisy), labels)},
        # Every tenth, because the file is sorted by label.
        "estimates_of_1000_noisy_pictures": accuracy_on_estimates(net, test[::10], labels[::10]),
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
    }
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
