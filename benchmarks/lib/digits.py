"""Quality and diversity of digits."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import posteria as po
from posteria.metrics import diversity
from posteria.metrics.features import Penultimate


def mnist(path: Path, count: int, labels: Sequence[int] | None = None) -> Tensor:
    """So many test pictures of `mnist_28x28.npz` in [-1, 1], from all over the file, or of each label."""
    file = np.load(path)
    x, y = file["x_test"], file["y_test"]
    sets = [x] if labels is None else [x[y == label] for label in labels]
    kept = [own[:: max(1, len(own) // count)][:count] for own in sets]
    return torch.from_numpy(np.concatenate(kept)).float()[:, None] / 127.5 - 1


def absent(path: Path) -> str:
    """Why there are no pictures, empty where there are."""
    said = f"There is no {path}: set the data path 'mnist', or BENCHOPT_DATA_HOME."
    return "" if path.is_file() else said


# Classifiers, loaded once in a process.
load_classifier = lru_cache(maxsize=1)(po.priors.load_classifier)


def scores(x: Tensor, reference: Tensor, labels: Sequence[int], k: int = 3) -> dict[str, float]:
    """Digits, as many of each of `labels` in turn, against held-out pictures, in features of the shipped classifier."""
    classifier = load_classifier("digits")
    features = Penultimate(classifier)
    ours, theirs = features(x), features(reference)
    parts = zip(torch.split(x, len(x) // len(labels)), labels, strict=True)
    agreed = [diversity.classifier_agreement(classifier, part, label) for part, label in parts]
    precision, recall = diversity.precision_recall(ours, theirs, k=k)
    density, coverage = diversity.density_coverage(ours, theirs)
    return {
        "agreement": sum(agreed) / len(agreed),
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        "frechet": diversity.frechet_distance(ours, theirs),
    }
