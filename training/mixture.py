"""Fit the mixture of probabilistic principal component analysers that ships as `digits-mixture`.

    python training/mixture.py --data DATA --out src/posteria/priors/weights/digits-mixture

The pictures of each class are parted by k-means, and each part is a component of the law: its mean, the leading
axes of its covariance, and one variance for what is left (Tipping and Bishop, 1999). Half a minute on one CPU core.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from data.pictures import Pictures, digits
from export import LICENCES, write_examples, write_hash
from posteria.analytic import PPCAMixture
from posteria.metrics.distribution import sliced_wasserstein
from posteria.modalities.image.pixels import grid, png, to_bytes
from posteria.priors.card import file_sha256
from posteria.priors.readers.mixture import read_mixture

F16 = torch.float16
# No part of the law is narrower than this in any direction; a byte's rounding has a variance of 5e-6.
LEAST = 1e-3


def k_means(x: Tensor, k: int, generator: torch.Generator, iterations: int = 25) -> Tensor:
    """Which of `k` parts each row of `x` belongs to, by Lloyd's algorithm from random rows."""
    centers = x[torch.randperm(len(x), generator=generator)[:k]]
    for _ in range(iterations):
        part = torch.cat([torch.cdist(rows, centers).argmin(1) for rows in torch.split(x, 5000)])
        centers = torch.stack([x[part == i].mean(0) for i in range(k)])
    return part


def component(x: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, leading axes, what they have beyond the rest, and the variance of the rest."""
    mean = x.double().mean(0)
    apart = x.double() - mean
    values, vectors = torch.linalg.eigh(apart.mT @ apart / len(x))
    values, vectors = values.flip(0), vectors.flip(1)
    rest = values[rank:].mean().clamp(min=LEAST)
    return mean, vectors[:, :rank], (values[:rank] - rest).clamp(min=LEAST), rest


def fit(x: Tensor, labels: Tensor, parts: int, rank: int, seed: int = 0) -> dict[str, Tensor]:
    """The tensors of the law of pictures `[n, *event]`, with `parts` components a class."""
    generator, flat, found, classes = torch.Generator().manual_seed(seed), x.flatten(1), [], []
    shares = []
    for label in sorted({*labels.tolist()}):
        rows = flat[labels == label]
        part = k_means(rows, parts, generator)
        for i in range(parts):
            found.append(component(rows[part == i], rank))
            shares.append(int((part == i).sum()) / len(flat))
            classes.append(label)
    means, factors, variances, rest = (torch.stack(column) for column in zip(*found, strict=True))
    return {
        "weights": torch.tensor(shares),
        "means": means.reshape(-1, *x.shape[1:]).to(F16),
        "factors": factors.to(F16).contiguous(),
        "variances": variances.float(),
        "noise": rest.float(),
        "classes": torch.tensor(classes),
    }


def card(law: Mapping[str, Tensor], pictures: Pictures, prior: PPCAMixture, sha256: str) -> str:
    """The card, in Markdown."""
    held_out = pictures.test
    draws = prior.sample(len(held_out), torch.Generator().manual_seed(0)).clamp(-1, 1)
    order = torch.randperm(len(pictures.train), generator=torch.Generator().manual_seed(1))
    among = pictures.train[order[: len(held_out)]]
    distances = {
        "draws": sliced_wasserstein(draws, held_out),
        "training pictures": sliced_wasserstein(among, held_out),
    }
    d, scores = prior.space.size, {"held out": held_out, "trained on": among, "drawn": draws}
    logs = {
        key: float(torch.cat([prior.log_prob(part) for part in torch.split(x, 1000)]).mean()) / d
        for key, x in scores.items()
    }
    return f"""# digits-mixture

Handwritten digits as a law that is known exactly, 28 x 28 grey, values in [-1, 1]. Labels 0 to 9.
Draws look like digits with grain; what it is for are posteriors in closed form.

| | |
|---|---|
| data | {LICENCES["digits"]} |
| split | {len(pictures.train)} pictures fitted to, {len(held_out)} held out |
| law | a mixture of {len(law["noise"])} Gaussians of rank {law["variances"].shape[1]} plus noise, half precision |
| recipe | `training/mixture.py`: k-means in each class, principal axes of each part |
| weights | sha256 {sha256} |

Sliced Wasserstein-1 distance of 10000 pictures to 10000 held-out ones (100 directions, pixels in [-1, 1]):
{", ".join(f"{key} **{value:.4f}**" for key, value in distances.items())}.

Mean log-density a pixel, in nats: {", ".join(f"{key} {value:.3f}" for key, value in logs.items())}.

![draws](grid.png)
"""


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=10, help="components a class")
    parser.add_argument("--rank", type=int, default=24)
    given = parser.parse_args()
    pictures, out = digits(given.data), given.out
    law = fit(pictures.train, pictures.train_labels, given.parts, given.rank)
    write_examples("digits", pictures, out)
    save_file(law, out / "mixture.safetensors")
    sha256 = file_sha256(out / "mixture.safetensors")
    write_hash(out, sha256)
    prior = read_mixture(out, device="cpu", dtype=torch.float32)
    draws = prior.sample(60, torch.Generator().manual_seed(0)).clamp(-1, 1)
    (out / "grid.png").write_bytes(png(grid([to_bytes(x) for x in draws], 12), 2))
    (out / "README.md").write_text(card(law, pictures, prior, sha256))


if __name__ == "__main__":
    main()
