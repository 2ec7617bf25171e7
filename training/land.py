"""What a small classifier says of drawn pictures with classes: whether they are of theirs, and how far all of them are.

The classifier is trained on the training part alone, a few minutes of a CPU core, and does not ship.
"""

import itertools
import math

import torch
from torch import Tensor, nn

from classifier import accuracy
from data import Pictures
from posteria.metrics import frechet_distance

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


def trained(pictures: Pictures, labels: int) -> LandNet:
    """The classifier of the training part, whose pictures are turned and flipped."""
    torch.manual_seed(0)
    net, n = LandNet(labels), len(pictures.train)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=0.05)
    steps = EPOCHS * math.ceil(n / BATCH)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1, (step + 1) / 100) * (1 - step / steps)
        rows = torch.randint(n, (BATCH,))
        x = torch.rot90(pictures.train[rows], int(torch.randint(4, ())), (2, 3))
        x = x.flip(-1) if torch.rand(()) < 0.5 else x
        # What is drawn is not as clean as the data.
        x = x + 0.05 * torch.rand(len(x), 1, 1, 1) * torch.randn_like(x)
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(net(x), pictures.train_labels[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.eval()


@torch.no_grad()
def section(pictures: Pictures, samples: Tensor, labels: Tensor, classes: int) -> str:
    """Of the card: class agreement and feature distance of samples, beside pictures that were held out."""
    net = trained(pictures, classes)

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
    return f"""
Class agreement, by a small classifier (`training/land.py`) of the training part, which is right on **{right:.1%}** of
the held-out pictures: **{agree:.1%}** of the samples are of the class they were asked for
(by class, 0 to {classes - 1}: {" ".join(f"{value:.0%}" for value in each)}).

Squared Fréchet distance of its {held.shape[1]} features to {len(other)} held-out pictures:
{n} samples **{found[0]:.2f}**, as many other held-out pictures **{found[1]:.2f}**,
as many training pictures **{found[2]:.2f}**.
"""
