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
from export import write_examples
from posteria.analytic import PPCAMixture
from posteria.metrics.distribution import sliced_wasserstein
from posteria.modalities.image.pixels import grid, png, to_bytes
from posteria.priors.readers.mixture import read_mixture
from shipping import write_hash, write_page

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


def numbers(law: Mapping[str, Tensor], pictures: Pictures, prior: PPCAMixture) -> dict[str, str]:
    """What the page says of the law."""
    held_out = pictures.test
    draws = prior.sample(len(held_out), torch.Generator().manual_seed(0)).clamp(-1, 1)
    order = torch.randperm(len(pictures.train), generator=torch.Generator().manual_seed(1))
    among = pictures.train[order[: len(held_out)]]
    distances = {
        key: f"{sliced_wasserstein(x, held_out):.4f}"
        for key, x in (("draws", draws), ("training pictures", among))
    }
    d, scores = prior.space.size, {"held out": held_out, "trained on": among, "drawn": draws}
    logs = {
        key: f"{float(torch.cat([prior.log_prob(part) for part in torch.split(x, 1000)]).mean()) / d:.3f}"
        for key, x in scores.items()
    }
    return {
        "split": f"{len(pictures.train)} pictures fitted to, {len(held_out)} held out",
        "law": f"{len(law['noise'])} Gaussians of rank {law['variances'].shape[1]} plus noise",
        f"sliced Wasserstein-1 distance to {len(held_out)} held-out pictures": said(distances),
        "mean log-density a pixel, in nats": said(logs),
    }


def said(values: Mapping[str, str]) -> str:
    """Names with their values."""
    return ", ".join(f"{key} {value}" for key, value in values.items())


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
    sha256 = write_hash(out / "mixture.safetensors", out)
    prior = read_mixture(out, device="cpu", dtype=torch.float32)
    draws = prior.sample(60, torch.Generator().manual_seed(0)).clamp(-1, 1)
    (out / "grid.png").write_bytes(png(grid([to_bytes(x) for x in draws], 12), 2))
    write_page(out, numbers(law, pictures, prior), sha256)


if __name__ == "__main__":
    main()
